"""How much memory something needs at its peak."""

from __future__ import annotations

import resource
from collections.abc import Callable
from pathlib import Path

import torch

_MIB = 1024**2


def peak_memory(run: Callable[[], object], device: torch.device) -> float:
    """Return the most memory in MiB while ``run`` runs: the GPU's for tensors, else all that this process holds."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        run()
        return torch.cuda.max_memory_allocated(device) / _MIB
    _forget_peak()
    run()
    return _process_peak()


def _forget_peak() -> None:
    """Let Linux count the peak from now on; elsewhere it stays that of the whole process."""
    file = Path("/proc/self/clear_refs")
    if file.exists():
        file.write_text("5", encoding="ascii")


def _process_peak() -> float:
    status = Path("/proc/self/status")
    if status.exists():
        for line in status.read_text(encoding="ascii").splitlines():
            if line.startswith("VmHWM:"):
                return float(line.split()[1]) / 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
