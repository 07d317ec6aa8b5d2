"""Runs and sweeps, and students for a Tuner of one's own."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from raydistill.api.paths import StrPath, text_of
from raydistill.config.loader import Overrides, Recipe, called, load_config
from raydistill.config.precision import meaning_of_auto, precision_of, with_precision
from raydistill.errors import UserError
from raydistill.results import Run, SweepRun, nothing_to_confirm
from raydistill.runs.stopping import Stop, stoppable
from raydistill.storage.mirror import places_named
from raydistill.storage.output import Output

if TYPE_CHECKING:
    from raydistill.config import Config
    from raydistill.runs.comparison import Row
    from raydistill.runs.events import Listener
    from raydistill.sweeps.file import LoadedSweep
    from raydistill.sweeps.table import SweepEvent, SweepListener


def distill(
    recipe: Recipe,
    overrides: Overrides | None = None,
    *,
    output: StrPath | None = None,
    local: bool = False,
    on_event: Listener | None = None,
) -> Run:
    """Train a teacher, a student alone and a distilled student, and compare them; what is finished is not run again.

    Args:
        recipe: the name of a recipe, a YAML file, settings (with a ``base`` if they are not complete), or a config.
        overrides: settings to change, nested or by dotted names.
        output: where the results go; by default ``runs/RECIPE``.
        local: train in this process instead of on Ray. Without it the run has a process of its own, which uses the
            Ray that this one has started or joined, else the cluster that RAY_ADDRESS names, else this machine.
        on_event: hears of every stage, step, epoch and note; by default they are shown on stderr.

    Raises:
        UserError: naming everything that is wrong with the settings, or what cannot be done.
        KeyboardInterrupt: when the run was interrupted; it goes on when it is called again.

    >>> distill("quickstart", {"training.epoch": 3, "decay": {"shape": "round"}})
    Traceback (most recent call last):
    raydistill.errors.UserError: quickstart: settings that cannot be used (2 problems):
      - decay.shape: must be one of 'linear', 'cosine', 'exponential', 'step', 'polynomial', 'constant', got 'round'
      - training.epoch: no such setting; did you mean training.epochs?
    """
    from raydistill.data.recognise import with_known_data
    from raydistill.runs.announcement import announced
    from raydistill.runs.events import Note
    from raydistill.runs.progress import Display
    from raydistill.runs.time_left import of_run

    with places_named():
        config = load_config(recipe, overrides or (), output)
        display = Display(left=of_run(config))
        with stoppable(ends_process=False) as stop, contextlib.closing(display):
            listener = on_event or display
            listener(announced(called(recipe), config))
            config, found = with_known_data(config)
            if found:
                listener(Note(found))
            _train(config, local, listener, stop)
        return Run(config, tuple(_compared(config)))


def sweep(
    file: StrPath | Mapping[str, Any],
    overrides: Overrides | None = None,
    *,
    output: StrPath | None = None,
    local: bool = False,
    confirm: int = 0,
    on_event: Callable[[SweepEvent], object] | None = None,
) -> SweepRun:
    """Train one teacher, two controls and a student per point and seed; ended trials are kept, the others go on.

    Args:
        file: the name of a sweep that comes with the package, a YAML file, or what such a file holds.
        overrides: keys of the sweep, or settings of its base, nested or by dotted names.
        output: where the results go; by default ``runs/tune/SWEEP``.
        local: run the trials one by one in this process instead of on Ray, as for ``distill``.
        confirm: once the sweep has ended, train the point with the best score and the student alone again, under so
            many seeds that nothing was chosen on; ``SweepRun.confirmed`` is what comes out.
        on_event: hears when trials begin and end, and of their epochs; by default they are shown on stderr.

    Raises:
        UserError: naming everything that is wrong with the sweep, or what cannot be done.
        KeyboardInterrupt: when it was interrupted; it goes on when it is called again.

    >>> sweep({"base": "quickstart", "space": {"training.batch_siz": {"grid": [8, 16]}}})
    Traceback (most recent call last):
    raydistill.errors.UserError: sweep: a sweep that cannot be run (1 problem):
      - space.training.batch_siz: no such setting; did you mean training.batch_size?
    """
    from raydistill.runs.announcement import announced
    from raydistill.runs.events import Note
    from raydistill.sweeps.confirm import check_confirmation, confirmed
    from raydistill.sweeps.file import load_sweep
    from raydistill.sweeps.table import SweepDisplay, SweepEvents

    with places_named():
        loaded = load_sweep(file, overrides or (), output)
        check_confirmation(loaded, confirm)

        def run(part: LoadedSweep) -> SweepRun:
            with contextlib.closing(listener(part)) as hears:
                return SweepRun(loaded.config.output, _tune(part, local, hears, stop))

        def listener(part: LoadedSweep) -> SweepEvents | SweepDisplay:
            display = SweepDisplay(part.sweep.metric, part.sweep.mode, part.num_trials)
            return SweepEvents(on_event) if on_event else display

        with stoppable(ends_process=False) as stop:
            listener(loaded)(announced(_sweep_called(file), loaded.config))
            sweep = run(loaded)
            if not confirm:
                return sweep
            why, best = nothing_to_confirm(sweep.report), sweep.best
            if why or best is None:
                listener(loaded)(Note(f"confirm: {why or 'its recipe cannot be read'}", warning=True))
            else:
                run(confirmed(loaded, best.number, best.settings, confirm))
        return SweepRun(sweep.output, sweep.has_result)


def trainable(
    recipe: Recipe,
    overrides: Overrides | None = None,
    *,
    space: Mapping[str, Any] | None = None,
    teacher: StrPath | None = None,
    output: StrPath | None = None,
    local: bool = False,
    on_event: Listener | None = None,
) -> Callable[[dict[str, Any]], None]:
    """Return a function for a ``ray.tune.Tuner`` of your own: each trial trains a student that the teacher teaches.

    The teacher is trained now, once, unless it is there. A trial's config holds settings by dotted names
    (``{"decay.rate": tune.loguniform(1, 10)}``). Every evaluated epoch is reported with ``epoch``, the scores (``AP``,
    ``AP50`` ...), what ``metrics.jsonl`` holds, and a checkpoint: trials go on from theirs after a failure, a pause or
    ``Tuner.restore``, and ``load(result.checkpoint.path)`` is the student. A trial is one process, on what
    ``ray.tune.with_resources`` gives it; its workers must see ``output``.

    Args:
        recipe: as for ``distill``.
        overrides: likewise.
        space: the Tuner's ``param_space``: wrong names and values are then found here and not in the trials.
        teacher: its weights or run directory, used as it is instead of being trained.
        output: where the teacher goes; by default ``runs/RECIPE``, where a run's is used.
        local: train the teacher in this process instead of on Ray, as for ``distill``.
        on_event: hears of the teacher's training; by default it is shown on stderr.

    Raises:
        UserError: naming everything that is wrong with the settings, or what cannot be done.
        KeyboardInterrupt: when the teacher's training was interrupted; it goes on when it is called again.

    >>> trainable("quickstart", space={"decay.rat": 3})
    Traceback (most recent call last):
    raydistill.errors.UserError: space: settings that a trial cannot use (1 problem):
      - decay.rat: no such setting
    """
    from raydistill.on_ray.trainable import check_space, trainable_with
    from raydistill.runs.progress import Display

    with places_named():
        config = load_config(recipe, overrides or (), output)
        if teacher is not None:
            given = {"weights": text_of(teacher), "train": False, "epochs": None, "learning_rate": None}
            config = load_config(config, {"teacher": given})
        check_space(config, space or {})
        config = with_precision(config, precision_of(config) or meaning_of_auto(config, all_compute_bf16=False))
        if config.distills:
            display = Display()
            with stoppable(ends_process=False) as stop, contextlib.closing(display):
                _train_teacher(config, local, on_event or display, stop)
        return trainable_with(config)


def _train(config: Config, local: bool, listener: Listener, stop: Stop) -> None:
    """Run what is missing, here or on Ray."""
    from raydistill import runner
    from raydistill.driver import run_apart
    from raydistill.runs.directory import unfinished

    if local or not unfinished(config, Output.at(config.output)) or _may_drive_ray(stop):
        runner.run(config, local, listener, stop)
    else:
        run_apart(runner.drive_run, config, listener, stop)


def _train_teacher(config: Config, local: bool, listener: Listener, stop: Stop) -> None:
    """Train a teacher where it is missing, here or on Ray, and refuse one that has learnt next to nothing."""
    from raydistill import runner
    from raydistill.driver import run_apart
    from raydistill.runs.directory import stage_directory, unfinished
    from raydistill.runs.weak_teacher import refuse_weakness, weakness

    output = Output.at(config.output)
    if local or not unfinished(config, output, "teacher") or _may_drive_ray(stop):
        runner.run(config, local, listener, stop, only="teacher")
    else:
        run_apart(runner.drive_teacher, config, listener, stop)
    refuse_weakness(weakness(stage_directory(output, "teacher"), config), config, listener)


def _tune(loaded: LoadedSweep, local: bool, listener: SweepListener, stop: Stop) -> bool:
    """Run what is missing of a sweep, here or on Ray; return whether any searched trial has a score."""
    from raydistill import runner
    from raydistill.driver import run_apart
    from raydistill.sweeps.table import hand_on

    if local or _may_drive_ray(stop):
        return runner.run_sweep(loaded, local, listener, stop)
    return run_apart(runner.drive_sweep, loaded, lambda event: hand_on(event, listener), stop)


def _may_drive_ray(stop: Stop) -> bool:
    """Return whether this process may start or join Ray itself: it is a command's, and uses none yet."""
    from raydistill.driver import address_of_ray

    return stop.ends_process and not address_of_ray()


def _compared(config: Config) -> list[Row]:
    """Return the comparison of a run's stages."""
    from raydistill.runs.comparison import comparison

    output = Output.at(config.output)
    rows = comparison(output.folder)
    if not rows:
        raise UserError(
            f"{config.output}: holds no results here; the workers must write to storage that this machine shares"
        )
    return rows


def _sweep_called(file: StrPath | Mapping[str, Any]) -> str:
    return str(file.get("base", "sweep")) if isinstance(file, Mapping) else os.fspath(file)
