"""``python -m raydistill.tune`` on machines that do not see a file of weights: it is there only while it is sent."""

from __future__ import annotations

import sys
from pathlib import Path

from raydistill import tune
from raydistill.on_ray import run, shipping, sweep
from raydistill.storage.parcels import Shipped


def main() -> int:
    """Take the place that the weights' file has before and afterwards, and the command's arguments."""
    place, *arguments = sys.argv[1:]

    def ship_and_hide(names: set[str]) -> Shipped:
        (weights,) = (name for name in names if name.endswith(".pt"))
        Path(place).rename(weights)
        sent = shipping.ship(names)
        Path(weights).rename(place)
        assert [*sent] == [weights]
        return sent

    run.ship = sweep.ship = ship_and_hide  # type: ignore[assignment]
    return tune.main(arguments)
