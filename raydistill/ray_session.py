"""Ray as this project uses it: connecting, looking what there is, and showing what the workers say."""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raydistill.errors import UserError
from raydistill.events import Listener, Note
from raydistill.stopping import Stop, Stopped

if TYPE_CHECKING:
    from raydistill.runtime import Worker

# Ray reads its environment when it is imported.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
if not os.environ.get("RAY_ADDRESS"):
    os.environ.setdefault("RAY_AUTH_MODE", "token")  # set later, Ray's servers would ask for a token that nobody made
os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.5")  # an epoch's report waits for it; 2 s by default

import ray

_POLL_SECONDS = 0.3
_PATIENCE_SECONDS = 60
_JOIN_SECONDS = 10
_OBJECT_STORE_BYTES = 200 * 1024**2  # only small messages pass through it


@contextlib.contextmanager
def connected(cpus_needed: int, dashboard: bool = False, meanwhile: str = "") -> Iterator[None]:
    """Connect to the cluster that RAY_ADDRESS names, or start Ray on this machine; leave either as it was found.

    Args:
        cpus_needed: what a local Ray offers at least, whatever the machine has.
        dashboard: whether a local Ray runs its dashboard.
        meanwhile: a module that is imported while Ray's processes start; both take seconds.

    Raises:
        UserError: when there is no cluster at RAY_ADDRESS.
    """
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    for name in ("ray", "ray.train", "ray.tune", "ray.data"):
        logging.getLogger(name).setLevel(logging.ERROR)
    try:
        with _importing(meanwhile):
            address = os.environ.get("RAY_ADDRESS")
            with _own_signals():
                if address:
                    _join(address)
                else:
                    _start_here(cpus_needed, dashboard)
        yield
    finally:
        ray.shutdown()


@contextlib.contextmanager
def _own_signals() -> Iterator[None]:
    """Leave the signals' handlers as they were: starting Ray takes SIGTERM for itself."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    if threading.current_thread() is threading.main_thread():
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _importing(module: str) -> Iterator[None]:
    """Import ``module`` in a thread; who imports it afterwards waits for the rest, and sees what went wrong."""

    def run() -> None:
        with contextlib.suppress(Exception):
            importlib.import_module(module)

    thread = threading.Thread(target=run, daemon=True)
    if module:
        thread.start()
    yield
    if module:  # who was interrupted does not wait for it
        thread.join()


def _join(address: str) -> None:
    try:
        ray.init(log_to_driver=False, logging_level="ERROR")
    except (ConnectionError, TimeoutError) as error:
        raise UserError(f"RAY_ADDRESS: must be a running Ray cluster, got {address} ({error})") from error


def _start_here(cpus_needed: int, dashboard: bool) -> None:
    """Start Ray on this machine, its dashboard for this machine only.

    The ports of Ray itself are open to the network, since it binds them to the machine's address whatever it is told:
    only who has the token may use them.
    """
    os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")  # nobody takes this machine away; a process less
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        ray.init(
            address="local",
            num_cpus=cpus_needed if cpus_needed > cores else None,  # more workers than cores is slow, not wrong
            include_dashboard=dashboard,
            dashboard_host="127.0.0.1",
            object_store_memory=_OBJECT_STORE_BYTES,
            log_to_driver=False,
            logging_level="ERROR",
        )
    except Exception as error:
        if "timed out during startup" not in str(error):  # Ray has no class of its own for it
            raise
        raise UserError(
            f"Ray did not start within its own limit ({error}); the machine is too busy: try again"
        ) from error
    token = Path.home() / ".ray" / "auth_token"
    if token.is_file():
        token.chmod(0o600)  # Ray leaves it readable to everyone


def nodes() -> list[dict[str, float]]:
    """Return the resources of each living node."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def places_for(wanted: Mapping[str, float]) -> int:
    """Return how many workers that each want ``wanted`` the cluster can hold at once."""
    return sum(min(int(node.get(kind, 0) / amount + 1e-9) for kind, amount in wanted.items()) for node in nodes())


def shortage(num_workers: int, wanted: Mapping[str, float]) -> str:
    """Return what is asked for and what there is, where the cluster cannot hold the workers; else an empty text."""
    places = places_for(wanted)
    if places >= num_workers:
        return ""
    each = " and ".join(f"{amount:g} {kind}" for kind, amount in wanted.items())
    there = ", ".join(f"{node.get('CPU', 0):g} CPU {node.get('GPU', 0):g} GPU" for node in nodes())
    workers = "1 worker" if num_workers == 1 else f"{num_workers} workers"
    return f"{workers} of {each} for nodes of {there}, which hold {places}"


def refuse_what_cannot_be_had(setting: str, num_workers: int, wanted: Mapping[str, float], advice: str) -> None:
    """Raise when the cluster can never hold the workers; Ray itself would wait for ever."""
    lacking = shortage(num_workers, wanted)
    if lacking:
        raise UserError(f"{setting}: must fit into the Ray cluster, got {lacking}; {advice}")


def in_a_thread(function: Callable[[], object]) -> None:
    """Run ``function`` to its end and raise what it raises; in the main thread Ray would take Ctrl-C for itself."""
    raised: list[BaseException] = []

    def run() -> None:
        try:
            function()
        except BaseException as error:  # noqa: BLE001  (handed on)
            raised.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(_POLL_SECONDS)
    if raised:
        raise raised[0]


class TerminatedError(Exception):
    """Somebody ended this worker's process with SIGTERM, and it wrote a checkpoint; Ray is to start the group again."""


_terminated = threading.Event()  # SIGTERM came to this process


def heed_sigterm() -> None:
    """Let SIGTERM to this process, a worker of Ray Train, be a wish to stop that ``heeding`` sees.

    So end containers and machines that are taken away. Handlers can only be set in the main thread: Ray, which keeps it
    for itself, calls what its actor is asked to.
    """
    own = ray.get_runtime_context().current_actor
    ray.get(own.__ray_call__.remote(_take_sigterm))


def _take_sigterm(_: Any) -> None:
    signal.signal(signal.SIGTERM, lambda *_: _terminated.set())


@contextlib.contextmanager
def heeding(board: Any, name: str, worker: Worker) -> Iterator[None]:
    """Let the driver's wish to stop, or SIGTERM, reach a worker that works as ``name``; for the workers' side.

    Once its checkpoint is written the worker waits to be ended: Ray would take a return for success, an error for a
    failure.

    Raises:
        TerminatedError: when its checkpoint is written after SIGTERM to this process.
    """
    done = threading.Event()

    def follow() -> None:
        with contextlib.suppress(ray.exceptions.RayError):  # Ray is going down
            while not done.wait(_POLL_SECONDS):
                if _terminated.is_set() or (worker.is_main and ray.get(board.stopping.remote())):
                    worker.stop.ask()
                    return

    if worker.is_main:
        ray.get(board.begin.remote(name))
    threading.Thread(target=follow, daemon=True).start()
    try:
        yield
    except Stopped as stopped:
        if _terminated.is_set() and not ray.get(board.stopping.remote()):
            raise TerminatedError from stopped
        if worker.is_main:
            ray.get(board.leave.remote(name))
        threading.Event().wait()
    finally:
        done.set()
        if worker.is_main:
            board.leave.remote(name)


@contextlib.contextmanager
def shown(board: Any, listener: Listener, stop: Stop) -> Iterator[None]:
    """Hand what arrives on the board to ``listener`` while the workers run, and the wish to ``stop`` to the workers.

    What runs inside is ended once all of them have written their checkpoint.
    """
    done = threading.Event()

    def watch() -> None:
        heard, started, told = False, time.monotonic(), False
        while not done.wait(_POLL_SECONDS):
            heard = _show_new(board, listener) or heard
            if told and not _at_work(board):
                _show_new(board, listener)
                stop.end(saved=True)
                return
            if stop.wanted and not told:
                board.stop.remote()
                told = True
            if not heard and time.monotonic() - started > _PATIENCE_SECONDS:
                heard = True
                listener(Note(f"no worker has begun after {_PATIENCE_SECONDS} s: is the cluster busy?", warning=True))

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join(_JOIN_SECONDS)
        if not thread.is_alive():  # else Ray does not answer
            _show_new(board, listener)


def _at_work(board: Any) -> bool:
    try:
        return bool(ray.get(board.at_work.remote()))
    except ray.exceptions.RayError:
        return True  # unknown: the last checkpoint counts


def _show_new(board: Any, listener: Listener) -> bool:
    """Show the events that came, and say whether there were any."""
    try:
        events = ray.get(board.take.remote())
    except ray.exceptions.RayError:
        return False  # Ray is going down: nothing more to show
    for event in events:
        listener(event)
    return bool(events)
