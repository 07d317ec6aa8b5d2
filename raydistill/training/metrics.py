"""Optimizer and metric sums: what a training loop needs besides the nets."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Self, TypedDict

import torch
from torch import Tensor

from raydistill.errors import UserError
from raydistill.methods.values import Gate, StepLosses
from raydistill.runs.worker import Worker, arriving
from raydistill.structures import LossDict


class SavedSums(TypedDict):
    """A worker's sums as plain numbers, which hold them to the bit."""

    terms: dict[str, tuple[float, int]]  # sum, how many
    gates: dict[str, tuple[float, float]]  # open, total


@dataclass
class MetricSums:
    """Sums over the steps of an epoch, on the device; losses become means, gates become shares."""

    _terms: dict[str, Tensor] = field(default_factory=dict)
    _term_counts: dict[str, int] = field(default_factory=dict)
    _gates: dict[str, Tensor] = field(default_factory=dict)  # [2]: open, total

    def add(self, losses: StepLosses) -> None:
        """Add one forward pass."""
        for name, value in losses.terms.items():
            self._terms[name] = self._terms.get(name, torch.zeros_like(value, dtype=torch.float64)) + value
            self._term_counts[name] = self._term_counts.get(name, 0) + 1
        for name, gate in losses.gates.items():
            self._gates[name] = self._gates.get(name, torch.zeros(2, device=gate.total.device)) + _pair(gate)

    def saved(self) -> SavedSums:
        """Return what ``restored`` takes."""
        sums = torch.stack(list(self._terms.values())).tolist() if self._terms else []
        gates = torch.stack(list(self._gates.values())).tolist() if self._gates else []
        return {
            "terms": dict(zip(self._terms, zip(sums, self._term_counts.values(), strict=True), strict=True)),
            "gates": {name: (opened, total) for name, (opened, total) in zip(self._gates, gates, strict=True)},
        }

    @classmethod
    def restored(cls, saved: list[SavedSums], worker: Worker) -> Self:
        """Return this worker's sums from those of every worker by rank.

        Where there were more workers or fewer, each begins with the mean of all, and the main worker with the gates:
        ``over`` then gives what it would have given.
        """
        if len(saved) == worker.world_size:
            terms, gates = saved[worker.rank]["terms"], saved[worker.rank]["gates"]
        else:
            counts = {name: count for name, (_, count) in saved[0]["terms"].items()}
            means = {name: sum(one["terms"][name][0] for one in saved) / len(saved) for name in counts}
            terms = {name: (means[name], count) for name, count in counts.items()}
            gates = {
                name: (sum(one["gates"][name][0] for one in saved), sum(one["gates"][name][1] for one in saved))
                if worker.is_main
                else (0.0, 0.0)
                for name in saved[0]["gates"]
            }
        return cls(
            {n: torch.tensor(value, dtype=torch.float64, device=worker.device) for n, (value, _) in terms.items()},
            {n: count for n, (_, count) in terms.items()},
            {n: torch.tensor(pair, dtype=torch.float32, device=worker.device) for n, pair in gates.items()},
        )

    def over(self, worker: Worker) -> dict[str, float]:
        """Return the epoch's metrics over all workers, by metric path; every worker must call it."""
        if not self._terms:
            return {}
        terms = (
            worker.sum(torch.stack([self._terms[n] / self._term_counts[n] for n in self._terms])) / worker.world_size
        )
        metrics = dict(zip(self._terms, terms.tolist(), strict=True))
        if self._gates:
            pairs = worker.sum(torch.stack(list(self._gates.values()))).tolist()
            for name, (opened, total) in zip(self._gates, pairs, strict=True):
                metrics[f"gate/{name}"] = opened / total if total else 0.0
        return metrics


@dataclass
class FiniteWatch:
    """Ends a training whose loss is no longer finite, without making a GPU wait.

    On a GPU a loss is looked at when the next step has been queued: by then its value has come over. The weights have
    then been moved by it, but nothing of them has been saved.
    """

    _pending: tuple[Callable[[], bool], LossDict, str, str, Callable[[], str]] | None = None

    def add(self, losses: StepLosses, step: str, images: str, remedy: Callable[[], str]) -> None:
        """Watch the loss of a step on images, as an error would name both; ``remedy`` then says what to do.

        Raises:
            UserError: when this loss, or on a GPU the one before, is not finite.
        """
        self.check()
        self._pending = (arriving(torch.isfinite(losses.total.detach())), losses.terms, step, images, remedy)
        if losses.total.device.type == "cpu":
            self.check()

    def check(self) -> None:
        """Look at the last loss; raises as ``add`` does."""
        pending, self._pending = self._pending, None
        if pending is None or pending[0]():
            return
        _, values, step, images, remedy = pending
        terms = ", ".join(f"{name}={value.item():.4g}" for name, value in values.items())
        raise UserError(f"{step}: the loss must be finite, got {terms} on {images}; {remedy()}")


def _pair(gate: Gate) -> Tensor:
    return torch.stack([gate.open.float(), gate.total.float()])
