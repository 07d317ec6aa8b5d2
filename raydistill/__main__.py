"""The ``raydistill`` command: the verbs of ``python -m raydistill.VERB``."""

from __future__ import annotations

import importlib
import sys

VERBS = {
    "train": "train a teacher, a student alone and a distilled student, and compare them",
    "tune": "search decay schedules and loss weights",
    "report": "tables, pictures and a page of runs and sweeps",
    "evaluate": "score weights on a data set, or a file of detections",
}
_MODULES = {"report": "report.__main__"}  # of verbs that are packages


def main() -> int:
    """Hand over to the verb that was named."""
    arguments = sys.argv[1:]
    if arguments and arguments[0] in VERBS:
        code: int = importlib.import_module(f"raydistill.{_MODULES.get(arguments[0], arguments[0])}").main(
            arguments[1:]
        )
        return code
    asked = bool(arguments) and arguments[0] in ("-h", "--help")
    verbs = "\n".join(f"  {verb:<10}{text}" for verb, text in VERBS.items())
    (sys.stdout if asked else sys.stderr).write(
        f"usage: raydistill VERB ...\n\n{verbs}\n\nraydistill VERB --help says more\n"
    )
    return 0 if asked else 2


if __name__ == "__main__":
    sys.exit(main())
