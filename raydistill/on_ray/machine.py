"""What Ray needs of this machine to be started on it: a folder for its files and sockets, and a place for its token."""

from __future__ import annotations

import contextlib
import math
import os
import tempfile
import uuid
from pathlib import Path

from raydistill.errors import UserError

_SOCKET_BYTES = 107  # of a socket's path, on Linux; macOS takes 103
_BELOW = "/ray/session_2026-01-01_00-00-00_000000_4194304/sockets/plasma_store"  # what Ray adds to its folder


def check_machine() -> None:
    """Return once Ray can be started here.

    Raises:
        UserError: naming what it lacks and what to set.
    """
    _check_folder(*_folder_of_ray())
    _find_place_for_token()


def usable_cores() -> int:
    """Return how many CPUs this process may use: by its affinity, the quota of its control group, and Slurm's share."""
    there = os.cpu_count() or 1
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else there
    share = os.environ.get("SLURM_CPUS_PER_TASK", "") if "SLURM_JOB_ID" in os.environ else ""
    slurm = int(share) if share.isdecimal() and int(share) else there
    return max(1, min(allowed, slurm, math.ceil(_quota(Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")) or there)))


def _quota(groups: Path, mounted: Path) -> float:
    """Return the CPUs that control groups (version 2) grant, the least from the process's own up; 0: without limit."""
    try:
        own = next(line[3:] for line in groups.read_text(encoding="utf-8").splitlines() if line.startswith("0::"))
    except (OSError, StopIteration):
        return 0
    group = mounted / own.strip().lstrip("/")
    found = []
    for folder in [group, *group.parents][: len(group.parts) - len(mounted.parts) + 1]:
        with contextlib.suppress(OSError, ValueError):
            quota, period = (folder / "cpu.max").read_text(encoding="utf-8").split()
            found.append(int(quota) / int(period))  # "max": ValueError
    return min(found, default=0)


def _folder_of_ray() -> tuple[str, str]:
    """Return what says where Ray keeps its files, and the folder."""
    name = next((name for name in ("RAY_TMPDIR", "TMPDIR") if name in os.environ), "")
    return (name, os.environ[name]) if name else ("RAY_TMPDIR", "/tmp")


def _check_folder(name: str, folder: str) -> None:
    wanted = f"{name}: must be a folder for Ray's files"
    advice = "set RAY_TMPDIR to a short one on a disk of this machine, such as /tmp"
    if not Path(folder).is_absolute():
        raise UserError(f"{wanted}, as a full path, got {folder!r}; {advice}")
    most, length = _SOCKET_BYTES - len(_BELOW), len(os.fsencode(folder.rstrip("/")))
    if length > most:
        raise UserError(
            f"{wanted} of at most {most} letters, since the names of its sockets may have {_SOCKET_BYTES}, got {length}"
            f" in {folder}; {advice}"
        )
    try:
        below = Path(folder) / "ray"
        below.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=below):
            pass
    except OSError as error:
        raise UserError(f"{wanted} that can be written, got {folder} ({error.strerror}); {advice}") from error


def _find_place_for_token() -> None:
    """Give Ray a token of this process alone where there is no home to keep one in.

    Ray's servers are open to the network: only who has the token may use them.
    """
    if os.environ.get("RAY_AUTH_MODE", "").lower() != "token" or os.environ.get("RAY_AUTH_TOKEN"):
        return
    named = os.environ.get("RAY_AUTH_TOKEN_PATH")
    if named:
        if not Path(named).is_file():
            raise UserError(f"RAY_AUTH_TOKEN_PATH: must be a file with Ray's token, got {named}, which is none")
        return
    try:
        folder = Path.home() / ".ray"
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / "auth_token").is_file():
            with tempfile.TemporaryFile(dir=folder):
                pass
    except (OSError, RuntimeError):  # RuntimeError: nobody knows where this user's home is
        os.environ["RAY_AUTH_TOKEN"] = uuid.uuid4().hex + uuid.uuid4().hex
