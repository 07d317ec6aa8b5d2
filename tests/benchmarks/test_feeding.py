"""Tests of tests.benchmarks.feeding."""

from __future__ import annotations

import time
from pathlib import Path

from raydistill.config import load_config
from raydistill.data.build import build_datasets
from tests.benchmarks.feeding import as_text, cores_for, images_per_cpu_second, made_up_photographs


def test_photographs_are_data_that_can_be_trained_on_and_weigh_what_photographs_do(tmp_path: Path) -> None:
    settings = made_up_photographs(tmp_path / "here", 640, 480, number=2)
    config = load_config("coco_r101_r50", settings)
    train, _ = build_datasets(config.data, config.downloads)
    image, target = train.load(1)
    assert (len(train), image.shape, len(target["labels"])) == (2, (3, 480, 640), 7)
    sizes = [file.stat().st_size for file in (tmp_path / "here" / "images").iterdir()]
    assert all(100_000 < size < 250_000 for size in sizes)


def test_what_a_core_loads_is_counted_after_the_first_batch() -> None:
    def batches():
        for _ in range(4):
            started = time.process_time()
            while time.process_time() - started < 0.01:
                pass
            yield [None, None], []

    assert 50 < images_per_cpu_second(batches()) < 201  # 6 images in 30 ms


def test_cores_are_rounded_up() -> None:
    assert (cores_for(20, 100), cores_for(20, 160), cores_for(20, 161, gpus=1)) == (2, 1, 1)
    assert "feed 8 GPUs: 2 at 20 images" in as_text(100.0, [20])
