"""``python -m tests.bad_input``: read every bad input of the corpus and print the table of how that ended.

Of the made-up ones more are tried with ``RAYDISTILL_TEST_TRIES=30 pytest tests/bad_input tests/search_space``.
"""

from __future__ import annotations

import contextlib
import csv
import logging
import re
import sys
import tempfile
from collections import Counter
from pathlib import Path

from raydistill.errors import UserError

from .cases import Case
from .test_corpus import CORPUS

ENDS = ("error", "warning", "right", "traceback", "silent")
"""Our error, one warning and a right result, a right result; an error of another kind, a result that is not right."""


def main() -> int:
    """Print a row per kind of input; 0 when every input ended as it must."""
    logging.basicConfig(handlers=[logging.NullHandler()])
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(["kind", "inputs", *ENDS])
    bad = 0
    for kind, cases in CORPUS.items():
        ends = Counter(_end(case) for case in cases)
        writer.writerow([kind, len(cases), *(ends[end] for end in ENDS)])
        sys.stdout.flush()
        bad += ends["traceback"] + ends["silent"]
    return 1 if bad else 0


def _end(case: Case) -> str:
    """Read a case in an empty folder and return how that ended; what was not expected is told."""
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        try:
            result = case.run(Path(folder))
        except UserError as error:
            end = "error" if case.outcome == "error" and re.search(case.expected, str(error)) else "traceback"
        except Exception as error:  # noqa: BLE001  (counted)
            sys.stderr.write(f"{case.name}: {type(error).__name__}: {error}\n")
            end = "traceback"
        else:
            end = case.outcome if case.outcome != "error" and result == case.result else "silent"
        if Path("the-code-ran").exists():
            end = "silent"
    if end in ("traceback", "silent"):
        sys.stderr.write(f"{case.name}: {end}, where {case.outcome} was expected\n")
    return end


if __name__ == "__main__":
    sys.exit(main())
