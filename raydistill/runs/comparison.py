"""Teacher, student alone and distilled student side by side."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from raydistill.runs.directory import RunDirectory, StageName
from raydistill.runs.records import read_result

STAGES: tuple[StageName, ...] = ("teacher", "baseline", "distilled")
_SCORES = ("AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large")
_MODELS: dict[StageName, str] = {"teacher": "teacher", "baseline": "student alone", "distilled": "student distilled"}


@dataclass(frozen=True)
class OnTest:
    """What the test split says of a stage."""

    ap: float
    vs_baseline: float


@dataclass(frozen=True)
class Row:
    """A finished stage: scores from 0 to 1 and differences in AP; what there is no value for is NaN."""

    stage: StageName
    scores: Mapping[str, float]
    """AP, AP50, AP75, AP_small, AP_medium, AP_large; one without objects is NaN."""
    parameters: int
    images_per_second: float
    """Of the net alone, see ``speed``."""
    speed: str
    """How that was measured; empty: on the validation split on the way, by an earlier version."""
    vs_baseline: float
    vs_teacher: float
    on_test: OnTest | None
    """None where no test split was scored in any stage."""
    epoch: int
    """Of the weights scored."""
    epochs: int
    planned_epochs: int
    """More than ``epochs`` where the stage ended early, as none of the last ones was better."""

    @property
    def ended_early(self) -> bool:
        """Whether it was not trained for all of its epochs."""
        return self.planned_epochs > self.epochs

    @property
    def columns(self) -> dict[str, str | float]:
        """The row by the names of the table's columns: those of a test split only where one was scored."""
        test = self.on_test
        on_test = {} if test is None else {"test_AP": test.ap, "test_vs_baseline": test.vs_baseline}
        return {
            "model": _MODELS[self.stage],
            **self.scores,
            "parameters": self.parameters,
            "images_per_second": self.images_per_second,
            "speed": self.speed,
            "vs_baseline": self.vs_baseline,
            "vs_teacher": self.vs_teacher,
            **on_test,
            "epoch": self.epoch,
            "epochs": self.epochs,
            **({"planned_epochs": self.planned_epochs} if self.ended_early else {}),
        }


def comparison(output: Path) -> list[Row]:
    """Return a row per finished stage below ``output``, in order."""
    results = {stage: _result(output / stage) for stage in STAGES if RunDirectory(output / stage).finished}
    tested = any("test_AP" in result for result in results.values())
    rows = []
    for stage, result in results.items():
        scores = {name: math.nan if result.get(name, -1) < 0 else float(result[name]) for name in _SCORES}
        rows.append(
            Row(
                stage=stage,
                scores=scores,
                parameters=int(result["parameters"]),
                images_per_second=float(result.get("images_per_second", math.nan)),
                speed=_speed(result.get("speed")),
                vs_baseline=_difference(scores["AP"], results.get("baseline")) if stage != "baseline" else math.nan,
                vs_teacher=_difference(scores["AP"], results.get("teacher")) if stage != "teacher" else math.nan,
                on_test=_on_test(stage, results) if tested else None,
                epoch=int(result.get("epoch", 0)),
                epochs=int(result["epochs"]),
                planned_epochs=int(result.get("planned_epochs", result["epochs"])),
            )
        )
    return rows


def as_csv(rows: Sequence[Row]) -> str:
    """Return the comparison as CSV, with a headline; NaN is an empty field."""
    text = io.StringIO()
    table = [row.columns for row in rows]
    names = dict.fromkeys(name for row in table for name in row)
    writer = csv.DictWriter(text, list(names), lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: "" if _is_nan(value) else value for name, value in row.items()} for row in table)
    return text.getvalue()


def as_text(rows: Sequence[Row]) -> str:
    """Return the comparison for people, a line each below a headline: points of 100, parameters in millions.

    Below them stands how speeds were measured.
    """
    hidden = ("epochs", "planned_epochs", "speed")
    table = [{name: _shown(name, value) for name, value in row.columns.items() if name not in hidden} for row in rows]
    if any(row.ended_early for row in rows):
        for shown, row in zip(table, rows, strict=True):
            shown["ended after"] = f"{row.epochs} of {row.planned_epochs}" if row.ended_early else str(row.epochs)
    lines = [[_headline(name) for name in table[0]], *([*row.values()] for row in table)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    text = "\n".join(" ".join(map(str.rjust, line, widths)) for line in lines)
    speeds = sorted({row.speed for row in rows if row.speed})
    return f"{text}\nimages/s: {'; or '.join(speeds)}" if speeds else text


def _speed(measured: object) -> str:
    """Return in words how a speed was measured."""
    if not isinstance(measured, dict):
        return ""
    device, threads = str(measured.get("device", "cpu")), measured.get("threads")
    where = device if device != "cpu" else f"{threads} thread{'' if threads == 1 else 's'}"
    return f"batch {measured.get('batch_size', 1)}, {where}, the median once warmed up"


def _headline(name: str) -> str:
    text = name.replace("_", " ").replace("images per second", "images/s")
    return f" {text}" if name == "epoch" else text  # a count stands a little apart from the scores


def _shown(name: str, value: str | float) -> str:
    if isinstance(value, str):
        return value
    if name in _SCORES or name.startswith(("vs_", "test_")):
        return _points(value, "+" if "vs_" in name else "")
    if name == "parameters":
        return f"{value / 1e6:.1f} M"
    if name == "images_per_second":
        return "-" if math.isnan(value) else f"{value:.1f}"
    return str(value)


def _is_nan(value: str | float) -> bool:
    return isinstance(value, float) and math.isnan(value)


def _result(run: Path) -> dict[str, float]:
    return read_result(RunDirectory(run).result)


def _on_test(stage: StageName, results: Mapping[StageName, dict[str, float]]) -> OnTest:
    value = results[stage].get("test_AP", -1)
    ap = math.nan if value < 0 else float(value)
    return OnTest(ap, _difference(ap, results.get("baseline"), "test_AP") if stage != "baseline" else math.nan)


def _difference(ap: float, other: dict[str, float] | None, score: str = "AP") -> float:
    return math.nan if other is None or other.get(score, -1) < 0 else ap - other[score]


def _points(value: float, sign: str) -> str:
    return "-" if math.isnan(value) else f"{100 * value:{sign}.1f}"
