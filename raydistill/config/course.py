"""Settings that change while a student is trained: which ones may, and what holds in which epoch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from raydistill.config.sections import Config
from raydistill.config.tree import join, nested

LEARNING_RATE = "training.optimizer.learning_rate"
_BACKGROUND = "methods.tar.feature.background_weight"
_OF_DECAY = ("rate", "power", "factor")


def changeable(config: Config) -> tuple[str, ...]:
    """Return the settings that may change while a student is trained: numbers that each step takes anew."""
    background = (_BACKGROUND,) if config.methods.tar is not None else ()
    decay = tuple(f"decay.{name}" for name in _OF_DECAY if hasattr(config.decay, name))
    return (*config.weights, *background, *decay, LEARNING_RATE)


def at_epoch(config: Config, epoch: int) -> Config:
    """Return the settings that hold after ``epoch`` epochs."""
    changes: dict[str, Any] = {}
    for change in config.schedule:
        if change.epoch <= epoch:
            changes |= change.settings
    return with_settings(config, changes) if changes else config


def largest_weights(config: Config) -> dict[str, float]:
    """Return the weight of every term where it is largest, by the setting's name: one that is 0 is never needed."""
    changes = [change.settings for change in config.schedule]
    return {
        name: max([weight, *(settings[name] for settings in changes if name in settings)])
        for name, weight in config.weights.items()
    }


def with_settings(config: Config, settings: Mapping[str, Any]) -> Config:
    """Return ``config`` with other settings by dotted names, which fit."""
    return Config.model_validate(raw_with(config, settings))


def raw_with(config: Config, settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return ``config`` as a tree with other settings by dotted names, not checked yet."""
    return join(config.model_dump(mode="json"), nested(settings))


def without(config: Config, sections: tuple[str, ...]) -> list[dict[str, Any]]:
    """Return the schedule as it is written, without the settings of some sections."""
    kept = []
    for change in config.schedule:
        settings = {name: value for name, value in change.settings.items() if name.partition(".")[0] not in sections}
        kept += [{"epoch": change.epoch, "settings": settings}] if settings else []
    return kept
