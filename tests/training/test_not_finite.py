"""What is said of a loss that is not finite: the annotation, else the image, else the training's settings."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from raydistill.data.dataset import AnnotatedImage, AnnotatedObject, DetectionDataset, Records
from raydistill.errors import UserError
from raydistill.runs.worker import Worker
from raydistill.structures import Target
from raydistill.training import loop
from raydistill.training.not_finite import remedy_for
from tests.small import Stage, small_run

WIDE, THIN = (2.0, 3.0, 10.0, 12.0), (5.0, 6.0, 1e-9, 8.0)


def _dataset(*boxes: tuple[tuple[float, float, float, float], ...]) -> DetectionDataset:
    """Images 1, 2, ... with these boxes (x, y, width, height) of the classes in turn."""
    images = [
        AnnotatedImage(n, f"{n}.png", 40, 30, [AnnotatedObject(k % 2 + 1, b, 9.0, False) for k, b in enumerate(own)])
        for n, own in enumerate(boxes, start=1)
    ]
    return DetectionDataset(("cat", "dog"), (1, 2), Records.build(images), lambda _: torch.zeros(3, 30, 40))


def _remedy(dataset: DetectionDataset, is_bad: Any = lambda image, boxes: False, weights: float = 1.0) -> str:
    """Ask with a net whose loss is NaN where ``is_bad`` says so of any of the images."""

    def distiller(images: list[Tensor], targets: list[Target], decay: float) -> Any:
        bad = any(is_bad(image, target["boxes"].tolist()) for image, target in zip(images, targets, strict=True))
        return SimpleNamespace(total=torch.tensor(torch.nan if bad else 1.0))

    distiller.parameters = lambda: [torch.tensor(weights)]  # type: ignore[attr-defined]
    student = SimpleNamespace(prepare=lambda images, targets: SimpleNamespace(targets=targets))
    distiller.student = student  # type: ignore[attr-defined]
    records = dataset.records
    images = [torch.full((3, 30, 40), float(record.image_id)) for record in records]
    targets = [Target(boxes=r.boxes, labels=r.labels, image_id=r.image_id) for r in records]
    batch: Any = (images, targets)
    return remedy_for(distiller, batch, dataset, Worker(), "fp32", 1.0)  # type: ignore[arg-type]


def test_a_box_without_extent_is_named_with_its_class_its_numbers_and_its_image() -> None:
    remedy = _remedy(_dataset((WIDE,), (WIDE, THIN)))
    assert remedy == (
        "it comes from the annotation of 'dog' at [5, 6, 0, 8] (x, y, width, height) of 2.png; correct or remove it"
    )


def test_a_box_without_extent_is_named_where_the_weights_are_lost_already() -> None:
    assert "'cat' at [5, 6, 0, 8]" in _remedy(_dataset((THIN,)), weights=torch.nan)


def test_the_annotation_whose_loss_is_not_finite_alone_is_named() -> None:
    odd = (7.0, 7.0, 7.0, 7.0)
    remedy = _remedy(_dataset((WIDE, odd), (WIDE,), (odd,)), lambda image, boxes: [7.0, 7.0, 14.0, 14.0] in boxes)
    assert remedy.startswith("it comes from the annotation of 'dog' at [7, 7, 7, 7] (x, y, width, height) of 1.png, ")
    assert remedy.endswith("'cat' at [7, 7, 7, 7] (x, y, width, height) of 3.png; correct or remove these")


def test_an_image_whose_loss_is_not_finite_alone_is_named() -> None:
    remedy = _remedy(_dataset((WIDE,), (WIDE,)), lambda image, boxes: image[0, 0, 0] == 2)
    assert remedy == "it comes from the image 2.png; correct or remove it"


@pytest.mark.parametrize("weights", [1.0, torch.nan])
def test_where_every_image_gives_none_the_training_is_to_blame(weights: float) -> None:
    remedy = _remedy(_dataset((WIDE,), (WIDE,)), lambda image, boxes: True, weights)
    assert remedy.startswith("lower training.optimizer.learning_rate")
    assert remedy.endswith("look at these images: 1.png, 2.png")


def test_a_box_that_collapses_in_training_ends_the_run_with_its_annotation(tmp_path: Path) -> None:
    stage = Stage(small_run(tmp_path, "augmentation.horizontal_flip=0", "data.num_train=4"))
    records = stage.job.train.records
    boxes = records.boxes.copy()
    boxes[0, 2] = 1e-9  # as no reader lets through
    train = replace(stage.job.train, records=replace(records, boxes=boxes))
    stage.job = replace(stage.job, train=train)
    with pytest.raises(UserError, match=r"the loss must be finite, got .*; it comes from the annotation of") as caught:
        loop.fit(stage.job, stage.distiller(), stage.loader(), stage.worker, stage.reporter)
    name = stage.job.train.classes[records.labels[0] - 1]
    assert f"'{name}' at [{boxes[0, 0]:.6g}, {boxes[0, 1]:.6g}, 0, " in str(caught.value)
    assert str(caught.value).endswith("of train_000000.png; correct or remove it")
