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

from raydistill.errors import UserError, first_line
from raydistill.on_ray.head import Patience, check_head, not_a_node
from raydistill.on_ray.machine import check_machine, usable_cores
from raydistill.runs.events import Note
from raydistill.runs.system_errors import in_a_sentence, keep_traceback
from raydistill.storage.store import is_remote

POLL_SECONDS = 0.3
_NOTES, _OURS = ".ray", ".made_by_raydistill"  # a folder, and the file in it that says whose it is
_OBJECT_STORE_BYTES = 200 * 1024**2  # only small messages pass through it


@contextlib.contextmanager
def connected(
    cpus_needed: int,
    dashboard: bool = False,
    meanwhile: str = "",
    patience: Patience = Patience(),  # noqa: B008  (frozen)
    tell_dashboard: bool = False,
) -> Iterator[None]:
    """Connect to the cluster that RAY_ADDRESS names, or start Ray on this machine; leave either as it was found.

    Args:
        cpus_needed: what a local Ray offers at least, whatever the machine has.
        dashboard: whether a local Ray runs its dashboard.
        meanwhile: a module that is imported while Ray's processes start; both take seconds.
        patience: how the cluster's head is waited for, and who hears of it.
        tell_dashboard: whether the user is told where the dashboard is; a local Ray then runs it.

    Raises:
        UserError: when there is no cluster at RAY_ADDRESS that this can work on, or Ray cannot be started here.
    """
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    for name in ("ray", "ray.train", "ray.tune", "ray.data"):
        logging.getLogger(name).setLevel(logging.ERROR)
    address = os.environ.get("RAY_ADDRESS")
    try:
        if address:
            check_head(address, patience)
        else:
            check_machine()
        with _importing(meanwhile), _own_signals():
            found = _join(address) if address else _start_here(cpus_needed, dashboard or tell_dashboard)
        if tell_dashboard:
            patience.listener(_where_dashboard_is(found))
        yield
    finally:
        ray.shutdown()


def _where_dashboard_is(url: str) -> Note:
    if not url:
        return Note("scaling.dashboard: the Ray cluster has none; start its head with one", warning=True)
    token = "" if os.environ.get("RAY_AUTH_MODE", "").lower() != "token" else "; its token: `ray get-auth-token`"
    return Note(f"Ray's dashboard: http://{url}{token}")


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


def _join(address: str) -> str:
    """Join a cluster and return where its dashboard is; empty where it has none."""
    try:
        return _dashboard_of(ray.init(log_to_driver=False, logging_level="ERROR"))
    except ConnectionError as error:  # its head has answered before
        raise not_a_node(address) from error
    except Exception as error:
        raise _not_begun(error, f"RAY_ADDRESS: must be a running Ray cluster, got {address}") from error


def _dashboard_of(context: Any) -> str:
    return str(getattr(context, "dashboard_url", None) or "")


def _not_begun(error: Exception, wanted: str) -> Exception:
    """Return what is said when Ray cannot be joined or started for a reason that nobody foresaw."""
    if in_a_sentence(error):
        return error
    file = keep_traceback(error)
    details = f"; the traceback is in {file}" if file else ""
    return UserError(f"{wanted}: {type(error).__name__}: {first_line(error)[:300]}{details}")


def _start_here(cpus_needed: int, dashboard: bool) -> str:
    """Start Ray on this machine, its dashboard for this machine only; return where that is, empty where there is none.

    The ports of Ray itself are open to the network, since it binds them to the machine's address whatever it is told:
    only who has the token may use them.
    """
    os.environ.setdefault("RAY_TRAIN_ENABLE_PREEMPTION_WATCHER", "0")  # nobody takes this machine away; a process less
    cores = usable_cores()
    narrow = cores < (os.cpu_count() or 1)  # this process may not use all of them, and Ray would count them all
    try:
        context = ray.init(  # more workers than cores is slow, not wrong
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
            raise _not_begun(error, "ray: must start on this machine, got") from error
        raise UserError(
            f"Ray did not start within its own limit ({error}); the machine is too busy: try again"
        ) from error
    with contextlib.suppress(OSError, RuntimeError):  # there is no home: nor is there a token
        token = Path.home() / ".ray" / "auth_token"
        if token.is_file():
            token.chmod(0o600)  # Ray leaves it readable to everyone
    return _dashboard_of(context)


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
