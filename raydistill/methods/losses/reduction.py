"""The one place that divides."""

from __future__ import annotations

from torch import Tensor


def normalized_sum(values: Tensor, weights: Tensor | None, normalizer: Tensor) -> Tensor:
    """Return sum(weights * values) / max(1, normalizer), a scalar.

    Args:
        values: any shape; empty gives a zero that is attached to the graph.
        weights: gate or mask, broadcastable to ``values``; ``None`` counts everything once.
        normalizer: scalar without gradient, the number of regions or cells that could count.
    """
    weighted = values if weights is None else values * weights
    return weighted.sum() / normalizer.clamp(min=1)
