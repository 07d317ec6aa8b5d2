"""How fast a stage's net detects: the latency of one image, measured once for stages or trials of one net."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import torch

from raydistill.config.detector import described
from raydistill.detectors.base import Detector
from raydistill.inference.latency import time_in_turn
from raydistill.runs.comparison import STAGES
from raydistill.runs.directory import RunDirectory
from raydistill.runs.records import is_number, result_if_sound
from raydistill.runs.worker import Worker
from raydistill.training.job import Job

_SECONDS, _LEAST, _MOST = 1.0, 3, 30  # a big net on a small machine takes seconds an image


def speed_of(job: Job, detector: Detector, worker: Worker) -> dict[str, Any]:
    """Return ``images_per_second`` of the net alone, and under ``speed`` how it was measured; the main worker calls it.

    The first validation image is detected on, one at a time: warmed up, repeated, the median. A net of another stage of
    the run, or of another trial of a sweep in this process, that was built and measured alike has the same speed: what
    it found in its images only made it differ.
    """
    conditions = _conditions(job, worker)
    named = json.dumps(conditions, sort_keys=True)
    known = job.speeds.get(named) or _measured_before(job.run, conditions)
    if known is not None:
        return {"images_per_second": known, "speed": conditions}
    image = job.val.load(0)[0].to(worker.device)
    was_training = detector.training
    detector.eval()

    def detect() -> None:
        detector.detect([image])
        if worker.device.type == "cuda":
            torch.cuda.synchronize(worker.device)

    with torch.no_grad():
        (timing,) = time_in_turn([detect], seconds=_SECONDS, least=_LEAST, most=_MOST)
    detector.train(was_training)
    job.speeds[named] = 1 / timing.seconds
    return {"images_per_second": job.speeds[named], "speed": conditions}


def _conditions(job: Job, worker: Worker) -> dict[str, Any]:
    """Return what decides the speed, but for the machine."""
    net = {name: value for name, value in described(job.settings).items() if name != "weights"}
    whole = [net, job.config.input.model_dump(mode="json"), len(job.train.classes)]
    device = worker.device.type
    return {
        "net": hashlib.blake2b(json.dumps(whole, sort_keys=True).encode(), digest_size=8).hexdigest(),
        "batch_size": 1,
        "device": device,
        "threads": torch.get_num_threads() if device == "cpu" else 0,
    }


def _measured_before(run: RunDirectory, conditions: dict[str, Any]) -> float | None:
    for stage in STAGES:
        other = RunDirectory(run.path.parent / stage, run.output)
        result = (result_if_sound(other.result) or {}) if other.path != run.path else {}
        if result.get("speed") == conditions and is_number(result.get("images_per_second")):
            return float(result["images_per_second"])
    return None
