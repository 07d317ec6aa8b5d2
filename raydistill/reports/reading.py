"""What lies in the directory of a run or of a sweep, read without judging it; what cannot be read becomes a note."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import pandas as pd

from raydistill.config import yaml_text
from raydistill.config.precision import Precision
from raydistill.config.renamed import current_metrics, current_tree
from raydistill.errors import UserError
from raydistill.runs.comparison import STAGES
from raydistill.runs.directory import RunDirectory, StageName
from raydistill.runs.records import Lines, parse_lines, read_lines, read_result
from raydistill.runs.scores import RULES
from raydistill.storage.output import LOCAL, Output
from raydistill.storage.regular import YAML_BYTES, read_text
from raydistill.sweeps.directory import Role, Status, SweepDirectory, TrialDirectory, TrialRecord
from raydistill.sweeps.file.reading import current_space
from raydistill.sweeps.lineage import Part, read_lineage, read_takeovers

Kind = Literal["run", "sweep"]


@dataclass(frozen=True)
class Trial:
    """One training: a trial of a sweep, or a stage of a run."""

    record: TrialRecord
    role: str  # of the trial, or the name of the stage
    recipe: dict[str, Any]
    curves: pd.DataFrame  # a row per epoch (the index), a column per metric; NaN where there is no value
    result: dict[str, Any] | None  # None: not trained to its end
    lineage: tuple[Part, ...] = ()  # in a population: with which settings its student was trained, and where
    takeovers: tuple[Part, ...] = ()  # likewise: from whom it went on

    @property
    def finished(self) -> bool:
        """Whether its scores are final."""
        return self.result is not None or self.record.status == "finished"

    @property
    def under_earlier_rules(self) -> bool:
        """Whether it was scored by a version that read other boxes and pixels of the same data."""
        return self.result is not None and self.result.get("rules") != RULES

    @property
    def teacher_precision(self) -> str | None:
        """In what the teacher answered; None without one, or where nobody wrote it down."""
        if self.role in ("teacher", "baseline", "confirmed_baseline"):
            return None
        section = self.recipe.get("distillation")
        set_to = section.get("teacher_precision") if isinstance(section, dict) else None
        found = (self.result or {}).get("teacher_precision", set_to)
        return found if found in get_args(Precision) else None


@dataclass(frozen=True)
class Source:
    """One directory named by the user."""

    path: Path
    name: str
    kind: Kind
    trials: tuple[Trial, ...]
    teacher: Trial | None
    sweep: dict[str, Any] = field(default_factory=dict)  # the sweep's own settings
    base: dict[str, Any] = field(default_factory=dict)  # the complete recipe it searches around
    notes: tuple[str, ...] = ()
    output: Output = LOCAL
    """What connects it with the object store, if it lies on one."""
    grown: tuple[dict[str, Any], ...] = ()
    """What the sweep covered before it grew: its space, its seeds and ``num_points``, how many points it had."""


def read(directory: Path | Output) -> Source:
    """Read a run or a sweep.

    Raises:
        UserError: when ``directory`` is neither.
    """
    if isinstance(directory, Output):
        return replace(_read(directory.folder), output=directory)
    return _read(directory)


def _read(path: Path) -> Source:
    if not path.is_dir():
        raise UserError(f"{path}: must be the directory of a run or a sweep, there is no such directory")
    name = path.resolve().name
    if SweepDirectory(path).settings.is_file():
        return _read_sweep(SweepDirectory(path), name)
    stages = [stage for stage in STAGES if _begun(RunDirectory(path / stage))]
    if stages:
        return _read_run(path, name, stages)
    if _begun(RunDirectory(path)):
        raise UserError(
            f"{path}: must be the directory of a run or a sweep, got one stage of a run; name {path.resolve().parent}"
        )
    raise UserError(
        f"{path}: must be the directory of a run or a sweep, holds neither sweep.yaml nor a stage "
        f"({', '.join(STAGES)}); name what --output was"
    )


def curves(text: str) -> pd.DataFrame:
    r"""Return the epochs of a ``metrics.jsonl`` as a row each, indexed by epoch; lines that were cut off are left out.

    Of an epoch that was trained twice the later line counts. A score without objects (-1) is NaN.

    >>> curves('{"epoch": 1, "val/AP": 0.5, "val/AP_small": -1.0}\n{"epoch": 2, "val/A').to_dict("index")
    {1: {'val/AP': 0.5, 'val/AP_small': nan}}
    """
    return _table(parse_lines(text))


def _table(found: Lines) -> pd.DataFrame:
    rows = {int(line["epoch"]): current_metrics(line) for line in found.lines}
    epochs = sorted(rows)
    names = list(dict.fromkeys(name for row in rows.values() for name in row if name != "epoch"))
    listed = [[rows[epoch].get(name, math.nan) for name in names] for epoch in epochs]
    values = np.array(listed, dtype=np.float64).reshape(len(epochs), len(names))
    absent = np.array([name.startswith("val/") for name in names], dtype=bool) & (values < 0)
    values[absent] = math.nan
    return pd.DataFrame(values, index=pd.Index(epochs, name="epoch", dtype=int), columns=pd.Index(names, dtype=object))


def _begun(run: RunDirectory) -> bool:
    return run.config.is_file() or run.metrics.is_file() or run.result.is_file()


def _read_run(path: Path, name: str, stages: Sequence[StageName]) -> Source:
    notes: list[str] = []
    trials = []
    for stage in stages:
        run = RunDirectory(path / stage)
        recipe = _mapping(run.config, notes)
        result = _result(run, notes)
        status: Status = "unfinished" if result is None else "finished"
        seed = recipe.get("seed", 0)
        record = TrialRecord(stage, "searched", 0, seed if isinstance(seed, int) else 0, status=status)
        trials.append(Trial(record, stage, recipe, _curves(run, notes), result))
    teacher = next((trial for trial in trials if trial.role == "teacher"), None)
    return Source(path, name, "run", tuple(trials), teacher, notes=tuple(notes))


def _read_sweep(directory: SweepDirectory, name: str) -> Source:
    notes: list[str] = []
    settings = _mapping(directory.settings, notes)
    sweep, base = settings.get("sweep"), settings.get("config")
    if isinstance(sweep, dict) and isinstance(sweep.get("space"), dict):
        sweep["space"] = current_space(sweep["space"])
    if isinstance(base, dict):
        base = current_tree(base)
    if not isinstance(sweep, dict) or not isinstance(base, dict):
        why = "; ".join(notes) or "was it written by raydistill.tune?"
        raise UserError(f"{directory.settings}: must hold 'sweep' and 'config'; {why}")
    trials = []
    for file in sorted(directory.path.glob("trials/*/trial.json")):
        trial = _read_trial(TrialDirectory(file.parent), notes)
        if trial is not None:
            trials.append(trial)
    trials.sort(key=lambda trial: trial.record.order)
    teacher = None
    if _begun(directory.teacher):
        record = TrialRecord("teacher", "baseline", -3, 0)
        recipe = _mapping(directory.teacher.config, notes) if directory.teacher.config.is_file() else {}
        teacher = Trial(record, "teacher", recipe, _curves(directory.teacher, notes), _result(directory.teacher, notes))
    grown = tuple(_grown(settings.get("grown")))
    return Source(directory.path, name, "sweep", tuple(trials), teacher, sweep, base, tuple(notes), grown=grown)


def _grown(written: Any) -> Iterator[dict[str, Any]]:
    """Yield what can be read of what a sweep covered before."""
    for extent in written if isinstance(written, list) else []:
        if isinstance(extent, dict) and isinstance(extent.get("num_points"), int):
            space = extent.get("space")
            yield {**extent, "space": current_space(space) if isinstance(space, dict) else {}}


def _read_trial(directory: TrialDirectory, notes: list[str]) -> Trial | None:
    try:
        record = directory.read()
        problem = _problem(record)
    except UserError as error:
        problem = str(error).removeprefix(f"{directory.record_file}: ")
    if problem:
        notes.append(f"{directory.record_file}: {problem}; the trial is left out")
        return None
    record = dataclasses.replace(record, name=directory.path.name)  # what the user can look up, and unique
    recipe = _mapping(directory.recipe, notes) if directory.recipe.is_file() else {}
    section, config = recipe.get("distillation"), directory.run.config
    if isinstance(section, dict) and section.get("teacher_precision") == "auto" and config.is_file():
        recipe["distillation"] = _mapping(config, notes).get("distillation", section)  # what it meant in this trial
    past = tuple(read_lineage(directory)), tuple(read_takeovers(directory))
    return Trial(record, record.role, recipe, _curves(directory.run, notes), _result(directory.run, notes), *past)


def _problem(record: TrialRecord) -> str:
    """Say what a record that can be read holds all the same that cannot be."""
    wanted = {
        "role": record.role in get_args(Role),
        "status": record.status in get_args(Status),
        "point": isinstance(record.point, int),
        "seed": isinstance(record.seed, int),
        "seconds": isinstance(record.seconds, int | float),
        "settings": isinstance(record.settings, dict),
        "reason": isinstance(record.reason, str),
    }
    wrong = [f"{name} {getattr(record, name)!r}" for name, right in wanted.items() if not right]
    return f"must be the record of a trial, got {', '.join(wrong)}" if wrong else ""


def _curves(run: RunDirectory, notes: list[str]) -> pd.DataFrame:
    try:
        found = read_lines(run.metrics)
    except UserError as error:
        notes.append(str(error))
        return curves("")
    if found.problem:
        notes.append(f"{run.metrics}: {found.problem}")
    return _table(found)


def _mapping(path: Path, notes: list[str]) -> dict[str, Any]:
    """Return a YAML file's mapping; empty, with a note, when it cannot be read."""
    try:
        value = yaml_text.read_value(read_text(path, YAML_BYTES), quickly=True)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else " ".join(str(error).split())
        notes.append(f"{path}: cannot be read ({reason})")
        return {}
    if not isinstance(value, dict):
        notes.append(f"{path}: must hold settings, got {type(value).__name__}")
        return {}
    return current_tree(value)


def _result(run: RunDirectory, notes: list[str]) -> dict[str, Any] | None:
    if not run.result.exists():
        return None
    try:
        return read_result(run.result)
    except UserError as error:
        notes.append(f"{error}; its scores so far are shown, and the command that trained it writes it again")
        return None
