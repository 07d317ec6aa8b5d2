"""Directories of runs and sweeps that nobody trained, with numbers simple enough to compute by hand.

The sweep of ``sweep``: metric AP, seeds 0 and 1, teacher 0.50.

| trial | seed 0 | seed 1 | what became of it |
|---|---|---|---|
| baseline | 0.30 | 0.32 | finished |
| constant | 0.34 | 0.36 | finished |
| point 0: weight 2, linear | 0.38 | 0.42 | finished |
| point 1: weight 4, polynomial of power 3 | 0.20 | 0.24 | stopped after 2 of 4 epochs |
| point 2: weight 8, linear | - | 0.26 | failed before its first epoch; unfinished after 2 epochs |
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from raydistill.config import dump, load_config
from raydistill.runs.scores import RULES
from raydistill.sweeps.directory import Role, Status, SweepDirectory, TrialDirectory, TrialRecord

SPACE = {
    "methods.tar.feature.weight": {"choice": [2.0, 4.0, 8.0]},
    "decay.shape": {"choice": ["linear", "polynomial"]},
    "decay.power": {"uniform": [1.0, 4.0], "when": {"decay.shape": "polynomial"}},
}
NASTY = "$\\frac$ <script>alert('x')</script> &"
"""A text that is taken for markup, or for a formula, wherever it is not escaped."""


def run(output: Path, scores: dict[str, float], *overrides: str) -> Path:
    """Write a plain run: a finished stage for each of ``scores``."""
    for stage, score in scores.items():
        config = yaml.safe_load(recipe(output, *overrides))
        stage_directory(output / stage, stage, epochs_to(score))
        dropped = () if stage == "distilled" else ("feature", "classification", "regression", "rpn", "decay")
        kept = {name: value for name, value in config.items() if name not in dropped and name != "output"}
        (output / stage / "config.yaml").write_text(yaml.safe_dump(kept))
    return output


def sweep(output: Path, reason: str = "RuntimeError: out of memory") -> Path:
    """Write the sweep of the table above."""
    begin(output)
    for seed, (baseline, constant) in enumerate([(0.30, 0.34), (0.32, 0.36)]):
        trial(output, f"baseline_{seed}", "baseline", -1, seed, {}, epochs_to(baseline))
        trial(output, f"constant_{seed}", "constant", -2, seed, {"decay": {"shape": "constant"}}, epochs_to(constant))
    first = {"methods.tar.feature.weight": 2.0, "decay.shape": "linear"}
    second = {"methods.tar.feature.weight": 4.0, "decay.shape": "polynomial", "decay.power": 3.0}
    third = {"methods.tar.feature.weight": 8.0, "decay.shape": "linear"}
    trial(output, "p000_s0", "searched", 0, 0, first, epochs_to(0.38))
    trial(output, "p000_s1", "searched", 0, 1, first, epochs_to(0.42))
    trial(output, "p001_s0", "searched", 1, 0, second, epochs_to(0.20)[:2], status="stopped")
    trial(output, "p001_s1", "searched", 1, 1, second, epochs_to(0.24)[:2], status="stopped")
    trial(output, "p002_s0", "searched", 2, 0, third, [], status="failed", reason=reason)
    trial(output, "p002_s1", "searched", 2, 1, third, epochs_to(0.26)[:2], status="unfinished")
    return output


def begin(
    output: Path, teacher: float | None = 0.5, space: dict[str, Any] | None = None, seeds: Sequence[int] = (0, 1)
) -> None:
    """Write what a sweep begins with: its settings and its teacher."""
    output.mkdir(parents=True, exist_ok=True)
    settings = {"base": "quickstart", "metric": "AP", "mode": "max", "search": {"method": "grid"}, "seeds": [*seeds]}
    content = {"sweep": {**settings, "space": SPACE if space is None else space}}
    config = yaml.safe_load(recipe(output))
    SweepDirectory(output).settings.write_text(yaml.safe_dump({**content, "config": config}, sort_keys=False))
    if teacher is not None:
        stage_directory(output / "teacher", "teacher", epochs_to(teacher))
        (output / "teacher" / "config.yaml").write_text(yaml.safe_dump({"seed": 0, "teacher": config["teacher"]}))
        (output / "teacher" / "best.pt").write_bytes(b"weights")


def trial(
    output: Path,
    name: str,
    role: Role,
    point: int,
    seed: int,
    settings: dict[str, Any],
    scores: Sequence[float],
    status: Status = "finished",
    reason: str = "",
) -> TrialDirectory:
    """Write one trial with an evaluation of ``scores`` in every epoch; no run directory without any."""
    directory = SweepDirectory(output).trial(name)
    directory.write(TrialRecord(name, role, point, seed, settings, status, reason, seconds=10.0 * len(scores)))
    overrides = [f"{key}={json.dumps(value)}" for key, value in sorted(settings.items(), reverse=True)]
    if role == "baseline":
        overrides = [f"methods.tar.{term}.weight=0" for term in ("feature", "classification", "regression", "rpn")]
    directory.recipe.write_text(recipe(output, *overrides, f"seed={seed}"))
    stage = "baseline" if role == "baseline" else "distilled"
    if scores:
        stage_directory(directory.path / stage, stage, scores, finished=status == "finished")
    return directory


def stage_directory(path: Path, stage: str, scores: Sequence[float], finished: bool = True) -> None:
    """Write metrics, and the result when ``finished``: AP50 is twice the AP, small objects half, and none is large."""
    path.mkdir(parents=True)
    lines = [json.dumps(_epoch(stage, number, score, len(scores))) for number, score in enumerate(scores, start=1)]
    (path / "metrics.jsonl").write_text("".join(f"{line}\n" for line in lines))
    if finished:
        best = max(scores)
        result = {"stage": stage, "epochs": len(scores), "parameters": 1_000_000, "epoch": scores.index(best) + 1}
        result["rules"] = RULES
        (path / "result.json").write_text(json.dumps({**result, **_scores(best), "images_per_second": 50.0}))


def epochs_to(best: float) -> list[float]:
    """Return the APs of four epochs: the third is the best."""
    return [best - 0.1, best, best - 0.05, best - 0.02] if best < 0.3 else [0.1, 0.2, best, best - 0.01]


def recipe(output: Path, *overrides: str) -> str:
    """Return the complete quickstart with ``overrides``, as a trial's ``recipe.yaml`` holds it."""
    return _recipe(overrides).replace("OUTPUT", str(output))


@functools.cache  # checking one takes longer than anything else here
def _recipe(overrides: tuple[str, ...]) -> str:
    return re.sub(r"^output: .*", "output: OUTPUT", dump(load_config("quickstart", overrides)))


def _scores(ap: float) -> dict[str, float]:
    sizes = {"AP_small": ap / 2, "AP_medium": ap, "AP_large": -1.0}
    return {"AP": ap, "AP50": min(1.0, 2 * ap), "AP75": ap, **sizes, "AR1": ap, "AR10": ap, "AR100": ap}


def _epoch(stage: str, number: int, ap: float, epochs: int) -> dict[str, float]:
    line = {"epoch": number, "step": 10 * number, "seconds": 2.5, "train/total": 3.0 - ap, "train/detection/total": 2.0}
    if stage == "distilled":
        decay = 1 - number / (epochs + 1)
        for term in ("feature", "classification", "regression", "rpn"):
            line |= {f"train/distillation/{term}": 1.0 - ap, f"train/weighted/{term}": decay * (1.0 - ap)}
        line |= {"train/gate/class_open": 0.5, "train/gate/box_open": 0.25 * decay, "train/decay": decay}
    line |= {f"val/{name}": value for name, value in _scores(ap).items()}
    return line | {"val/class/cat": 1.1 * ap, "val/class/dog": 0.9 * ap}
