"""``best.yaml``: the point of a sweep with the best score as a recipe that ``raydistill.train`` runs as it is."""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from raydistill.config import Config, dump
from raydistill.config.tree import join, nested
from raydistill.reports.build import Report
from raydistill.reports.headline import headline
from raydistill.reports.reading import Source, Trial
from raydistill.reports.schedules import in_words, known_schedule
from raydistill.reports.wording import described, one_line, point_name
from raydistill.storage.mirror import place_of
from raydistill.sweeps.directory import SweepDirectory


def best_recipe(report: Report) -> str | None:
    """Return the recipe of the best point with a teacher to go with it; None when there is no such point.

    The sweep's own teacher is reused where it is finished, else trained as the sweep's base says. The student alone is
    trained too, so that ``train`` prints the comparison.
    """
    found = best_trial(report)
    if found is None:
        return None
    source, trial = found
    settings = {name: value for name, value in trial.recipe.items() if name != "output"}
    settings["distillation"] = {**settings.get("distillation", {}), "baseline": True}
    settings["teacher"] = _teacher(source, settings.get("teacher", {}))
    if schedule := known_schedule(trial.lineage):
        settings = {**join(settings, nested(schedule[0]["settings"])), "schedule": schedule}
    try:
        checked = dump(Config.model_validate({**settings, "output": "unset"}))
    except ValidationError:
        return None  # begun with another version of this package
    text = checked.removeprefix("output: unset\n")  # train then writes to runs/best
    return f"{_origin(report, source, trial)}{text}"


def best_trial(report: Report) -> tuple[Source, Trial] | None:
    """Return the best point's trial with the base's seed, else with the first; one whose recipe can be read."""
    if report.best is None:
        return None
    row = report.best.row
    sources = [source for source in report.sources if row.get("sweep", source.name) == source.name]
    for source in sources:
        own = [t for t in source.trials if t.role == "searched" and t.record.point == row["point"] and t.recipe]
        own.sort(key=lambda trial: (trial.record.seed != source.base.get("seed"), trial.record.seed))
        if own:
            return source, own[0]
    return None


def recipe_note(report: Report) -> str:
    """Return which point the recipe is of, and what may be said of it."""
    best = report.best
    assert best is not None
    name, score = point_name(report, best.row), report.metric
    if not best.differs:
        return f"{name}, the first of {best.points}: none has a better {score} than another"
    if not best.complete:
        return f"{name}, whose {score} so far is the {best.word} of all; no point has finished on every seed"
    among = f"the {best.word} of {best.points} points" if best.points > 1 else "the only point"
    doubt = "" if best.is_better else "; it is not shown to be better than the student alone"
    return f"{name}, {among}{doubt}"


def _teacher(source: Source, in_trial: dict[str, Any]) -> dict[str, Any]:
    section = dict(source.base.get("teacher") or in_trial)
    run = SweepDirectory(source.path, source.output).teacher
    if not (run.finished and source.output.exists(run.best)):
        return section
    unused = {"epochs": None, "learning_rate": None}
    return {**section, **unused, "weights": place_of(run.path.resolve()), "train": False}


def _origin(report: Report, source: Source, trial: Trial) -> str:
    assert report.best is not None
    lines = [
        f"{recipe_note(report)}, in {place_of(source.path.resolve())}",
        f"Searched:{described(report, report.best.row) or ' nothing'}",
        *headline(report),
    ]
    lines += [words] if (words := in_words(trial)) else []
    return "".join(f"# {one_line(line)}\n" for line in lines)
