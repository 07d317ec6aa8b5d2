"""Which command is at work in an output, and whether it still runs."""

from __future__ import annotations

import dataclasses
import json
import os
import socket
import uuid
from dataclasses import dataclass
from pathlib import Path

_EXITING = 0x4  # Linux's PF_EXITING: killed, and its memory is being freed, which takes seconds where it is large


@dataclass(frozen=True)
class Owner:
    """The command that works on an output."""

    id: str
    host: str
    process: int
    machine: str  # what tells whether a process id means the same here; empty: nothing does
    born: str  # when that process was started
    beat: int = 0  # counts its signs of life

    def __str__(self) -> str:
        return f"process {self.process} on {self.host}"

    @property
    def here(self) -> bool:
        """Whether it is, or was, a process of this machine."""
        return bool(self.machine) and self.machine == _machine()

    @property
    def alive(self) -> bool:
        """Whether a process of this machine still runs."""
        return bool(self.born) and _born(self.process) == self.born

    @staticmethod
    def read(content: bytes) -> Owner | None:
        """Return what ``written`` gave; None where it is something else."""
        try:
            raw = json.loads(content)
            fields = {field.name: str if field.type == "str" else int for field in dataclasses.fields(Owner)}
            if {*raw} != {*fields} or not all(isinstance(raw[name], kind) for name, kind in fields.items()):
                return None
            return Owner(**raw)
        except (ValueError, TypeError, RecursionError):
            return None

    def written(self) -> bytes:
        """Return it as a file or an object holds it."""
        return json.dumps(dataclasses.asdict(self)).encode()


def this_process() -> Owner:
    """Return this one, under an id of its own."""
    return Owner(uuid.uuid4().hex, socket.gethostname(), os.getpid(), _machine(), _born(os.getpid()))


def _machine() -> str:
    """Return what two processes share that see each other's ids: one boot of one system, and one container of it."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
        return f"{boot} {Path('/proc/self/ns/pid').readlink()}"
    except OSError:
        return ""


def _born(process: int) -> str:
    """Return when a process was started; empty when it is no more or about to end, or the system does not say."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in "ZX" or int(fields[6]) & _EXITING else fields[19]
