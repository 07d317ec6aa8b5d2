"""Memory that ran out, of the GPU, of the machine or of what its processes share: a sentence with advice."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch

from raydistill.config.sections import Config
from raydistill.errors import UserError, first_line

# What torch says, in errors that have no class of their own.
_OF_THE_MACHINE = ("can't allocate memory", "Cannot allocate memory", "not enough memory")
_OF_LOADERS = ("killed by signal: Killed", "killed by signal: Bus error", "unable to allocate shared memory")


@contextlib.contextmanager
def memory_explained(config: Config) -> Iterator[None]:
    """Turn errors for lack of memory inside into one of the user's, who can ask for less.

    Raises:
        UserError: where memory runs out.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        problem = _problem(error, config)
        if problem is None:
            raise
        again = "if something else took it, the same command goes on after the last checkpoint"
        raise UserError(f"{problem}; {again}") from error


def _problem(error: MemoryError | RuntimeError, config: Config) -> str | None:
    """Return what must hold, and what to do; None where memory is not what is lacking."""
    said, text = str(error), first_line(error) or type(error).__name__
    if any(sign in said for sign in _OF_LOADERS):
        lower = "lower it or loader.prefetch, or give the container more memory in /dev/shm"
        return (
            f"loader.num_workers: its processes must fit into memory, got {config.loader.num_workers} ({text}); {lower}"
        )
    if isinstance(error, torch.OutOfMemoryError):
        place = "the GPU's memory"
    elif isinstance(error, MemoryError) or any(sign in said for sign in _OF_THE_MACHINE):
        place = "memory"
    else:
        return None
    lower = "lower it or raise training.accumulation (evaluation.batch_size, where it happens while scoring)"
    return f"training.batch_size: must fit into {place}, got {config.training.batch_size} ({text}); {lower}"
