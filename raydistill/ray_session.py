"""Ray as this project uses it: connecting, looking what there is, and how workers hear of the wish to stop."""

from __future__ import annotations

import contextlib
import importlib
import logging
import os
import shutil
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from raydistill.errors import UserError, counted
from raydistill.object_store import is_remote, store
from raydistill.stopping import Stopped

if TYPE_CHECKING:
    from raydistill.runtime import Worker

# Ray reads its environment when it is imported.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
if not os.environ.get("RAY_ADDRESS"):
    os.environ.setdefault("RAY_AUTH_MODE", "token")  # set later, Ray's servers would ask for a token that nobody made
# Ray's own paragraph on a lost node, which goes to stdout: ours is a sentence, and says what was at work there
os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", "has been marked dead because")
os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.5")  # an epoch's report waits for it; 2 s by default

import ray
import ray.util.scheduling_strategies

POLL_SECONDS = 0.3
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
    """Import ``module`` in a thread, and wait for it.

    A module that is not there is left to who needs it; what else went wrong is raised, since another try would only
    complain about what the first one left half imported.
    """
    failed: list[Exception] = []

    def run() -> None:
        try:
            importlib.import_module(module)
        except ModuleNotFoundError:
            pass
        except Exception as error:  # noqa: BLE001  (handed on)
            failed.append(error)

    thread = threading.Thread(target=run, daemon=True)
    if module:
        thread.start()
    yield
    if module:  # who was interrupted does not wait for it
        thread.join()
    if failed:
        raise failed[0]


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


def ray_storage(output: str) -> str:
    """Return where Ray keeps notes of its own while it works for an output; all nodes see it, as they see the output.

    Every result is in the run directories.
    """
    return f"{output.rstrip('/')}/.ray" if is_remote(output) else str(Path(output) / "ray")


def remove_ray_storage(output: str) -> None:
    """Remove Ray's notes, as far as they can be."""
    if is_remote(output):
        with contextlib.suppress(UserError):
            store(ray_storage(output)).delete_all()
    else:
        shutil.rmtree(ray_storage(output), ignore_errors=True)


def nodes() -> list[dict[str, float]]:
    """Return the resources of each living node."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def places_for(wanted: Mapping[str, float]) -> int:
    """Return how many workers that each want ``wanted`` the cluster can hold at once."""
    return sum(min(int(node.get(kind, 0) / amount + 1e-9) for kind, amount in wanted.items()) for node in nodes())


@dataclass(frozen=True)
class Demand:
    """Workers that need room on the cluster at the same time."""

    setting: str
    """What the user would change."""
    num_workers: int
    wanted: Mapping[str, float]
    """What each of them needs, all of it on one node."""
    advice: str
    """What to do where they cannot be had."""

    def __str__(self) -> str:
        """Return what is asked for."""
        each = " and ".join(f"{amount:g} {kind}" for kind, amount in self.wanted.items())
        return f"{counted(self.num_workers, 'worker')} of {each}"

    def shortage(self) -> str:
        """Return what is asked for and what there is, where the cluster cannot hold it; else an empty text."""
        places = places_for(self.wanted)
        if places >= self.num_workers:
            return ""
        there = ", ".join(f"{node.get('CPU', 0):g} CPU {node.get('GPU', 0):g} GPU" for node in nodes())
        return f"{self} for nodes of {there}, which hold {places}"

    def refuse_what_cannot_be_had(self, waited: str = "") -> None:
        """Raise when the cluster can never hold the workers; Ray itself would wait for ever."""
        lacking = self.shortage()
        if lacking:
            reasons = "; ".join(part for part in (lacking, waited, self.advice) if part)
            raise UserError(f"{self.setting}: must fit into the Ray cluster, got {reasons}")


def started_here(actor: type) -> Any:
    """Start an actor that needs no resources on this node: elsewhere it could be lost while its users live."""
    here = ray.get_runtime_context().get_node_id()
    strategy = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(here, soft=False)
    return ray.remote(num_cpus=0, scheduling_strategy=strategy)(actor).remote()


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
        thread.join(POLL_SECONDS)
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
            while not done.wait(POLL_SECONDS):
                if _terminated.is_set() or (worker.is_main and ray.get(board.stopping.remote(name))):
                    worker.stop.ask()
                    return

    ray.get(board.begin.remote(name, worker.rank, ray.get_runtime_context().get_node_id()))
    threading.Thread(target=follow, daemon=True).start()
    try:
        yield
    except Stopped as stopped:
        if _terminated.is_set() and not ray.get(board.stopping.remote(name)):
            raise TerminatedError from stopped
        ray.get(board.leave.remote(name, worker.rank))
        threading.Event().wait()
    finally:
        done.set()
        board.leave.remote(name, worker.rank)
