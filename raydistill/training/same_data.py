"""Whether the data are those that a run or a sweep was begun with."""

from __future__ import annotations

import logging

from raydistill.config import Config, ShapesData
from raydistill.data.build import Splits, build_splits
from raydistill.data.fingerprint import (
    Fingerprint,
    differences,
    digest,
    fingerprint,
    from_text,
    in_another_order,
    to_text,
)
from raydistill.errors import UserError, first_line
from raydistill.runs.directory import DATA_RECORD
from raydistill.storage.output import Output
from raydistill.storage.regular import JSON_BYTES, read_text

_log = logging.getLogger(__name__)


def claim_data(output: Output, splits: Splits, begun: bool) -> str:
    """Write down what the data of an output are, or compare with what they were; return a text that stands for them.

    One process at a time may call it. Where nothing was written down they are taken for the same, which is noted.

    Args:
        output: of a run or a sweep.
        splits: the data.
        begun: whether anything was trained or scored there that belongs to its data.

    Raises:
        UserError: naming what changed.
    """
    now = fingerprint(splits)
    then = _read(output) if begun else None
    if then is not None:
        _refuse(output, then, now)
        return digest(then)
    if begun:
        _log.info(
            "data: nobody wrote down what they were when %s was begun; they are taken for the same", output.folder
        )
    output.write_text(output.folder / DATA_RECORD, to_text(now))
    return digest(now)


def compare_data_of_finished(output: Output, config: Config) -> None:
    """Compare as ``claim_data`` does where nothing is left to do; data that are no longer there are no hindrance.

    Raises:
        UserError: naming what changed.
    """
    then = None if isinstance(config.data, ShapesData) else _read(output)
    if then is None:
        return
    try:
        now = fingerprint(build_splits(config.data, config.downloads))
    except UserError as error:
        _log.warning(
            "data: cannot be compared with what they were when %s was begun: %s", output.folder, first_line(error)
        )
        return
    _refuse(output, then, now)


def data_of(output: Output) -> str:
    """Return the text that stands for the data of an output; empty where nobody wrote down what they are."""
    then = _read(output)
    return "" if then is None else digest(then)


def _refuse(output: Output, then: Fingerprint, now: Fingerprint) -> None:
    changed = differences(then, now)
    if changed:
        raise UserError(
            f"{output.folder}: the data must be those that it was begun with, got {'; '.join(changed)}; put them back "
            "as they were, or choose another --output; to train all of it anew on these, remove the directory"
        )
    for name in in_another_order(then, now):
        _log.warning("data: the images of %s stand in another order than when %s was begun", name, output.folder)


def _read(output: Output) -> Fingerprint | None:
    """Return what was written down; None where nothing was, or by another version."""
    file = output.folder / DATA_RECORD
    try:
        return from_text(read_text(output.fetched(file), JSON_BYTES))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise UserError(
            f"{file}: must say what the data were when this was begun, cannot be read ({first_line(error)}); remove it "
            "if they are the same still"
        ) from error
