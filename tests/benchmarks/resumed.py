"""``python -m tests.benchmarks resumed``: how often a resumed sweep stops other trials than one that was not disturbed.

Sweeps are acted out without Ray's processes, with its own schedulers: each one whole, then killed one to three times on
the way and begun again, once as it is and once with a scheduler that is told nothing of before.
"""

from __future__ import annotations

import csv
import functools
import random
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from raydistill.on_ray import sweep as sweep_module
from raydistill.on_ray.journaled import JournaledScheduler
from raydistill.sweeps import plan as plan_module
from raydistill.sweeps.file import LoadedSweep
from raydistill.sweeps.journal import TrialReport
from tests.benchmarks.commands import count, parser_of, show
from tests.on_ray.simulated import ASHA, MEDIAN, run, sweep_of

_POINTS = 16
_SCHEDULERS = {"asha": ASHA, "median": MEDIAN}
Ends = dict[str, tuple[str, int]]
"""How each trial ended, and after how many epochs."""


@dataclass(frozen=True)
class Row:
    """What came of the sweeps with one scheduler and so many trials at once."""

    scheduler: str
    at_once: int
    sweeps: int
    without_replay: int  # sweeps that ended otherwise than undisturbed ones
    with_replay: int

    @property
    def text(self) -> str:
        """The row for people."""
        shares = [f"{100 * number / self.sweeps:5.1f} %" for number in (self.without_replay, self.with_replay)]
        return f"{self.scheduler:<10}{self.at_once:>8}{self.sweeps:>8}{shares[0]:>16}{shares[1]:>13}"


def main(arguments: Sequence[str]) -> None:
    """Run them and print the table."""
    parser = parser_of("resumed", "Compare resumed sweeps with undisturbed ones, with and without replaying reports.")
    parser.add_argument("--sweeps", type=count, default=200, metavar="N", help="of each kind (default: 200)")
    parser.add_argument("--at-once", type=count, nargs="+", default=[1, 2, 8, 16], metavar="N", help="trials at once")
    parser.add_argument("--schedulers", nargs="+", choices=[*_SCHEDULERS], default=[*_SCHEDULERS])
    parser.add_argument("--csv", metavar="OUT", help="write the table")
    options = parser.parse_args(arguments)
    sys.stdout.write("scheduler  at once  sweeps  without replay  with replay\n")
    rows = []
    for scheduler in options.schedulers:
        for at_once in options.at_once:
            with without_recipes():
                rows.append(compare(scheduler, at_once, options.sweeps))
            sys.stdout.write(f"{rows[-1].text}\n")
            sys.stdout.flush()
    if options.csv:
        with Path(options.csv).open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["scheduler", "trials_at_once", "sweeps", "other_without_replay", "other_with_replay"])
            writer.writerows(
                [row.scheduler, row.at_once, row.sweeps, row.without_replay, row.with_replay] for row in rows
            )
    if options.json:
        show("", {"rows": [vars(row) for row in rows]}, options.json)


def compare(scheduler: str, at_once: int, sweeps: int) -> Row:
    """Return how many of ``sweeps`` ended otherwise once they were interrupted."""
    others = {False: 0, True: 0}
    for number in range(sweeps):
        with tempfile.TemporaryDirectory() as folder:
            whole, resumed = _ends(Path(folder), _SCHEDULERS[scheduler], at_once, number)
            for replays, ends in resumed.items():
                others[replays] += ends != whole
    return Row(scheduler, at_once, sweeps, others[False], others[True])


def _ends(folder: Path, scheduler: dict[str, Any], at_once: int, number: int) -> tuple[Ends, dict[bool, Ends]]:
    """Return how the trials of one sweep end undisturbed, and resumed without and with the reports of before."""
    loaded = _sweep(scheduler["name"])
    whole, reports = run(_moved(loaded, folder / "whole"), at_once, [], str(number))
    chance = random.Random(number)
    cuts = sorted(chance.sample(range(1, reports), chance.randint(1, 3)))
    kills = [cut - before for before, cut in zip([0, *cuts], cuts, strict=False)]
    resumed: dict[bool, Ends] = {}
    for replays in (False, True):
        with forgetful(not replays):
            resumed[replays], _ = run(_moved(loaded, folder / f"replays-{replays}"), at_once, kills, str(number))
    return whole, resumed


@functools.cache
def _sweep(scheduler: str) -> LoadedSweep:
    """Return the sweep, read and checked."""
    with tempfile.TemporaryDirectory() as folder:
        return sweep_of(Path(folder), _SCHEDULERS[scheduler], _POINTS)


def _moved(loaded: LoadedSweep, folder: Path) -> LoadedSweep:
    """Return the same sweep in another directory."""
    return replace(loaded, config=loaded.config.model_copy(update={"output": str(folder)}))


@contextmanager
def without_recipes() -> Iterator[None]:
    """Let no recipe be written and no settings be compared, which takes three quarters of the time and decides nothing.

    That is tried by the tests of sweeps, and by those of this replay in the suite.
    """
    names = ("trial_config", "dump", "dump_sweep", "differences", "precision_then")
    before = {name: vars(plan_module)[name] for name in names}
    nothing: dict[str, Any] = {"dump": "", "dump_sweep": "", "differences": [], "precision_then": "fp32"}
    vars(plan_module).update({name: functools.partial(_given, nothing.get(name)) for name in names})
    try:
        yield
    finally:
        vars(plan_module).update(before)


def _given(value: Any, *_: Any) -> Any:
    return value


class _Nowhere:
    """Stands for a journal that nobody keeps."""

    def append(self, report: TrialReport) -> None:
        """Forget it."""


@contextmanager
def forgetful(wanted: bool) -> Iterator[None]:
    """Let a sweep's scheduler begin anew each time, as Ray's own does."""
    journaled: Callable[..., Any] = sweep_module._journaled
    nowhere: Any = _Nowhere()
    if wanted:
        vars(sweep_module)["_journaled"] = lambda scheduler, _: JournaledScheduler(scheduler, nowhere, [])
    try:
        yield
    finally:
        vars(sweep_module)["_journaled"] = journaled
