"""More epochs for a stage that was begun with fewer: where it then is as if it had been begun with as many."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from raydistill.errors import counted
from raydistill.runs.directory import StageName

_EPOCHS, _HORIZON, _TEACHERS = "training.epochs", "training.horizon", "teacher.epochs"


def with_lengths(flat: Mapping[str, Any], stage: StageName) -> dict[str, Any]:
    """Return a stage's settings, by dotted names, with the lengths that unset ones mean, and without other stages'."""
    settings = dict(flat)
    epochs, own = settings.get(_EPOCHS), settings.get(_TEACHERS)
    if epochs is None:  # a teacher that is only scored
        return settings
    settings[_HORIZON] = settings.get(_HORIZON) or epochs
    if _TEACHERS in settings:
        settings[_TEACHERS] = own or epochs
    if stage == "teacher":
        settings[_HORIZON] = own or settings[_HORIZON]
        del settings[_EPOCHS]
    return settings


def with_growth(
    differences: Mapping[str, str], before: Mapping[str, Any], now: Mapping[str, Any], stage: StageName
) -> dict[str, str]:
    """Return what differs between two settings of a stage without more epochs, where those are allowed.

    Args:
        differences: a text for each setting.
        before: the settings by dotted name that it was begun with, as ``with_lengths`` gives them.
        now: those of now, likewise.
        stage: which.
    """
    name = _TEACHERS if stage == "teacher" else _EPOCHS
    rest = {key: text for key, text in differences.items() if key not in (name, _HORIZON)}
    if name not in differences:
        return dict(differences)
    if now[name] < before[name]:
        return {name: differences[name], **rest}
    if stage == "distilled" and _TEACHERS in rest and now[_TEACHERS] == now[_EPOCHS]:
        rest[_TEACHERS] += f" (set teacher.epochs={before[_TEACHERS]} to keep the teacher that it learns from)"
    reason = _reason(before, now, before[name], stage)
    return {name: f"{differences[name]} ({reason})", **rest} if reason else rest


def _reason(before: Mapping[str, Any], now: Mapping[str, Any], trained: int, stage: StageName) -> str:
    """Say why more epochs than were ``trained`` would not be what they had been from the start; empty: they would."""
    every = now["evaluation.every"]
    if trained % every:
        return f"its last epoch was evaluated out of turn, with evaluation.every={every}"
    if before[_HORIZON] == now[_HORIZON] or _is_constant(now, stage):
        return ""
    curves = "learning rate and decay were" if stage == "distilled" else "the learning rate was"
    horizon = before[_HORIZON]
    return (
        f"{curves} laid out for {counted(horizon, 'epoch')}; training.horizon={horizon} trains the others with what "
        "that ended at"
    )


def _is_constant(settings: Mapping[str, Any], stage: StageName) -> bool:
    """Return whether neither learning rate nor decay depend on how far the stage is."""
    rate, decay = "training.schedule", "decay"
    if settings[f"{rate}.shape"] == "step":
        steady = _without_steps(settings, rate)
    else:
        steady = bool(settings[f"{rate}.final_factor"] == 1)
    if stage != "distilled":
        return steady
    shape = settings[f"{decay}.shape"]
    return steady and (shape == "constant" or (shape == "step" and _without_steps(settings, decay)))


def _without_steps(settings: Mapping[str, Any], section: str) -> bool:
    return not settings[f"{section}.milestones"] or settings[f"{section}.factor"] == 1
