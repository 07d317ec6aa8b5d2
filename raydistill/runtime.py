"""Who this worker is, what it says while it works, and where that goes."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn

from raydistill.checkpoint import RunDirectory
from raydistill.errors import UserError
from raydistill.events import EpochDone, Event, Listener, Note
from raydistill.files import append_line, publish, remote_of
from raydistill.mirror import named, pull
from raydistill.stopping import Stop
from raydistill.structures import Target

if TYPE_CHECKING:
    from tensorboardX import SummaryWriter

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


class Reporter(Protocol):
    """What carries a stage's numbers away; every worker has one and all of them call ``report`` together."""

    def report(self, metrics: dict[str, float]) -> None:
        """Record one epoch's metrics, plain Python numbers; the checkpoint is written right after."""

    def event(self, event: Event) -> None:
        """Tell the user."""

    def resume_from(self) -> list[Path]:
        """Return the checkpoints to go on from, newest first; an older one is for when those before it are damaged."""


@dataclass(frozen=True)
class FileReporter:
    """Writes ``metrics.jsonl`` in the run directory and hands events on; only the main worker does either.

    With ``tensorboard`` event files are written beside it.
    """

    run: RunDirectory
    worker: Worker
    listener: Listener
    tensorboard: bool = False
    _event_file: list[SummaryWriter] = field(default_factory=list)  # the open one

    def report(self, metrics: dict[str, float]) -> None:
        """Append one line."""
        if self.worker.is_main:
            try:
                append_line(self.run.metrics, json.dumps(metrics))
            except OSError as error:
                raise UserError(
                    f"{self.run.metrics}: cannot be written ({error}); make room, then repeat the command"
                ) from error
            if self.tensorboard:
                self._to_tensorboard(metrics)

    def event(self, event: Event) -> None:
        """Hand on."""
        if self.worker.is_main:
            self.listener(Note(named(event.text), event.warning) if isinstance(event, Note) else event)
            if isinstance(event, EpochDone) and event.epoch == event.epochs and self._event_file:
                self._event_file.pop().close()

    def resume_from(self) -> list[Path]:
        """Return the run directory's own checkpoints."""
        pull(self.run.path, everything=True)
        return self.run.checkpoints()

    def _to_tensorboard(self, metrics: dict[str, float]) -> None:
        """Write every metric as a scalar over epochs; after a restart those of lost epochs are purged."""
        epoch = int(metrics["epoch"])
        if not self._event_file:
            from tensorboardX import SummaryWriter  # takes a second or two

            self._event_file.append(SummaryWriter(str(self.run.path), purge_step=epoch, flush_secs=1))
        for name, value in metrics.items():
            self._event_file[0].add_scalar(name, value, epoch)
        if remote_of(self.run.path) is not None:
            self._event_file[0].flush()
            publish(max(self.run.path.glob("events.out.tfevents.*")))  # their names begin with the time
