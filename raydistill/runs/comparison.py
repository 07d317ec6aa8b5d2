"""Teacher, student alone and distilled student side by side."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pandas as pd

from raydistill.runs.directory import RunDirectory

STAGES = ("teacher", "baseline", "distilled")
_SCORES = ["AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large"]
_MODELS = {"teacher": "teacher", "baseline": "student alone", "distilled": "student distilled"}


def comparison(output: Path) -> pd.DataFrame:
    """Return a row per finished stage below ``output``: scores from 0 to 1 and differences in AP.

    Columns: model, AP, AP50, AP75, AP_small, AP_medium, AP_large, parameters, images_per_second, vs_baseline,
    vs_teacher, epoch (of the weights scored) and epochs; where a test split was scored, test_AP and test_vs_baseline
    before the last two. A score without objects is NaN.
    """
    results = {stage: _result(output / stage) for stage in STAGES if RunDirectory(output / stage).finished}
    tested = any("test_AP" in result for result in results.values())
    rows = []
    for stage, result in results.items():
        scores = {name: math.nan if result.get(name, -1) < 0 else result[name] for name in _SCORES}
        rows.append(
            {
                "model": _MODELS[stage],
                **scores,
                "parameters": int(result["parameters"]),
                "images_per_second": result.get("images_per_second", math.nan),
                "vs_baseline": _difference(scores["AP"], results.get("baseline")) if stage != "baseline" else math.nan,
                "vs_teacher": _difference(scores["AP"], results.get("teacher")) if stage != "teacher" else math.nan,
                **(_on_test(stage, results) if tested else {}),
                "epoch": int(result.get("epoch", 0)),
                "epochs": int(result["epochs"]),
            }
        )
    return pd.DataFrame(rows)


def as_text(table: pd.DataFrame) -> str:
    """Return the comparison for people: points of 100, parameters in millions."""
    shown = table.drop(columns=["epochs"]).copy()
    for name in (name for name in map(str, shown) if name in _SCORES or name.startswith(("vs_", "test_"))):
        sign = "+" if "vs_" in name else ""
        shown[name] = [_points(value, sign) for value in table[name]]
    shown["parameters"] = [f"{value / 1e6:.1f} M" for value in table["parameters"]]
    shown["images_per_second"] = ["-" if math.isnan(value) else f"{value:.1f}" for value in table["images_per_second"]]
    shown.columns = pd.Index(
        [name.replace("_", " ").replace("images per second", "images/s") for name in shown.columns]
    )
    return shown.to_string(index=False)


def _result(run: Path) -> dict[str, float]:
    result: dict[str, float] = json.loads(RunDirectory(run).result.read_text(encoding="utf-8"))
    return result


def _on_test(stage: str, results: dict[str, dict[str, float]]) -> dict[str, float]:
    value = results[stage].get("test_AP", -1)
    ap = math.nan if value < 0 else value
    over = _difference(ap, results.get("baseline"), "test_AP") if stage != "baseline" else math.nan
    return {"test_AP": ap, "test_vs_baseline": over}


def _difference(ap: float, other: dict[str, float] | None, score: str = "AP") -> float:
    return math.nan if other is None or other.get(score, -1) < 0 else ap - other[score]


def _points(value: float, sign: str) -> str:
    return "-" if math.isnan(value) else f"{100 * value:{sign}.1f}"
