"""What lies in an output directory: which settings a stage was begun with, and who is at work there."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any, Literal

import yaml

from raydistill import checkpoint, mirror
from raydistill.checkpoint import RunDirectory
from raydistill.config import Config, yaml_text
from raydistill.config.loader import read_text
from raydistill.config.sections import WITHOUT_INFLUENCE, defaults
from raydistill.errors import UserError, one_error
from raydistill.lease import lease

StageName = Literal["teacher", "baseline", "distilled"]

_SHARED = ("seed", "data", "input", "augmentation", "loader", "training", "evaluation")
_SECTIONS: dict[StageName, tuple[str, ...]] = {
    "teacher": (*_SHARED, "teacher"),
    "baseline": (*_SHARED, "student"),
    "distilled": (
        *(*_SHARED, "teacher", "student", "distillation", "regions"),
        *("feature", "classification", "regression", "rpn", "decay"),
    ),
}


def planned(config: Config) -> list[StageName]:
    """Return the stages that ``config`` asks for, in order; without a distillation weight the student alone."""
    if not config.distills:
        return ["baseline"]
    return ["teacher", "baseline", "distilled"] if config.distillation.baseline else ["teacher", "distilled"]


def unfinished(config: Config) -> list[StageName]:
    """Return the planned stages that are still to be run, in order."""
    return [stage for stage in planned(config) if not _run(config, stage).finished]


def refuse_other_settings(config: Config) -> None:
    """Raise when a stage in the output directory was trained with other settings, naming the differences."""
    problems = []
    for stage in planned(config):
        run = _run(config, stage)
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
    run = _run(config, stage)
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
    checkpoint.write_text(_run(config, stage).config, text)


_held: set[IO[str]] = set()
# A loader process outlives a killed command for some seconds; it must not hold the lock as well.
os.register_at_fork(after_in_child=lambda: [file.close() for file in _held])


@contextlib.contextmanager
def locked(output: Path) -> Iterator[None]:
    """Keep a second command away from ``output`` for as long as this one works there, or its process lives.

    Raises:
        UserError: when another command holds it, or nothing can be written there.
    """
    try:
        output.mkdir(parents=True, exist_ok=True)
        file = (output / ".lock").open("w", encoding="utf-8")
    except OSError as error:
        raise UserError(f"{output}: must be a directory to write to, got: {error}; choose another --output") from error
    place = mirror.store_of(output)
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise UserError(
                f"{output}: another command is at work there; wait for it or choose another --output"
            ) from error
        _held.add(file)
        try:
            with contextlib.nullcontext() if place is None else lease(place, lambda why: mirror.close(output, why)):
                yield
        finally:
            _held.discard(file)


def _run(config: Config, stage: StageName) -> RunDirectory:
    return RunDirectory(mirror.folder(config.output) / stage)


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
