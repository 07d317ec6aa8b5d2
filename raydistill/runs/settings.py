"""What lies in an output directory: which settings a stage was begun with, and who is at work there."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import yaml

from raydistill.config import Config, yaml_text
from raydistill.config.loader import read_text
from raydistill.config.sections import WITHOUT_INFLUENCE, defaults
from raydistill.errors import UserError, one_error
from raydistill.runs.directory import RunDirectory, StageName, planned, stage_directory
from raydistill.storage import atomic, mirror

_SHARED = ("seed", "data", "input", "augmentation", "loader", "training", "evaluation")
_SECTIONS: dict[StageName, tuple[str, ...]] = {
    "teacher": (*_SHARED, "teacher"),
    "baseline": (*_SHARED, "student"),
    "distilled": (
        *(*_SHARED, "teacher", "student", "distillation", "regions"),
        *("feature", "classification", "regression", "rpn", "decay"),
    ),
}


def refuse_other_settings(config: Config) -> None:
    """Raise when a stage in the output directory was trained with other settings, naming the differences."""
    problems = []
    for stage in planned(config):
        run = stage_directory(config, stage)
        if not _begun(run):
            continue  # nothing trained that could be lost or mixed
        before = _flat(defaults()) | _flat(_settings_then(run.config))
        now = _flat(_settings_of(_as_begun(config, before), stage))
        differences = [
            f"{key}={_shown(before.get(key))} then, {_shown(now[key])} now"
            for key in sorted(now)
            if before.get(key) != now[key]
        ]
        if differences:
            problems.append(f"{run.path}: was begun with other settings: {'; '.join(differences)}")
    if problems:
        raise one_error(
            problems, f"{config.output}: holds another run; choose another --output, or remove the directories named"
        )


def as_begun(config: Config, stage: StageName) -> Config:
    """Return ``config`` with what ``auto`` meant when ``stage`` was begun, maybe on another processor."""
    run = stage_directory(config, stage)
    return _as_begun(config, _flat(_settings_then(run.config))) if _begun(run) else config


def with_precision(config: Config, precision: Literal["fp32", "bf16", "fp16"]) -> Config:
    """Return ``config`` with a teacher that answers in ``precision``."""
    distillation = config.distillation.model_copy(update={"teacher_precision": precision})
    return config.model_copy(update={"distillation": distillation})


def _as_begun(config: Config, before: Mapping[str, Any]) -> Config:
    precision = before.get("distillation.teacher_precision", "auto")
    undecided = config.distillation.teacher_precision == "auto"
    return with_precision(config, precision) if undecided and precision in ("fp32", "bf16", "fp16") else config


def _begun(run: RunDirectory) -> bool:
    return run.config.is_file() and (run.finished or bool(run.checkpoints()) or mirror.exists(run.checkpoint))


def _shown(value: Any) -> Any:
    return "unset" if value is None else value


def _settings_then(file: Path) -> dict[str, Any]:
    try:
        return yaml_text.read_mapping(read_text(file, str(file)), str(file))
    except UserError as error:
        raise UserError(f"{error}; the stage's settings are lost: remove {file.parent}") from error


def write_settings(config: Config, stage: StageName) -> None:
    """Write the settings that ``stage`` depends on into its run directory."""
    text = yaml.safe_dump(_settings_of(config, stage), sort_keys=False)
    atomic.write_text(stage_directory(config, stage).config, text)


def _settings_of(config: Config, stage: StageName) -> dict[str, Any]:
    return config.model_dump(mode="json", include=set(_SECTIONS[stage]))


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{name}.")
        elif name not in WITHOUT_INFLUENCE:
            flat[name] = value
    return flat
