"""Scripts with which a shell completes the command: verbs, options, recipes, sweeps and settings."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from raydistill.config.bundled import RECIPES, SWEEPS
from raydistill.config.loader import setting_names

SHELLS = ("bash", "zsh")
_NAMES = {"recipe": RECIPES, "sweep": SWEEPS}
"""Arguments that are a name or a file."""
_SETTINGS = "overrides"
_BASH = """
_raydistill_{argument}() {{
  compgen -W "{words}" -- "$1"
  compgen -f -- "$1"
}}
"""
_BASH_SETTINGS = """
_raydistill_overrides() {{
  compopt -o nospace 2> /dev/null
  compgen -W "{words}" -- "$1"
}}
"""
_ZSH = """
_raydistill_{argument}() {{ _alternative 'names:{argument}:({words})' 'files:file:_files' }}
"""
_ZSH_SETTINGS = """
_raydistill_overrides() {{ compadd -S '' -- {words} }}
"""


def completion_script(parsers: Mapping[str, argparse.ArgumentParser], shell: str) -> str:
    """Return what a shell must read to complete ``raydistill VERB ...``, by the parser of each verb."""
    import shtab

    parser = argparse.ArgumentParser("raydistill")
    verbs = parser.add_subparsers()
    for verb, of_verb in parsers.items():
        own = verbs.add_parser(verb, parents=[of_verb], add_help=False, help=of_verb.description or verb)
        for action in own._actions:
            _complete_by(action)
    preamble: Any = {"bash": _bash(), "zsh": _zsh()}  # its stub knows a text only
    return shtab.complete(parser, shell, preamble=preamble)


def _complete_by(action: argparse.Action) -> None:
    """Say with what shtab completes an argument: our functions, files, or nothing."""
    import shtab

    if action.dest in (*_NAMES, _SETTINGS):
        action.complete = dict.fromkeys(SHELLS, f"_raydistill_{action.dest}")  # type: ignore[attr-defined]
    elif not action.choices and action.nargs != 0:
        action.complete = shtab.FILE  # type: ignore[attr-defined]


def _bash() -> str:
    names = "".join(_BASH.format(argument=argument, words=" ".join(words)) for argument, words in _NAMES.items())
    return names + _BASH_SETTINGS.format(words=_settings())


def _zsh() -> str:
    names = "".join(_ZSH.format(argument=argument, words=" ".join(words)) for argument, words in _NAMES.items())
    return names + _ZSH_SETTINGS.format(words=_settings())


def _settings() -> str:
    return " ".join(f"{name}=" for name in dict.fromkeys(setting_names()))
