"""How every command ends: what its user caused is a sentence, what we caused keeps its traceback."""

from __future__ import annotations

import contextlib
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import Any

from raydistill.config.renamed import RenamedWarning
from raydistill.errors import UserError, printable_error
from raydistill.runs.stopping import Stopped
from raydistill.runs.streams import forgiving_streams
from raydistill.runs.system_errors import in_a_sentence, keep_traceback
from raydistill.storage.mirror import named

FAILED, INTERRUPTED = 2, 130


def run_command(work: Callable[[], int], stopped: str = "interrupted", interrupted: str = "interrupted", /) -> int:
    """Do a command's ``work`` and return its exit code, else that of how it ended.

    Args:
        work: returns the exit code.
        stopped: what is said when it was stopped with a checkpoint.
        interrupted: what is said when it was interrupted without one.
    """
    with forgiving_streams() as streams:
        code = _ended(work, stopped, interrupted)
        problem = streams.problem
        if problem:
            streams.err.write(f"{problem}\n")
        return FAILED if problem and not code else code


def _ended(work: Callable[[], int], stopped: str, interrupted: str) -> int:
    """Do the work, say how it ended and return the exit code of that."""
    try:
        with _telling_of_renamed():
            return work()
    except UserError as error:
        sys.stderr.write(f"{printable_error(named(str(error)))}\n")
        return FAILED
    except Stopped:
        sys.stderr.write(f"{stopped}\n")
    except KeyboardInterrupt:
        sys.stderr.write(f"{interrupted}\n")
    except Exception as error:
        sentence = in_a_sentence(error)
        if not sentence:
            raise
        file, goes_on = keep_traceback(error), interrupted.partition("; ")[2]
        details = f"; the traceback is in {file}" if file else ""
        sys.stderr.write(f"{named(sentence)}{f'; {goes_on}' if goes_on else ''}{details}\n")
        return FAILED
    return INTERRUPTED


@contextlib.contextmanager
def _telling_of_renamed() -> Iterator[None]:
    """Say in a line each which settings have other names now, instead of where in our code that was noticed."""
    with warnings.catch_warnings():
        warnings.simplefilter("default", RenamedWarning)
        show = warnings.showwarning

        def tell(message: Any, category: Any, *where: Any) -> None:
            if issubclass(category, RenamedWarning):
                sys.stderr.write(f"{message}\n")
            else:
                show(message, category, *where)

        warnings.showwarning = tell  # type: ignore[assignment]
        yield
