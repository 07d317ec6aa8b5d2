"""How every command ends: what its user caused is a sentence, what we caused keeps its traceback."""

from __future__ import annotations

import sys
from collections.abc import Callable

from raydistill.errors import UserError
from raydistill.runs.stopping import Stopped
from raydistill.storage.mirror import named

FAILED, INTERRUPTED = 2, 130


def run_command(work: Callable[[], int], stopped: str = "interrupted", interrupted: str = "interrupted", /) -> int:
    """Do a command's ``work`` and return its exit code, else that of how it ended.

    Args:
        work: returns the exit code.
        stopped: what is said when it was stopped with a checkpoint.
        interrupted: what is said when it was interrupted without one.
    """
    try:
        return work()
    except UserError as error:
        sys.stderr.write(f"{named(str(error))}\n")
        return FAILED
    except Stopped:
        sys.stderr.write(f"{stopped}\n")
    except KeyboardInterrupt:
        sys.stderr.write(f"{interrupted}\n")
    return INTERRUPTED
