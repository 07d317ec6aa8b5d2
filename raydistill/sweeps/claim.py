"""A sweep's directory and the sweep that is to go on there: the same one, one that has grown, or another."""

from __future__ import annotations

from raydistill.config.loader import read_text
from raydistill.config.precision import TEACHER_PRECISION, precision_of
from raydistill.errors import UserError, one_error
from raydistill.runs.directory import DATA_RECORD
from raydistill.runs.settings import is_begun, stored_precision
from raydistill.storage.output import Output
from raydistill.sweeps.directory import SweepDirectory
from raydistill.sweeps.file import (
    LoadedSweep,
    differences,
    dump_sweep,
    grown,
    pooled_exactly,
    precision_then,
    with_regions_pooled_exactly,
    with_teachers_precision,
)


def claim(directory: SweepDirectory, loaded: LoadedSweep) -> LoadedSweep:
    """Write what the sweep is, and return it as it goes on from what lies there.

    Raises:
        UserError: when the directory holds a sweep with other settings.
    """
    loaded = gone_on(directory, loaded)
    if not directory.begun and not is_begun(directory.teacher):
        directory.output.remove(directory.path / DATA_RECORD)  # of an attempt that never began
    directory.output.write_text(directory.settings, dump_sweep(loaded))
    return loaded


def as_it_goes_on(loaded: LoadedSweep) -> LoadedSweep:
    """Return a sweep as it would go on from what lies in its output; nothing is written.

    Raises:
        UserError: when another sweep lies there, or the store cannot be used.
    """
    output = Output.to_read(loaded.config.output)
    output.pull()
    return gone_on(SweepDirectory(output.folder, output), loaded)


def gone_on(directory: SweepDirectory, loaded: LoadedSweep) -> LoadedSweep:
    """Return a sweep as it goes on from what lies in its directory, where nothing is written.

    Raises:
        UserError: when the directory holds a sweep with other settings.
    """
    if not directory.settings.is_file():
        return loaded
    before = read_text(directory.settings, str(directory.settings))
    begun = _with_precision_then(directory, loaded, before)
    begun = with_regions_pooled_exactly(begun) if pooled_exactly(before) else begun
    changed = differences(before, begun)
    if changed and directory.begun:
        raise one_error(
            changed, f"{directory.path}: holds another sweep; choose another --output, or remove the directory"
        )
    if not directory.begun:
        return loaded if changed else begun
    return grown(before, begun, directory.num_points)


def _with_precision_then(directory: SweepDirectory, loaded: LoadedSweep, before: str) -> LoadedSweep:
    """Return the sweep with what its teacher answered in, where that is left open now.

    An earlier version left it to every trial: what all that were begun have in common is the sweep's.

    Raises:
        UserError: where they have another one in common than is set now.
    """
    then, now = precision_then(before), precision_of(loaded.config)
    if then is None:
        found = {stored_precision(trial.run) for trial in directory.trials()} - {None}
        then = found.pop() if len(found) == 1 else None
        if then is not None and now not in (None, then):
            raise UserError(
                f"{directory.path}: {TEACHER_PRECISION}: must stay {then}, as its trials were begun, got {now}; give "
                f"{TEACHER_PRECISION}={then}, or choose another --output"
            )
    if then is None or now is not None:
        return loaded
    return with_teachers_precision(loaded, then)
