"""The winner of a sweep trained again, and the student alone beside it, under seeds that nothing was chosen on."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from raydistill.sweeps.file.space import Point, point_text

MOST_SEEDS = 1000
_BEYOND = 1000
"""The first fresh seed lies so far above the base's: a number of seeds never reaches it, however the sweep grows."""
_SEEDS = 2**63
"""How many seeds there are."""


@dataclass(frozen=True)
class Confirmation:
    """What is trained again."""

    point: int
    """Its number in the sweep."""
    settings: Point
    seeds: tuple[int, ...]
    """Fresh ones."""

    @property
    def sentence(self) -> str:
        """Say what it does."""
        several = "s" if len(self.seeds) > 1 else ""
        return (
            f"point {self.point} ({point_text(self.settings)}) and the student alone again, under {len(self.seeds)} "
            f"seed{several} that nothing was chosen on ({seeds_text(self.seeds)})"
        )


def fresh_seeds(number: int, base: int, used: Collection[int]) -> tuple[int, ...]:
    """Return seeds that a sweep has not used; of more of them the first are the same.

    >>> fresh_seeds(3, 0, [0, 1, 1001])
    (1000, 1002, 1003)
    """
    candidates = ((base + _BEYOND + step) % _SEEDS for step in range(number + len(used)))
    return tuple([seed for seed in candidates if seed not in used][:number])


def seeds_text(seeds: Collection[int]) -> str:
    """Return seeds in a few words.

    >>> seeds_text([1000, 1001, 1002]), seeds_text([3, 9])
    ('1000 to 1002', '3, 9')
    """
    listed = sorted(seeds)
    if len(listed) > 2 and listed[-1] - listed[0] == len(listed) - 1:
        return f"{listed[0]} to {listed[-1]}"
    return ", ".join(map(str, listed))
