"""A teacher asked image by image: the same answers from the cache, and about the same as of whole batches."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from raydistill.config import Config
from raydistill.detectors.kept.by_image import Answering, padded_sizes
from raydistill.detectors.kept.tensors import InMemory, KeptTensors, OnDisk
from raydistill.storage.kept_files import KeptFiles
from raydistill.structures import Batch, Target
from raydistill.training.distiller import Distiller
from tests.nets import gradients, mixed_batch, pair, small_config

FEATURE_ONLY = tuple(f"methods.tar.{term}.weight=0" for term in ("classification", "regression", "rpn"))
BY_IMAGE = "teacher.exact=true"


def named_batch() -> tuple[list[Tensor], list[Target]]:
    """Return images of different sizes that can be known again."""
    images, targets = mixed_batch()
    return images, [{**target, "digest": f"image {number}"} for number, target in enumerate(targets)]


def distiller_of(config: Config, kept: KeptTensors | None = None) -> Distiller:
    student, teacher = pair(config)
    torch.manual_seed(4)  # the adapters
    distiller = Distiller(student, teacher, config)
    answering_of(distiller).kept = kept
    return distiller


def answering_of(distiller: Distiller) -> Answering:
    assert distiller.teacher is not None
    assert distiller.teacher.answering is not None
    return distiller.teacher.answering


def losses_of(distiller: Distiller) -> tuple[dict[str, float], dict[str, Tensor | None]]:
    distiller.zero_grad()
    torch.manual_seed(3)
    losses = distiller(*named_batch(), 1.0)
    losses.total.backward()
    return {name: value.item() for name, value in losses.terms.items()}, gradients(distiller)


def same(one: dict[str, Tensor | None], other: dict[str, Tensor | None]) -> bool:
    return all(
        (value is None and other[name] is None) or torch.equal(value, other[name])  # type: ignore[arg-type]
        for name, value in one.items()
    )


@pytest.mark.parametrize(
    ("place", "settings", "half"),
    [
        ("memory", ("methods.tar.regions.source=both",), False),
        ("disk", ("methods.tar.regions.source=both",), True),
        ("disk", ("methods.tar.regions.source=student",), False),
        ("memory", FEATURE_ONLY, True),
        ("disk", FEATURE_ONLY, False),
    ],
)
def test_that_kept_answers_are_those_that_would_be_computed_to_the_bit(place, settings, half, tmp_path: Path):
    config = small_config(BY_IMAGE, *settings, f"teacher.cache_half={str(half).lower()}")
    kept: KeptTensors = InMemory(10**9)
    if place == "disk":
        kept = OnDisk(KeptFiles(tmp_path, "source", {}, 10**9))
    expected, expected_gradients = losses_of(distiller_of(config))
    distiller = distiller_of(config, kept)
    for _ in range(2):
        found, found_gradients = losses_of(distiller)
        assert found == expected
        assert same(found_gradients, expected_gradients)
    assert (answering_of(distiller).computed, answering_of(distiller).known) == (3, 3)


def test_that_a_teacher_whose_answers_are_kept_is_not_asked(monkeypatch):
    distiller = distiller_of(small_config(BY_IMAGE), InMemory(10**9))
    losses_of(distiller)
    teacher = distiller.teacher.detector
    monkeypatch.setattr(teacher, "extract_features", None)
    monkeypatch.setattr(teacher, "propose_regions", None)
    losses_of(distiller)


def test_that_an_image_nobody_can_name_is_asked_about_each_time():
    distiller = distiller_of(small_config(BY_IMAGE), InMemory(10**9))
    for _ in range(2):
        distiller(*mixed_batch(), 1.0)
    assert answering_of(distiller).known == 0
    assert answering_of(distiller).computed == 6


def test_that_what_is_said_of_an_image_does_not_depend_on_those_beside_it():
    distiller = distiller_of(small_config(BY_IMAGE))
    images, targets = named_batch()
    alone = distiller.teacher.look(distiller.student.prepare(images[1:2], targets[1:2])).features
    beside = distiller.teacher.look(distiller.student.prepare(images, targets)).features
    assert any(values.shape[2:] != beside[level].shape[2:] for level, values in alone.items())
    for level, values in alone.items():
        height, width = values.shape[2:]
        assert torch.equal(beside[level][1:2, :, :height, :width], values)
        assert torch.equal(beside[level][1, :, height + 1 :], torch.zeros_like(beside[level][1, :, height + 1 :]))
        if height < beside[level].shape[2]:  # regions at the edge see the edge
            assert torch.equal(beside[level][1, :, height, :width], values[0, :, -1])


def test_that_answers_about_images_are_close_to_those_about_their_batch():
    images, targets = named_batch()
    one_size = [images[0], images[0].flip(-1)], [targets[0], {**targets[0], "digest": "flipped"}]
    by_image = distiller_of(small_config(BY_IMAGE))
    whole = Distiller(*pair(small_config()), small_config())
    batch = by_image.student.prepare(*one_size)
    found, expected = by_image.teacher.look(batch), whole.teacher.look(batch)
    for level, values in expected.features.items():
        torch.testing.assert_close(found.features[level], values, rtol=1e-4, atol=1e-5)
    for boxes, others in zip(found.proposals.boxes, expected.proposals.boxes, strict=True):
        torch.testing.assert_close(boxes, others, rtol=1e-3, atol=1e-2)


def test_that_halves_take_half_and_are_close():
    sizes = []
    for half in ("false", "true"):
        kept = InMemory(10**9)
        losses, _ = losses_of(distiller_of(small_config(BY_IMAGE, *FEATURE_ONLY, f"teacher.cache_half={half}"), kept))
        sizes.append((kept.bytes_kept, losses["distillation/tar/feature"]))
    assert sizes[1][0] < 0.6 * sizes[0][0]
    assert sizes[1][1] != sizes[0][1]
    assert sizes[1][1] == pytest.approx(sizes[0][1], rel=1e-3)


def test_that_only_cells_on_objects_are_kept_where_nobody_reads_others():
    sizes = {}
    for mask in ("gaussian", "box", "full"):
        distiller = distiller_of(
            small_config(BY_IMAGE, *FEATURE_ONLY, f"methods.tar.feature.mask={mask}"), InMemory(10**9)
        )
        whole = distiller_of(small_config(BY_IMAGE, *FEATURE_ONLY, f"methods.tar.feature.mask={mask}"))
        answering_of(whole).objects_only = False
        assert losses_of(distiller)[0] == losses_of(whole)[0]
        sizes[mask] = answering_of(distiller).kept.bytes_kept
    assert sizes["box"] == sizes["gaussian"] < 0.7 * sizes["full"]


def test_that_other_objects_on_the_same_image_are_other_answers_where_only_objects_are_kept():
    distiller = distiller_of(small_config(BY_IMAGE, *FEATURE_ONLY), InMemory(10**9))
    images, targets = named_batch()
    distiller(images, targets, 1.0)
    moved = [{**target, "boxes": target["boxes"] + 3} for target in targets]
    distiller(images, moved, 1.0)
    assert answering_of(distiller).known == 1  # the one without objects


def test_that_batches_padded_otherwise_are_asked_about_as_they_are():
    batch = Batch(torch.zeros(2, 3, 128, 128), [(96, 96), (64, 96)], [])
    assert padded_sizes(batch) == [(128, 128)] * 2
    assert padded_sizes(Batch(torch.zeros(2, 3, 96, 100), [(96, 100), (60, 70)], [])) == [(96, 100), (64, 96)]
