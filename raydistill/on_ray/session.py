"""Ray as this project uses it: connecting, its notes on storage, actors and threads."""

from __future__ import annotations

import contextlib
import importlib
import itertools
import logging
import os
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import ray
import ray.util.scheduling_strategies
from pyarrow.fs import FileSystem

from raydistill.errors import UserError
from raydistill.storage.store import is_remote

POLL_SECONDS = 0.3
_NOTES, _OURS = ".ray", ".made_by_raydistill"  # a folder, and the file in it that says whose it is
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
    narrow = cores < (os.cpu_count() or 1)  # this process may not use all of them, and Ray would count them all
    try:
        ray.init(  # more workers than cores is slow, not wrong
            address="local",
            num_cpus=max(cpus_needed, cores) if narrow or cpus_needed > cores else None,
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

    Every result is in the run directories. A folder that somebody else has made is left alone.
    """
    if is_remote(output):
        return f"{output.rstrip('/')}/{_NOTES}"
    names = itertools.chain([_NOTES], (f"{_NOTES}-{number}" for number in itertools.count(2)))
    folders = (Path(output) / name for name in names)
    folder = next(folder for folder in folders if not folder.exists() or (folder / _OURS).is_file())
    folder.mkdir(parents=True, exist_ok=True)
    (folder / _OURS).touch()
    return str(folder)


def remove_ray_storage(output: str) -> None:
    """Remove Ray's notes, as far as they can be: as Ray wrote them, with objects that only stand for folders."""
    if is_remote(output):
        with contextlib.suppress(OSError):
            filesystem, path = FileSystem.from_uri(ray_storage(output))
            filesystem.delete_dir(path)
    else:
        shutil.rmtree(ray_storage(output), ignore_errors=True)


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
