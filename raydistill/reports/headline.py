"""The result in a few sentences: what was gained, on how many pairs, and how much of it may be luck."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import pandas as pd

from raydistill.reports.build import Report
from raydistill.reports.luck import FEWEST_PAIRS, Best, is_gain
from raydistill.reports.trials import TEST
from raydistill.reports.wording import OTHERS, described, extreme, gains_over, has_test, measure, point_name, state

_GAIN = "gain_over_baseline"


def headline(report: Report) -> list[str]:
    """Return the result in a few sentences: first what was confirmed under fresh seeds, if anything was."""
    if report.kind == "run":
        return list(_of_runs(report))
    if report.best is None:
        return ["No searched trial has a score yet."]
    again = [] if report.confirmation is None else [_confirmed(report, report.confirmation)]
    if not report.best.differs:
        return [*again, _nothing_differs(report, report.best)]
    return [*again, *_of_the_search(report, report.best)]


def holds(report: Report, row: pd.Series[Any], gain: str = _GAIN) -> bool:
    """Return whether a gain is more than chance, and one for the better."""
    return is_gain(row, gain, report.mode)


def _of_runs(report: Report) -> Iterator[str]:
    rows = report.summary[(report.summary["stage"] == "distilled") & (report.summary["n"] > 0)]
    for _, row in rows.head(1).iterrows():
        yield f"Distilled student{described(report, row)}: {_result(report, row)}."
        if len(rows) > 1:
            yield f"It has the {extreme(report)} {report.metric} of {len(rows)} kinds of runs."


def _of_the_search(report: Report, best: Best) -> Iterator[str]:
    row = best.row
    what = "Best" if best.word == "best" else "Better than the student alone" if best.is_better else ""
    what = what or f"{best.word.capitalize()} {report.metric}{'' if best.complete else ' so far'}"
    yield f"{what}: {point_name(report, row)}{described(report, row)}: {_result(report, row)}."
    if not best.complete:
        yield f"No point has finished on every seed yet: the {best.word} of all that have a score is named."
        return
    if not best.is_better:
        yield f"It is not called better than the student alone: {_why_not(report, best)}."
    if best.points > 1:
        yield _chance(report, best)
    if best.is_better and best.rivals:
        yield _among_the_points(best)


def _why_not(report: Report, best: Best) -> str:
    row, number = best.row, best.points
    if best.refuted:
        return "fresh seeds do not show it"
    gain, pairs = row.get(_GAIN, math.nan), row.get(f"{_GAIN}_pairs", 0)
    if pd.isna(gain):
        return "there is no student alone of the same seed"
    if pairs < FEWEST_PAIRS:
        return f"that takes {FEWEST_PAIRS} pairs, and there {'is' if pairs == 1 else 'are'} {pairs:.0f}"
    if (gain > 0) != (report.mode == "max"):
        return "it gained nothing"
    sign = "+" if report.mode == "max" else "-"
    needed = f"{sign}{measure(report, row[f'{_GAIN}_needed'], math.nan)}"
    return (
        f"with this noise the {best.word} of {number} would have to gain {needed}"
        if number > 1
        else (f"with this noise it would have to gain {needed}")
    )


def _chance(report: Report, best: Best) -> str:
    text = f"It is the {best.word} of {best.points} points"
    if math.isnan(best.by_chance):
        return f"{text}."
    expected = measure(report, best.by_chance, math.nan, "+")
    if best.seeds > 1:
        return f"{text}: where no setting has any effect, the {extreme(report)} of so many gains {expected} by chance."
    return (
        f"{text}: if all that they differ by is chance, which one seed cannot tell, the {extreme(report)} of so many "
        f"gains {expected}."
    )


def _among_the_points(best: Best) -> str:
    if not best.stands_out:
        return "The points differ among each other no more than by chance: which of them is taken says little."
    if best.alike:
        return f"{best.alike} of the {best.rivals} other points cannot be told from it."
    return "It is better than each of the others."


def _nothing_differs(report: Report, best: Best) -> str:
    if best.row["mean"] == 0:
        return f"Every {report.metric} is 0: no point is better than another."
    return f"All points have the same {report.metric}, {measure(report, best.row['mean'], math.nan)}: none is better."


def _confirmed(report: Report, row: pd.Series[Any]) -> str:
    """Return what came out under fresh seeds, on which nothing was chosen."""
    number, gain = int(row["n"]), row.get(_GAIN, math.nan)
    seeds = f"{number} fresh seed{'' if number == 1 else 's'} that nothing was chosen on"
    what = "Confirmed" if holds(report, row) else "Not confirmed"
    if pd.isna(gain) or row[f"{_GAIN}_pairs"] < FEWEST_PAIRS:
        what = "Run again"
    (name, *_), result = point_name(report, row).split(","), ", ".join(_gains(report, row, ("baseline",)))
    score = f"{report.metric} {measure(report, row['mean'], row['std'])}"
    rest = f"; {left}" if (left := state(row)) else ""
    text = f"{what} on {seeds}: {name}{described(report, row)}: {result or 'no pair yet'}, {score}{rest}."
    if what == "Run again":
        text += f" An answer takes {FEWEST_PAIRS} pairs."
    return text


def _result(report: Report, row: pd.Series[Any]) -> str:
    trials = f"{row['n']} trial{'' if row['n'] == 1 else 's'}"
    others = gains_over(report)
    parts = [f"{report.metric} {measure(report, row['mean'], row['std'])} ({trials})", *_gains(report, row, others)]
    if has_test(report) and pd.notna(row[f"{TEST}mean"]):
        on_test = f"on the test split {measure(report, row[f'{TEST}mean'], row[f'{TEST}std'])}"
        parts[-1] += f"; {', '.join([on_test, *_gains(report, row, others, TEST)])}"
    return ", ".join(parts)


def _gains(report: Report, row: pd.Series[Any], others: Sequence[str], prefix: str = "") -> list[str]:
    """Return the gains in words: over how many pairs, and over the student alone with the 95% interval."""
    parts = []
    for other in others:
        name = f"{prefix}gain_over_{other}"
        gain = measure(report, row[name], row[f"{name}_std"], "+")
        if gain == "-":
            continue
        notes = []
        if other == "baseline" and pd.notna(row[f"{name}_low"]):
            low, high = (measure(report, row[f"{name}_{end}"], math.nan, "+") for end in ("low", "high"))
            notes.append(f"95% interval {low} to {high}")
        if other != "teacher":
            notes.append(f"{row[f'{name}_pairs']} pair{'' if row[f'{name}_pairs'] == 1 else 's'}")
        in_brackets = f" ({', '.join(notes)})" if notes else ""
        parts.append(f"{gain} {'against' if other == 'teacher' else 'over'} {OTHERS[other]}{in_brackets}")
    return parts
