"""A distilled run whose teacher is computed by another engine than torch."""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from raydistill.config import Config
from raydistill.data.build import build_splits
from raydistill.data.loading.loaders import plan_epoch
from raydistill.detectors.base import Detector
from raydistill.detectors.two_stage.build import build_faster_rcnn
from raydistill.errors import UserError
from raydistill.runs.directory import RunDirectory
from raydistill.runs.reporter import FileReporter, Reporter
from raydistill.runs.worker import Worker
from raydistill.structures import Target
from raydistill.training.fast_teacher import batch_sizes, doubt_of_compiling, doubt_of_engine, make_teacher_fast
from raydistill.training.job import Job
from raydistill.training.stages import run_stages
from tests.nets import CLASSES, small_config
from tests.outputs import output_of, refuse_other_settings
from tests.small import InterruptedReporter, Listener, ProcessEndedError, same_weights, small_run, weights_of

ENGINE = "distillation.teacher_engine=onnxruntime"
QUICK = (
    *("distillation.preflight=warn", "distillation.baseline=false", "data.num_train=4", "data.num_val=2"),
    *("data.size=96", "input.min_size=96", "input.max_size=96", "logging.tensorboard=false"),
)


def _config(output: Path, *overrides: str) -> Config:
    return small_run(output, *QUICK, *overrides)


def _run(config: Config, interrupt_after: int | None = None) -> Listener:
    listener, worker = Listener(), Worker()

    def reporter_for(run: RunDirectory) -> Reporter:
        files = FileReporter(run, worker, listener)
        interrupted = interrupt_after is not None and run.path.name == "distilled"
        return InterruptedReporter(files, interrupt_after or 0) if interrupted else files

    run_stages(config, output_of(config), worker, reporter_for)
    return listener


def _lines(output: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (output / "distilled" / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("finished")
    heard = _run(_config(output, ENGINE))
    assert "distilled: the teacher answers in fp32, its maps computed by onnxruntime" in heard.text.splitlines()
    assert "was not asked" not in heard.text
    return output


def test_it_learns_what_a_student_of_torchs_teacher_learns(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished / "teacher", tmp_path / "teacher")
    _run(_config(tmp_path, "distillation.teacher_precision=fp32"))
    ours, torchs = _lines(finished)[0], _lines(tmp_path)[0]
    terms = [name for name in ours if name.startswith("train/distillation/")]
    assert len(terms) == 4
    for name in terms:
        assert ours[name] == pytest.approx(torchs[name], rel=0.01, abs=1e-6)
    assert any(ours[name] != torchs[name] for name in terms)  # rounded otherwise: it was not torch


def test_it_goes_on_to_the_bit(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished / "teacher", tmp_path / "teacher")
    with pytest.raises(ProcessEndedError):
        _run(_config(tmp_path, ENGINE), interrupt_after=1)
    _run(_config(tmp_path, ENGINE))
    assert same_weights(*(weights_of(RunDirectory(run / "distilled").last) for run in (finished, tmp_path)))


def test_it_goes_on_with_no_other_engine(finished: Path) -> None:
    with pytest.raises(UserError, match=r"distillation\.teacher_engine=onnxruntime then, torch now"):
        refuse_other_settings(_config(finished, "distillation.teacher_precision=fp32"))


def test_a_run_from_before_there_were_engines_was_torchs(finished: Path, tmp_path: Path) -> None:
    shutil.copytree(finished, tmp_path / "run")
    file = RunDirectory(tmp_path / "run" / "distilled").config
    settings = yaml.safe_load(file.read_text())
    del settings["distillation"]["teacher_engine"]
    file.write_text(yaml.safe_dump(settings))
    refuse_other_settings(_config(tmp_path / "run"))
    with pytest.raises(UserError, match=r"distillation\.teacher_engine=torch then, onnxruntime now"):
        refuse_other_settings(_config(tmp_path / "run", ENGINE))


def test_a_missing_package_is_found_out_before_anything_is_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UserError, match=r"onnxruntime must be installed .*raydistill\[export\]"):
        _run(_config(tmp_path, ENGINE))
    assert not list(tmp_path.rglob("*.pt"))


def test_a_teacher_that_cannot_be_exported_is_found_out_before_anything_is_trained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("no such operator")

    monkeypatch.setattr(torch.onnx, "export", fail)
    with pytest.raises(UserError, match=r"teacher_engine: .*got RuntimeError: no such operator; use torch"):
        _run(_config(tmp_path, ENGINE))
    assert not list(tmp_path.rglob("*.pt"))


def test_an_engine_that_a_detector_goes_round_is_said() -> None:
    config = small_config(ENGINE)
    teacher: Detector = build_faster_rcnn(config.teacher, config.input, CLASSES)
    assert doubt_of_engine(teacher, small_config()) == ""
    make_teacher_fast(teacher, config, "fp32", Worker())
    assert "onnxruntime was not asked for the first batches" in doubt_of_engine(teacher, config)
    teacher.feature_extractor()(torch.zeros(1, 3, 96, 96))
    assert doubt_of_engine(teacher, config) == ""


def _job(tmp_path: Path, *overrides: str, sizes: list[tuple[int, int]]) -> Job:
    config = _config(
        tmp_path, "data.num_train=2", "training.batch_size=2", "distillation.compile_teacher=true", *overrides
    )
    records = SimpleNamespace(sizes=np.array(sizes))
    train: Any = SimpleNamespace(records=records)
    return Job("distilled", config, config.student, 1, RunDirectory(tmp_path), train, train)


def test_sizes_of_batches_are_those_that_torchvision_pads_to(tmp_path: Path) -> None:
    splits = build_splits(_config(tmp_path).data)
    sizes = [(70, 96), (96, 50), (200, 100), (97, 96)]  # width, height
    job = _job(tmp_path, "loader.group_by_aspect_ratio=false", "input.max_size=160", sizes=sizes)
    detector = build_faster_rcnn(job.settings, job.config.input, splits.train.classes)
    prepared = set()
    for step in plan_epoch(np.ones(4, dtype=np.bool_), 2, job.config.seed, 0).tolist():
        images = [torch.zeros(3, sizes[index][1], sizes[index][0]) for index in step]
        empty = [Target(boxes=torch.zeros(0, 4), labels=torch.zeros(0, dtype=torch.int64)) for _ in images]
        prepared.add(tuple(detector.prepare(images, empty).images.shape[2:]))
    assert batch_sizes(job.train, job.config, Worker()) == prepared
    assert doubt_of_compiling(job, Worker()) == ""


def test_more_sizes_than_torch_compiles_are_said(tmp_path: Path) -> None:
    sizes = [(width, 96) for width in range(96, 96 + 32 * 20, 16)]
    said = doubt_of_compiling(_job(tmp_path, "input.max_size=960", sizes=sizes), Worker())
    assert re.fullmatch(
        r"distillation.compile_teacher: .* got \d+ in the first epoch \(96 x .*compiles the first 8 .*", said
    )
