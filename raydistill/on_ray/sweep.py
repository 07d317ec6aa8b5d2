"""The Ray Tune adapter: the plan's trials on whatever Ray has, each a function in an actor or a group of workers."""

from __future__ import annotations

import contextlib
import math
import os
import time
from collections.abc import Mapping
from dataclasses import replace
from enum import Enum
from typing import Any

from raydistill.config.loader import absolute
from raydistill.config.own import Carried
from raydistill.config.precision import meaning_of_auto
from raydistill.config.sections import NAMED_WEIGHTS
from raydistill.errors import UserError
from raydistill.on_ray.board import Board
from raydistill.on_ray.brackets import Brackets, all_trials
from raydistill.on_ray.callbacks import PlannedSearch, Recorder, Silence
from raydistill.on_ray.group import Group
from raydistill.on_ray.inputs import check_devices, check_inputs_here, check_inputs_there, claim_data_there
from raydistill.on_ray.journaled import JournaledScheduler
from raydistill.on_ray.lost_workers import explained
from raydistill.on_ray.node import node_watched
from raydistill.on_ray.population import InRounds, members, most_at_once, population_scheduler
from raydistill.on_ray.precision import all_nodes_compute_bf16
from raydistill.on_ray.room import Demand, Queue, many_pending, places_for, wait_for_room
from raydistill.on_ray.run import cpus_of, patience_of, run_on_workers
from raydistill.on_ray.session import connected, ray_storage, remove_ray_storage, started_here
from raydistill.on_ray.shipping import ship
from raydistill.on_ray.trial import EPOCH, SCORE, SweepOrder, flat_trial, group_trial
from raydistill.on_ray.watch import shown
from raydistill.runs.directory import StageName
from raydistill.runs.events import Note
from raydistill.runs.stopping import Stop
from raydistill.runs.weak_teacher import refuse_weakness, weakness
from raydistill.sweeps.announcement import refuse_missing_score
from raydistill.sweeps.file import (
    AshaScheduler,
    HyperbandScheduler,
    LoadedSweep,
    MedianScheduler,
    Pb2Scheduler,
    PbtScheduler,
    Population,
)
from raydistill.sweeps.journal import Journal, ended_where_stopped, reports_of_ended
from raydistill.sweeps.lineage import Rounds
from raydistill.sweeps.plan import Plan
from raydistill.sweeps.table import SweepListener
from raydistill.training.inputs import Inputs, inputs_of

os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")  # every number is in the run directories
os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")  # Ctrl-C is ours; the files are the state
os.environ.setdefault("TUNE_PRINT_ALL_TRIAL_ERRORS", "0")  # a sentence of ours instead of Ray's traceback
os.environ.setdefault("TUNE_DISABLE_STRICT_METRIC_CHECKING", "1")  # a trial that failed has no score
os.environ.setdefault("TUNE_GLOBAL_CHECKPOINT_S", "1000000000")  # no snapshots of all trials: none is ever restored

import ray
import ray.tune
import ray.tune.schedulers
import ray.util.state

# What a group's trial function holds itself: Tune refuses nothing at all, and any share of a CPU would keep the last
# worker waiting for ever where the workers need every CPU there is.
_OF_A_GROUPS_DRIVER = {"memory": 1024**2}
_FOR_EVER = 10**9  # Ray's number of samples; the plan says when it is enough


def run_sweep_on_ray(plan: Plan, display: SweepListener, stop: Stop) -> None:
    """Train the shared teacher if it is missing, then run every trial that is left.

    Raises:
        UserError: when the teacher's training fails, or the cluster cannot hold a trial.
    """
    loaded = plan.loaded
    resources, config = loaded.sweep.resources, loaded.config
    groups = resources.num_workers > 1
    cpus = max(cpus_of(config), math.ceil(resources.num_workers * resources.cpus_per_worker))
    trained = plan.directory.teacher.finished  # then the driver needs no torch: that is most of its memory
    unseen = _look_here(plan)
    meanwhile, patience = "" if trained else "ray.train.torch", patience_of(config, display, stop)
    with connected(cpus, groups, meanwhile, patience, config.scaling.dashboard):
        demand = _of_a_trial(loaded)
        wait_for_room(demand, config.scaling.wait_seconds, display, stop)
        check_inputs_there(unseen, demand, stop)
        if groups:
            _refuse_without_dashboard()
        if plan.precision is None and plan.unfinished:
            bf16 = "GPU" not in demand.wanted and all_nodes_compute_bf16(demand, display, stop)
            display(Note(plan.decide_precision(meaning_of_auto(config, bf16))))
        if not trained:
            run_on_workers(config, plan.directory.output, display, stop, only="teacher", metric=loaded.sweep.metric)
        elif plan.unfinished:
            claim_data_there(config, plan.directory.output, loaded.sweep.metric, demand, display, stop)
        if plan.unfinished:
            refuse_weakness(weakness(plan.directory.teacher, config), config, display)
            refuse_missing_score(plan.directory, loaded.sweep.metric)
        _run_trials(plan, display, demand, stop)


def _look_here(plan: Plan) -> Inputs:
    """Check what a sweep needs of this machine before Ray is started; return what only the cluster may see."""
    loaded, resources = plan.loaded, plan.loaded.sweep.resources
    gpus = 0 if resources.gpus_per_worker == "auto" else resources.num_workers * resources.gpus_per_worker
    check_devices("resources.gpus_per_worker", gpus, loaded.config.training.precision)
    teacher: list[StageName] = [] if plan.directory.teacher.finished else ["teacher"]
    return check_inputs_here(inputs_of(loaded.config, [*teacher, "distilled"], _students_weights(loaded)))


def _of_a_trial(loaded: LoadedSweep) -> Demand:
    """Return the workers of a trial and what each of them gets."""
    resources = loaded.sweep.resources
    gpus = resources.gpus_per_worker
    if gpus == "auto":
        gpus = 1 if ray.cluster_resources().get("GPU", 0) >= resources.num_workers else 0
    wanted = {"CPU": resources.cpus_per_worker} | ({"GPU": gpus} if gpus else {})
    advice = "lower resources.num_workers or cpus_per_worker, or add nodes"
    return Demand("resources", resources.num_workers, wanted, advice)


def _refuse_without_dashboard() -> None:
    """Raise unless Ray's state API answers: without it the workers of a stopped trial are never freed."""
    try:
        ray.util.state.list_actors(address=ray.get_runtime_context().gcs_address, limit=1, timeout=10)
    except Exception as error:
        raise UserError(
            "resources.num_workers: trials of several workers need Ray's dashboard on the head node, and it does not "
            f"answer ({type(error).__name__}); start Ray with it, or use one worker per trial"
        ) from error


def _run_trials(plan: Plan, display: SweepListener, demand: Demand, stop: Stop) -> None:
    board = started_here(Board)
    sweep, config = plan.loaded.sweep, plan.loaded.config
    order = SweepOrder(
        output=plan.directory.output,
        metric=sweep.metric,
        population=isinstance(sweep.scheduler, Population),
        brackets=isinstance(sweep.scheduler, HyperbandScheduler) and plan.loaded.confirmation is None,
        shipped=ship(_students_weights(plan.loaded)),
        group=Group(
            name="sweep",
            num_workers=sweep.resources.num_workers,
            resources=demand.wanted,
            max_failures=config.scaling.max_failures,
            hang_seconds=config.scaling.hang_seconds,
            storage=f"{ray_storage(plan.directory.output.place)}/groups",
            board=board,
        ),
        next_round=0,
        own=Carried.named_in([config.model_dump(mode="json"), sweep.model_dump(mode="json")]),
    )
    try:
        queue = Queue(demand, config.scaling.wait_seconds, display)
        with node_watched(stop), shown(board, queue, display, stop):
            if order.population or order.brackets:
                _fit(plan, display, replace(order, population=False, brackets=False), _Round.CONTROLS)
                _fit(plan, display, order, _Round.ALL_KNOWN)
            else:
                _fit(plan, display, order, _Round.EVERYTHING)
    except ray.exceptions.RayError as error:
        end = explained(error, stop, config.scaling.max_failures)
        if end is None:
            raise
        raise end from error
    finally:
        display.close()
    remove_ray_storage(plan.directory.output.place)


def _students_weights(loaded: LoadedSweep) -> set[str]:
    """Return what ``student.weights`` is in any trial, as their settings have it."""
    name = "student.weights"
    searched = loaded.sweep.space[name].values if name in loaded.sweep.space else ()
    return {loaded.config.student.weights, *(absolute(value, name) for value in searched if value not in NAMED_WEIGHTS)}


class _Round(Enum):
    """Which trials one call of Ray Tune runs."""

    EVERYTHING = 1
    CONTROLS = 2  # before a population: a control must not be replaced by a better trial, nor be in a bracket
    ALL_KNOWN = 3  # all the others, of which the scheduler knows from the start


def _fit(plan: Plan, display: SweepListener, order: SweepOrder, which: _Round) -> None:
    """Let Ray Tune run what is left of the plan."""
    sweep, config = plan.loaded.sweep, plan.loaded.config
    wanted, num_workers = order.group.resources, sweep.resources.num_workers
    recorder = Recorder(plan, display)
    known_trials = _trials_of(plan, order) if which is _Round.ALL_KNOWN else None
    if known_trials == {}:
        return
    scheduler = ray.tune.schedulers.FIFOScheduler() if which is _Round.CONTROLS else _scheduler(plan)
    if isinstance(scheduler, InRounds):
        order = replace(order, next_round=scheduler.next_round)
    trainable = ray.tune.with_parameters(group_trial if num_workers > 1 else flat_trial, order=order)
    tuner = ray.tune.Tuner(
        ray.tune.with_resources(trainable, dict(wanted) if num_workers == 1 else _OF_A_GROUPS_DRIVER),
        param_space=known_trials,
        tune_config=ray.tune.TuneConfig(
            metric=SCORE,
            mode=sweep.mode,
            search_alg=None
            if known_trials
            else PlannedSearch(plan, which is _Round.CONTROLS, lambda: _at_once(plan, wanted)),
            scheduler=scheduler,
            num_samples=1 if known_trials else _FOR_EVER,
            reuse_actors=True,
            trial_name_creator=_first_name,
        ),
        run_config=ray.tune.RunConfig(
            name=f"sweep-{time.time_ns()}",
            storage_path=ray_storage(plan.directory.output.place),
            stop={EPOCH: config.training.epochs},
            callbacks=[recorder, Silence()],
            failure_config=ray.tune.FailureConfig(max_failures=config.scaling.max_failures),
            verbose=0,
        ),
    )
    pending = places_for(wanted) if plan.loaded.points is not None else 0
    if known_trials:
        pending = len(plan.records)
    try:
        with many_pending(pending) if pending else contextlib.nullcontext():
            tuner.fit()
    finally:
        for name, started in recorder.started.items():
            plan.interrupted(name, time.monotonic() - started)


def _trials_of(plan: Plan, order: SweepOrder) -> dict[str, Any]:
    """Return the trials as a grid, nothing where none is left: a scheduler that waits for all takes no search."""
    return members(plan) if order.population else all_trials(plan)


def _first_name(trial: Any) -> str:
    """Return the plan's name of a new trial; a scheduler may change its config later."""
    name: str = trial.config["trial"]
    return name


def _at_once(plan: Plan, wanted: Mapping[str, float]) -> int:
    """Return how many trials may run at once on the nodes that are there now."""
    resources, most = plan.loaded.sweep.resources, plan.loaded.sweep.max_concurrent
    # a group's trial holds no resources itself: more of them than fit would wait for each other for ever
    room = places_for(wanted) // resources.num_workers if resources.num_workers > 1 else _FOR_EVER
    return room if most == "auto" else min(room, most)


def _scheduler(plan: Plan) -> ray.tune.schedulers.TrialScheduler:
    loaded = plan.loaded
    if loaded.confirmation is not None:  # what is to be measured is measured to its end
        return ray.tune.schedulers.FIFOScheduler()
    scheduler, epochs = loaded.sweep.scheduler, loaded.config.training.epochs
    if isinstance(scheduler, AshaScheduler):
        asha = ray.tune.schedulers.ASHAScheduler(
            time_attr=EPOCH,
            max_t=epochs,
            grace_period=scheduler.grace_period,
            reduction_factor=scheduler.reduction_factor,
        )
        return _journaled(asha, plan)
    if isinstance(scheduler, MedianScheduler):
        median = ray.tune.schedulers.MedianStoppingRule(
            time_attr=EPOCH, grace_period=scheduler.grace_period, min_samples_required=scheduler.min_trials
        )
        return _journaled(median, plan)
    if isinstance(scheduler, HyperbandScheduler):
        return Brackets(epochs, scheduler.reduction_factor, most_at_once(loaded))
    storage = ray_storage(plan.directory.output.place)
    if isinstance(scheduler, Pb2Scheduler):
        from raydistill.on_ray.bandit import bandit_scheduler  # needs scikit-learn

        return bandit_scheduler(loaded, scheduler, EPOCH, plan.directory, storage)
    if isinstance(scheduler, PbtScheduler):
        return population_scheduler(loaded, scheduler, EPOCH, Rounds(plan.directory), storage)
    return ray.tune.schedulers.FIFOScheduler()


def _journaled(scheduler: ray.tune.schedulers.TrialScheduler, plan: Plan) -> JournaledScheduler:
    """Return the scheduler with what it was told before; the trials that it had ended for that are ended."""
    journal = Journal(plan.directory)
    reports = journal.read()
    if reports is None:  # begun before there were journals
        reports = reports_of_ended(plan.directory, plan.records, plan.loaded.sweep.metric)
        journal.write(reports)
    heard = list(ended_where_stopped(reports))
    if heard != reports:
        journal.write(heard)
    stopped = {report.trial for report in heard if report.stopped}
    for record in plan.records:
        if not record.ended and record.name in stopped:
            plan.end(record.name, 0.0)
    return JournaledScheduler(scheduler, journal, heard)
