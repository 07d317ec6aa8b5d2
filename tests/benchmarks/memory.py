"""How much memory something needs at its peak."""

from __future__ import annotations

import contextlib
import resource
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

_MIB = 1024**2


def peak_memory(run: Callable[[], object], device: torch.device) -> float:
    """Return the most memory in MiB while ``run`` runs: the GPU's for tensors, else all that this process holds."""
    if device.type == "cuda":
        import torch

        torch.cuda.reset_peak_memory_stats(device)
        run()
        return torch.cuda.max_memory_allocated(device) / _MIB
    _forget_peak()
    run()
    return (process_memory("VmHWM") or resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024) / _MIB


def _forget_peak() -> None:
    """Let Linux count the peak from now on; elsewhere it stays that of the whole process."""
    file = Path("/proc/self/clear_refs")
    if file.exists():
        file.write_text("5", encoding="ascii")


def process_memory(name: str) -> int:
    """Return what Linux says of this process's memory in bytes, 0 elsewhere: ``VmRSS`` now, ``VmHWM`` at the peak."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
            if line.startswith(f"{name}:"):
                return int(line.split()[1]) * 1024
    return 0
