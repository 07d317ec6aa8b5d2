"""How often a report calls something better in made-up sweeps, without an effect and with one; nothing is trained.

``python -m tests.reports.luck_of_sweeps tests/results/luck.csv``, 40 minutes on one of two busy cores.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass

import numpy as np
import pandas as pd

from raydistill.reports.build import Report
from raydistill.reports.luck import is_clear
from tests.reports.drawn_sweeps import report_of, trials_of

NOISE = 0.02  # standard deviation of a trial's AP; as much again for what all trials of a seed share


@dataclass(frozen=True)
class Kind:
    """Sweeps that are drawn alike."""

    points: int
    seeds: int
    effect: float = 0.0  # AP that one point has more
    control: float = 1.0  # how noisy the student alone is, in that of the points
    sweeps: int = 1000


KINDS = (
    *(Kind(40, seeds) for seeds in (1, 2, 3, 5)),
    *(Kind(10, 3), Kind(40, 3, control=1.5, sweeps=200)),
    *(Kind(40, seeds, effect, sweeps=100) for seeds in (3, 5) for effect in (0.05, 0.08, 0.12)),
)


def drawn(generator: np.random.Generator, kind: Kind) -> Report:
    """Return the report of one sweep: the first point has the effect, if any has."""
    easy = generator.normal(0, NOISE, kind.seeds)
    scores = generator.normal(0.3, NOISE, (kind.points, kind.seeds)) + easy
    scores[0] += kind.effect
    alone = generator.normal(0.3, NOISE * kind.control, kind.seeds) + easy
    return report_of(trials_of(scores, alone, generator.normal(0.3, NOISE, kind.seeds) + easy))


def judged(report: Report) -> dict[str, float]:
    """Return what the report says of a sweep."""
    gains = ("gain_over_baseline", "gain_over_constant")
    rows = [row for _, row in report.summary.iterrows()]
    clear = [row[gain] > 0 for row in rows for gain in gains if is_clear(row, gain)]
    best = report.best
    assert best is not None
    return {
        "anything_called_better": any(clear),
        "anything_coloured": len(clear) > 0,
        "highest_called_better": best.is_better,
        "first_point_called_better": best.is_better and best.row["point"] == 0,
        "gain_of_highest": 100 * best.row["gain_over_baseline"],
        "gain_by_chance": 100 * best.by_chance,
    }


def main() -> int:
    """Write a row per kind of sweeps: shares of the sweeps, and mean gains in points of 100."""
    rows = []
    for kind in KINDS:
        generator = np.random.default_rng(18)
        found = pd.DataFrame([judged(drawn(generator, kind)) for _ in range(kind.sweeps)]).mean().round(3)
        rows.append(vars(kind) | {"effect": 100 * kind.effect} | found.to_dict())
        pd.DataFrame(rows).to_csv(sys.argv[1], index=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())
