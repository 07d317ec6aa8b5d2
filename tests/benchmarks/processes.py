"""What a process costs, alone and with all that it started, from Linux's /proc."""

from __future__ import annotations

import os
import resource
import time
from dataclasses import dataclass, field
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Own:
    """CPU seconds of this process since it began, and its memory in MiB."""

    cpu: float
    rss: float
    peak: float


def own() -> Own:
    """Return what this process has cost until now."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return Own(used.ru_utime + used.ru_stime, pages * resource.getpagesize() / 1024**2, used.ru_maxrss / 1024)


@dataclass
class Family:
    """The CPU seconds of a process and of all that it started, ended ones as they were last seen."""

    root: int
    seen: list[tuple[float, float]] = field(default_factory=list)  # time.time(), seconds until then
    _ticks: dict[tuple[int, str], int] = field(default_factory=dict)  # process and when it was started

    def look(self) -> None:
        """Take a reading."""
        known = {self.root} | {pid for pid, _ in self._ticks}  # a worker outlives the process that started it
        found = _processes()
        family = {pid for pid in found if pid in known}
        while more := {pid for pid, process in found.items() if process[0] in family} - family:
            family |= more
        for pid in family:
            _, born, ticks = found[pid]
            self._ticks[pid, born] = ticks
        self.seen.append((time.time(), sum(self._ticks.values()) / _TICKS))

    def between(self, first: float, last: float) -> float:
        """Return the seconds used from one ``time.time()`` to another, between readings in proportion."""
        return self._until(last) - self._until(first)

    def _until(self, when: float) -> float:
        before = (0.0, 0.0)
        for at, seconds in self.seen:
            if at >= when:
                share = (when - before[0]) / (at - before[0]) if before[0] else 1.0
                return before[1] + share * (seconds - before[1])
            before = (at, seconds)
        return before[1]


def _processes() -> dict[int, tuple[int, str, int]]:
    """Return the parent, the time of birth and the CPU ticks of every process."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue  # it has just ended
            found[int(entry.name)] = int(fields[1]), fields[19], int(fields[11]) + int(fields[12])
    return found
