"""How much memory this process may still take."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path


def free_memory(proc: Path = Path("/proc"), groups: Path = Path("/sys/fs/cgroup")) -> int:
    """Return the bytes that are free: by the machine, and by the limits of the process's control groups (version 2).

    Where the system does not say, a quarter of what is built in.
    """
    found = [_of_machine(proc / "meminfo"), *_of_groups(proc / "self" / "cgroup", groups)]
    known = [number for number in found if number is not None]
    return min(known) if known else os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 4


def _of_machine(meminfo: Path) -> int | None:
    with contextlib.suppress(OSError, ValueError, StopIteration):
        lines = meminfo.read_text(encoding="utf-8").splitlines()
        return int(next(line for line in lines if line.startswith("MemAvailable")).split()[1]) * 1024
    return None


def _of_groups(own: Path, mounted: Path) -> list[int | None]:
    with contextlib.suppress(OSError, StopIteration):
        lines = own.read_text(encoding="utf-8").splitlines()
        group = mounted / next(line[3:] for line in lines if line.startswith("0::")).strip().lstrip("/")
        return [_of_group(folder) for folder in [group, *group.parents][: len(group.parts) - len(mounted.parts) + 1]]
    return []


def _of_group(folder: Path) -> int | None:
    """Return the limit of one group less what it uses; its file cache counts as used, so this errs to the safe side."""
    with contextlib.suppress(OSError, ValueError):  # "max"
        limit, used = ((folder / name).read_text(encoding="utf-8") for name in ("memory.max", "memory.current"))
        return max(0, int(limit) - int(used))
    return None
