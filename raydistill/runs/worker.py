"""One process of the training group: who it is, and what it does together with the others."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn

from raydistill.runs.stopping import Stop
from raydistill.structures import Target

T = TypeVar("T")
_SIGN_OF_LIFE_SECONDS = 1.0
_AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Worker:
    """One process of the training group."""

    rank: int = 0
    world_size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    stop: Stop = field(default_factory=Stop, compare=False)

    @property
    def is_main(self) -> bool:
        """Whether this worker writes the files."""
        return self.rank == 0

    def gather(self, value: T) -> list[T]:
        """Return every worker's ``value`` (picklable), by rank, on every worker."""
        if self.world_size == 1:
            return [value]
        values: list[Any] = [None] * self.world_size
        dist.all_gather_object(values, value)
        return values

    def stop_asked(self) -> Callable[[], bool]:
        """Ask every worker whether it was told to stop; what comes back waits for the answer, the same on all of them.

        Made before a step, the question costs no time: the answer is there after it.
        """
        if self.world_size == 1:
            return lambda: self.stop.wanted
        flag = torch.full((), int(self.stop.wanted), device=self.device)
        if self.device.type == "cuda":
            dist.all_reduce(flag, dist.ReduceOp.MAX)
            return arriving(flag)
        asked = dist.all_reduce(flag, dist.ReduceOp.MAX, async_op=True)

        def answer() -> bool:
            asked.wait()
            return bool(flag)

        return answer

    def wait(self) -> None:
        """Return when every worker has come here."""
        self.gather(None)

    def gather_on_main(self, value: T) -> list[T]:
        """Return every worker's ``value`` (picklable), by rank, on the main worker; nothing elsewhere."""
        if self.world_size == 1:
            return [value]
        values: list[Any] = [None] * self.world_size if self.is_main else []
        dist.gather_object(value, values if self.is_main else None, dst=0)
        return values

    def made_by_main(self, make: Callable[[], T]) -> T:
        """Return what ``make`` returns on the main worker (picklable), on every worker.

        The others wait however long it takes: they are told all the while that it is at work.
        """
        if self.world_size == 1:
            return make()
        with ThreadPoolExecutor(1) as pool:
            making = pool.submit(make) if self.is_main else None
            made = False
            while not made:
                if making is not None:
                    wait([making], _SIGN_OF_LIFE_SECONDS)
                made = self.broadcast(making is not None and making.done())
            return self.broadcast(cast(T, making.result() if making is not None else None))

    def broadcast(self, value: T) -> T:
        """Return the main worker's ``value`` (picklable) on every worker."""
        if self.world_size == 1:
            return value
        values = [value]
        dist.broadcast_object_list(values, src=0)
        return values[0]

    def share_buffers(self, module: nn.Module) -> None:
        """Give every worker the main worker's buffers: batch norm statistics differ after a step."""
        if self.world_size > 1:
            for buffer in module.buffers():
                dist.broadcast(buffer, src=0)

    def to_device(self, images: list[Tensor], targets: list[Target]) -> tuple[list[Tensor], list[Target]]:
        """Move a batch to this worker's device, without waiting for it."""
        on_device = [image.to(self.device, non_blocking=True) for image in images]
        moved = [
            Target(
                boxes=target["boxes"].to(self.device, non_blocking=True),
                labels=target["labels"].to(self.device, non_blocking=True),
            )
            for target in targets
        ]
        for there, target in zip(moved, targets, strict=True):
            if "digest" in target:
                there["digest"] = target["digest"]
        return on_device, moved

    def autocast(self, precision: str) -> contextlib.AbstractContextManager[Any]:
        """Return the autocast context of a ``training.precision``."""
        if precision == "fp32":
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, dtype=_AUTOCAST[precision])

    def sum(self, values: torch.Tensor) -> torch.Tensor:
        """Return the sum of ``values`` over all workers."""
        if self.world_size > 1:
            dist.all_reduce(values)
        return values


def local_device(use_gpu: bool = True) -> torch.device:
    """Return this machine's first GPU where there is one and it may be used, else its processor."""
    return torch.device("cuda", 0) if use_gpu and torch.cuda.is_available() else torch.device("cpu")


def arriving(flag: Tensor) -> Callable[[], bool]:
    """Start to bring ``flag`` over from its device, and return what waits for it."""
    if flag.device.type != "cuda":
        return lambda: bool(flag)
    here = torch.empty((), dtype=torch.bool, pin_memory=True)
    here.copy_(flag, non_blocking=True)
    arrived = torch.cuda.Event()  # type: ignore[no-untyped-call]
    arrived.record(torch.cuda.current_stream(flag.device))

    def wait() -> bool:
        arrived.synchronize()
        return bool(here)

    return wait
