"""The live table of a sweep, as large as the terminal is: running trials first, and the best always in sight."""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from raydistill.errors import printable
from raydistill.runs.scores import points
from raydistill.sweeps.directory import TrialRecord
from raydistill.sweeps.file import point_text

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult
    from rich.table import Table

_BEST_SHOWN, _RUNNING_SHOWN = 8, 16  # a cluster runs more than a terminal has lines
_NARROW, _WIDE, _FLAT = 60, 100, 12  # columns and lines
_LONGEST = 24  # letters of a name that keep their place
_AROUND, _AROUND_NARROW = 7, 5  # lines of title, heads, frame, what is left out, and the one of the cursor


@dataclass
class Running:
    """A trial at work."""

    record: TrialRecord
    epoch: int = 0
    epochs: int = 0
    score: float = math.nan
    images_per_second: float = math.nan


@dataclass(frozen=True)
class Ended:
    """A trial that is over, for good or for now."""

    record: TrialRecord
    score: float


@dataclass(frozen=True)
class LiveTable:
    """What is known of the trials at one moment; rich draws it."""

    metric: str
    mode: Literal["max", "min"]
    total: int
    minutes: float
    running: Sequence[Running]
    ended: Sequence[Ended]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Draw it where it is shown, in the size that this has now."""
        yield self._table(options.max_width, console.height)

    def _table(self, width: int, height: int) -> Table:
        from rich import box
        from rich.table import Table
        from rich.text import Text

        narrow = width < _NARROW or height < _FLAT
        running, best = self._chosen(height - (_AROUND_NARROW if narrow else _AROUND))
        shown: list[Running | Ended] = [*running, *best]
        tight = narrow or width < _WIDE
        short = short_names(shown) if tight else {}
        headings = ["trial", "settings", "epoch", self.metric, *([] if tight else ["images/s"]), "status"]
        if narrow:
            headings = ["trial", "epoch", self.metric, "settings"]
        rows = [[_cell(own, heading, short, narrow) for heading in headings] for own in shown]
        longest = [max(map(len, column)) for column in zip(headings, *rows, strict=True)]
        table = Table(
            title=Text(self._title(width)),
            caption=self._left_out(running, best) or None,
            box=box.SIMPLE_HEAD if narrow else box.HEAVY_HEAD,
            show_edge=not narrow,
            padding=(0, 0) if narrow else (0, 1),
            width=width if sum(longest) + 3 * len(headings) + 1 > width else None,
        )
        for heading, letters in zip(headings, longest, strict=True):
            is_settings = heading == "settings"  # they take what the others leave
            table.add_column(
                heading,
                justify="left" if heading in ("trial", "settings", "status") else "right",
                no_wrap=True,
                overflow="ellipsis",
                ratio=1 if is_settings else None,
                min_width=None if is_settings else min(letters, _LONGEST),
            )
        for row in rows:
            table.add_row(*map(Text, row))
        return table

    def _chosen(self, lines: int) -> tuple[list[Running], list[Ended]]:
        """Return the trials that there is room for: of those that ended the best, of those at work the first."""
        pick = heapq.nlargest if self.mode == "max" else heapq.nsmallest
        scored = [own for own in self.ended if not math.isnan(own.score)]
        room = max(1, min(_RUNNING_SHOWN, lines - min(1, len(scored))))
        running = [*self.running[:room]]
        leading = pick(1, [own for own in self.running if not math.isnan(own.score)], key=lambda own: own.score)
        if leading and leading[0] not in running:
            running[-1] = leading[0]
        best = pick(max(1, min(_BEST_SHOWN, lines - len(running))), scored, key=lambda own: own.score)
        return running, best

    def _title(self, width: int) -> str:
        minutes = f"{self.minutes:.0f} min"
        if width < _NARROW:
            return f"{len(self.ended)}/{self.total} ended, {len(self.running)} running, {minutes}"
        return f"{len(self.ended)} of {self.total} trials ended, {len(self.running)} running, {minutes}"

    def _left_out(self, running: Sequence[Running], best: Sequence[Ended]) -> str:
        numbers = {"running": len(self.running) - len(running), "ended": len(self.ended) - len(best)}
        parts = [f"{number} {what}" for what, number in numbers.items() if number]
        return f"not shown: {', '.join(parts)}" if parts else ""


def short_names(trials: Iterable[Running | Ended]) -> dict[str, str]:
    """Return for the settings of trials the last parts of their names, as many as tell them apart.

    >>> a = {"methods.tar.feature.weight": 1, "methods.tar.rpn.weight": 1, "decay.shape": "step"}
    >>> list(short_names([Ended(TrialRecord("p0", "searched", 0, 0, a), 0.5)]).values())
    ['feature.weight', 'rpn.weight', 'shape']
    """
    names = list(dict.fromkeys(name for own in trials for name in own.record.settings))
    short: dict[str, str] = {}
    for name in names:
        parts = name.split(".")
        ends = [".".join(parts[-number:]) for number in range(1, len(parts) + 1)]
        alone = [end for end in ends if sum(f".{other}".endswith(f".{end}") for other in names) == 1]
        short[name] = alone[0] if alone else name
    return short


def _cell(own: Running | Ended, heading: str, short: Mapping[str, str], narrow: bool) -> str:
    record, is_running = own.record, isinstance(own, Running)
    if heading == "trial":
        return printable(record.name)
    if heading == "settings":
        return printable(point_text({short.get(name, name): value for name, value in record.settings.items()}))
    if heading == "status":
        return "running" if is_running else record.status
    if heading == "epoch":
        if isinstance(own, Running):
            return f"{own.epoch}/{own.epochs}" if own.epochs else "-"
        return record.status if narrow and record.status != "finished" else ""
    if heading == "images/s":
        if not isinstance(own, Running):
            return ""
        return "-" if math.isnan(own.images_per_second) else f"{own.images_per_second:.1f}"
    return points(own.score)
