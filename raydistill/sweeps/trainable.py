"""The settings of a student that somebody else's search trains beside a teacher that is there."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from raydistill.config import Config
from raydistill.config.from_python import plain, read_settings
from raydistill.config.loader import CONFIG, validate, with_absolute_paths
from raydistill.config.renamed import current_tree
from raydistill.config.tree import leaves
from raydistill.errors import one_error
from raydistill.sweeps.file.rules import refused
from raydistill.sweeps.file.space import Dimension

_ONE_PROCESS = "a trial is one process; ray.tune.with_resources says what it gets"


def student_config(config: Config, settings: Mapping[str, Any], output: str) -> Config:
    """Return the complete settings of one student.

    Args:
        config: what the trial does not set.
        settings: what it sets, by nested or dotted names.
        output: where its files go.

    Raises:
        UserError: naming all that is wrong.
    """
    problems: list[str] = []
    found = _checked(config, settings, output, problems)
    if problems or found is None:
        raise one_error(problems, "trial: settings that cannot be used")
    return with_absolute_paths(found)


def student_problems(config: Config, settings: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with the settings of a trial, as far as those say."""
    problems: list[str] = []
    _checked(config, settings, "trial", problems)
    return problems


def _checked(config: Config, settings: Mapping[str, Any], output: str, problems: list[str]) -> Config | None:
    tree = current_tree(read_settings(settings, problems))
    for name, value in [pair for key, inner in tree.items() for pair in leaves(key, inner)]:
        if reason := _refusal(name, value):
            problems.append(f"{name}: {reason}")
    fixed = {
        "output": output,
        "distillation": {"baseline": False, "preflight": "warn"},
        "scaling": {"num_workers": 1, "min_workers": None, "elastic_wait_seconds": "auto"},
        "logging": {"tensorboard": False},
    }
    return None if problems else validate(CONFIG.merge(CONFIG.merge(plain(config), tree), fixed), problems)


def _refusal(name: str, value: Any) -> str:
    """Return why a trial may not set this; empty where it may."""
    if name == "seed":
        return ""
    if name.partition(".")[0] == "scaling":
        return f"cannot be set by a trial: {_ONE_PROCESS}"
    return refused(name, Dimension("choice", (value,))).replace("cannot be searched", "cannot be set by a trial")
