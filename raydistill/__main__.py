"""The ``raydistill`` command: the verbs of ``python -m raydistill.VERB``, and what the package comes with."""

from __future__ import annotations

import argparse
import difflib
import importlib
import sys
from collections.abc import Sequence

from raydistill import VERSION

COMMANDS = {
    "train": "train a teacher, a student alone and a distilled student, and compare them",
    "tune": "search decay schedules and loss weights",
    "evaluate": "score weights on a data set, or a file of detections",
    "report": "tables, pictures and a page of runs and sweeps",
}
VERBS = COMMANDS | {
    "list": "the recipes and sweeps that come with raydistill",
    "help": "this text, or a verb's: raydistill help VERB",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Hand over to the verb that was named, and return its exit code."""
    verb, *rest = (sys.argv[1:] if arguments is None else arguments) or [""]
    if verb in COMMANDS:
        return _run(verb, rest)
    if verb == "list":
        return _list(rest)
    if verb in ("help", "-h", "--help"):
        return _help(rest)
    if verb == "--version":
        sys.stdout.write(f"{VERSION}\n")
        return 0
    sys.stderr.write(_unknown(verb) if verb else usage())
    return 2


def usage() -> str:
    """Return what can be done."""
    verbs = "\n".join(f"  {verb:<10}{text}" for verb, text in VERBS.items())
    return f"usage: raydistill VERB ...\n\n{verbs}\n\nraydistill VERB --help says more; --version says which this is\n"


def bundled_as_text() -> str:
    """Return the recipes and the sweeps that come with the package, a line each."""
    from raydistill.config.bundled import BUNDLED_RECIPES, BUNDLED_SWEEPS

    sections = []
    for command, files in (("train", BUNDLED_RECIPES), ("tune", BUNDLED_SWEEPS)):
        lines = [f"  {name:<18}{files.describe(name)}" for name in files.names]
        sections.append("\n".join([f"{files.kind}s: raydistill {command} NAME", *lines]))
    return "\n\n".join(sections) + "\n"


def _run(command: str, arguments: Sequence[str]) -> int:
    code: int = importlib.import_module(f"raydistill.{command}").main(arguments)
    return code


def _list(arguments: Sequence[str]) -> int:
    description = "List the recipes and sweeps that come with raydistill, each with what it is for."
    argparse.ArgumentParser(prog="raydistill list", description=description).parse_args(arguments)
    sys.stdout.write(bundled_as_text())
    return 0


def _help(arguments: Sequence[str]) -> int:
    verb = arguments[0] if arguments else "help"
    if verb == "help":
        sys.stdout.write(usage())
        return 0
    if verb in VERBS:
        return main([verb, "--help"])
    sys.stderr.write(_unknown(verb))
    return 2


def _unknown(verb: str) -> str:
    near = difflib.get_close_matches(verb, VERBS, n=1, cutoff=0.5)
    hint = f"did you mean '{near[0]}'? " if near else ""
    return f"{verb}: must be a verb of raydistill; {hint}the verbs are {', '.join(VERBS)}\n"


if __name__ == "__main__":
    sys.exit(main())
