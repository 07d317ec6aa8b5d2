"""Which settings a stage was begun with, and whether it may go on with others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import TypeAdapter, ValidationError

from raydistill.config import Config, yaml_text
from raydistill.config.asking import what_is_compared
from raydistill.config.course import without
from raydistill.config.loader import read_text
from raydistill.config.pooling import ROI_ALIGN, with_exact_pooling
from raydistill.config.precision import TEACHER_PRECISION, Precision, precision_of, with_precision
from raydistill.config.renamed import current_tree
from raydistill.config.sections import OF_DISTILLATION, WITHOUT_INFLUENCE, Data, defaults
from raydistill.errors import UserError, one_error
from raydistill.runs.directory import DATA_RECORD, RunDirectory, StageName, planned, stage_directory
from raydistill.runs.growth import with_growth, with_lengths
from raydistill.storage.output import Output

_DECIDED = "decided.yaml"
_FIRST = ("tar",)  # the method of runs from before there were several
_SHARED = ("seed", "data", "input", "augmentation", "loader", "training", "evaluation")
_SECTIONS: dict[StageName, tuple[str, ...]] = {
    "teacher": (*_SHARED, "teacher"),
    "baseline": (*_SHARED, "student", "schedule"),
    "distilled": (*_SHARED, "teacher", "student", *OF_DISTILLATION, "schedule"),
}
DATA_PLACES = (
    "data.root",
    *(f"data.{split}_{what}" for split in ("train", "val", "test") for what in ("images", "annotations")),
)
"""Where data lie; what they are counts, where it was written down."""
_OF_TEACHERS_TRAINING = ("teacher.epochs", "teacher.learning_rate")
_OF_ASKING = ("teacher.cache", "teacher.exact")
_NOT_OF_SCORING = ("seed", "augmentation.", "loader.", "training.", "evaluation.every", "evaluation.best_metric")


def refuse_other_settings(config: Config, output: Output, only: StageName | None = None) -> None:
    """Raise when a stage in ``output``, or that one, was trained with other settings, naming the differences."""
    problems = []
    for stage in planned(config) if only is None else [only]:
        run = stage_directory(output, stage)
        if not is_begun(run):
            continue  # nothing trained that could be lost or mixed
        then = stored_precision(run)
        config = pooled_as_begun(config, output, [stage])
        known = config if then is None or precision_of(config) is not None else with_precision(config, then)
        differences = setting_differences(_settings_then(run.config), known, stage)
        if output.exists(output.folder / DATA_RECORD):  # they are compared by what they are
            differences = {name: text for name, text in differences.items() if name not in DATA_PLACES}
        if differences:
            problems.append(f"{run.path}: was begun with other settings: {'; '.join(differences.values())}")
    if problems:
        raise one_error(
            problems, f"{output.place}: holds another run; choose another --output, or remove the directories named"
        )


def setting_differences(then: Mapping[str, Any], config: Config, stage: StageName) -> dict[str, str]:
    """Return the settings by dotted name in which a stage that was begun with ``then`` differs now, each told."""
    before = with_lengths(_flat(defaults(then.get("methods", _FIRST))) | _flat(then), stage)
    now = with_lengths(_with_influence(config, stage), stage)
    if before.get(TEACHER_PRECISION) not in get_args(Precision) and TEACHER_PRECISION in now:
        before[TEACHER_PRECISION] = now[TEACHER_PRECISION]  # nobody wrote down what it meant
    if stage == "distilled":
        before, now = what_is_compared(before), what_is_compared(now)
    of_methods = [name for name in before if name.startswith("methods.")]
    distils = any(name.startswith("methods.") for name in now)
    differences = {
        key: f"{key}={_shown(before.get(key))} then, {_shown(now.get(key))} now"
        for key in sorted({*now, *(of_methods if distils else ())})
        if before.get(key) != now.get(key)
    }
    return with_growth(differences, before, now, stage)


def pooled_as_begun(config: Config, output: Output, stages: Sequence[StageName]) -> Config:
    """Return ``config`` with regions pooled exactly where one of ``stages`` in ``output`` was begun so.

    Stages of a version that could not do otherwise were.
    """
    begun = [run for run in (stage_directory(output, stage) for stage in stages) if is_begun(run)]
    pooled = {_flat(_settings_then(run.config)).get(ROI_ALIGN, "exact") for run in begun}
    return with_exact_pooling(config) if "exact" in pooled else config


def precision_as_begun(config: Config, output: Output) -> Precision | None:
    """Return in what the teacher answers, where that is set, or was decided when the run was begun: maybe elsewhere."""
    known = precision_of(config) or stored_precision(stage_directory(output, "distilled"))
    if known is not None:
        return known
    file = output.fetched(output.folder / _DECIDED)
    if file.is_file() and any(is_begun(stage_directory(output, stage)) for stage in planned(config)):
        return _precision_in(yaml_text.read_mapping(read_text(file, str(file)), str(file)))
    return None


def keep_precision(output: Output, precision: Precision) -> None:
    """Write down what was decided, for whoever goes on with the run."""
    text = yaml.safe_dump({TEACHER_PRECISION: precision})
    output.write_text(output.folder / _DECIDED, f"# What was left to the machine that the run was begun on.\n{text}")


def stored_precision(run: RunDirectory) -> Precision | None:
    """Return in what the teacher of a student that was begun answers; None where there is none, or nobody wrote it."""
    return _precision_in(_flat(_settings_then(run.config))) if is_begun(run) else None


def _precision_in(flat: Mapping[str, Any]) -> Precision | None:
    found = flat.get(TEACHER_PRECISION)
    return found if found in get_args(Precision) else None


def is_begun(run: RunDirectory) -> bool:
    """Return whether anything was trained or scored there that could be lost or mixed."""
    something = run.result.is_file() or bool(run.checkpoints()) or run.output.exists(run.checkpoint)
    return something and run.config.is_file()


def _shown(value: Any) -> Any:
    return "unset" if value is None else value


def _settings_then(file: Path) -> dict[str, Any]:
    try:
        return current_tree(yaml_text.read_mapping(read_text(file, str(file)), str(file)))
    except UserError as error:
        raise UserError(f"{error}; the stage's settings are lost: remove {file.parent}") from error


def data_of_stage(run: RunDirectory) -> Data:
    """Return the settings of the data that a stage was trained on.

    Raises:
        UserError: where they cannot be read, or are not this version's.
    """
    settings = _settings_then(run.config)
    try:
        data: Data = TypeAdapter(Data).validate_python(settings.get("data"))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(("data", *map(str, first["loc"])))
        raise UserError(f"{run.config}: {where}: {first['msg']}, got {first['input']!r:.80}") from error
    return data


def write_settings(config: Config, stage: StageName, run: RunDirectory) -> None:
    """Write the settings that ``stage`` depends on into its run directory."""
    run.output.write_text(run.config, yaml_text.write(settings_of(config, stage)))


def _with_influence(config: Config, stage: StageName) -> dict[str, Any]:
    """Return the settings that the stage's result depends on, by dotted name; a given teacher is only scored."""
    settings = _flat(settings_of(config, stage))
    without = _OF_ASKING if stage == "teacher" else ()
    if not config.teacher.train:
        without += (*_OF_TEACHERS_TRAINING, *(_NOT_OF_SCORING if stage == "teacher" else ()))
    return {name: value for name, value in settings.items() if not name.startswith(without)}


def settings_of(config: Config, stage: StageName) -> dict[str, Any]:
    """Return the sections that a stage is trained with, as they are written."""
    settings = config.model_dump(mode="json", include=set(_SECTIONS[stage]))
    return settings | ({"schedule": without(config, OF_DISTILLATION)} if stage == "baseline" else {})


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{name}.")
        elif name not in WITHOUT_INFLUENCE:
            flat[name] = value
    return flat
