"""Tests of raydistill.data.loading.packed."""

from __future__ import annotations

import pickle

import pytest
import torch
from torch import Tensor

from raydistill.data.loading.packed import pack
from raydistill.structures import Target


def item(height: int, width: int, count: int, seed: int = 0) -> tuple[Tensor, Target]:
    generator = torch.Generator().manual_seed(seed)
    image = torch.randint(0, 256, (3, height, width), generator=generator, dtype=torch.uint8)
    boxes = torch.rand(count, 4, generator=generator) * 100
    labels = torch.randint(1, 90, (count,), generator=generator)
    return image, Target(boxes=boxes, labels=labels, image_id=2**40 + seed)


ITEMS = [item(5, 7, 3, 1), item(3, 3, 0, 2), item(8, 2, 1, 3)]


def test_what_was_packed_is_unpacked_to_the_bit() -> None:
    images, targets = pack(ITEMS).unpack()
    for image, target, (own_image, own_target) in zip(images, targets, ITEMS, strict=True):
        assert torch.equal(image, own_image)
        assert image.is_contiguous()
        assert target["image_id"] == own_target["image_id"]
        for key in ("boxes", "labels"):
            assert torch.equal(target[key], own_target[key])
            assert target[key].dtype == own_target[key].dtype


def test_a_batch_without_objects_keeps_the_columns_of_its_boxes() -> None:
    _, targets = pack([item(4, 4, 0), item(4, 5, 0)]).unpack()
    assert [target["boxes"].shape for target in targets] == [(0, 4)] * 2


def test_a_batch_has_one_storage() -> None:
    packed = pack(ITEMS)
    images, targets = packed.unpack()
    tensors = [*images, *(target[key] for target in targets for key in ("boxes", "labels"))]
    assert {tensor.untyped_storage().data_ptr() for tensor in tensors} == {packed.buffer.untyped_storage().data_ptr()}


def test_a_mirrored_view_is_packed_as_it_looks() -> None:
    image, target = item(4, 6, 1)
    assert torch.equal(pack([(image.permute(0, 2, 1), target)]).unpack()[0][0], image.permute(0, 2, 1))


def test_pinning_pins_the_buffer_once(monkeypatch: pytest.MonkeyPatch) -> None:
    pinned: list[Tensor] = []

    def pin(tensor: Tensor) -> Tensor:
        pinned.append(tensor)
        return tensor.clone()

    monkeypatch.setattr(Tensor, "pin_memory", pin)
    packed = pack(ITEMS)
    copy = packed.pin_memory()
    assert len(pinned) == 1
    assert pinned[0] is packed.buffer
    assert torch.equal(copy.unpack()[0][2], ITEMS[2][0])


def test_a_packed_batch_can_be_sent_to_another_process() -> None:
    packed = pack(ITEMS)
    assert torch.equal(pickle.loads(pickle.dumps(packed)).unpack()[1][0]["boxes"], ITEMS[0][1]["boxes"])
