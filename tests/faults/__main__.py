"""``python -m tests.faults``: disturb runs in many ways, many times, and print the table of what became of them."""

from __future__ import annotations

import argparse
import contextlib
import csv
import random
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TextIO

from tests.faults.kinds import KINDS, Kind
from tests.faults.on_ray import RAY_KINDS
from tests.faults.runs import Attempt

COLUMNS = ("kind", "times", "recovered", "equal", "lost_mean", "lost_most", "seconds_most")
ALL_KINDS: dict[str, Kind] = KINDS | RAY_KINDS


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; 0 when every run recovered with an equal result."""
    options = _parser().parse_args(arguments)
    streams: list[TextIO] = [sys.stdout]
    with contextlib.ExitStack() as files:
        if options.csv:
            streams.append(files.enter_context(Path(options.csv).open("w", newline="", encoding="utf-8")))
        writers = [csv.DictWriter(stream, COLUMNS, lineterminator="\n") for stream in streams]
        for writer in writers:
            writer.writeheader()
        rows = []
        for kind in options.kinds:
            rows.append(_row(kind, [*attempts(kind, ALL_KINDS[kind], options.times, options.seed)]))
            for writer in writers:
                writer.writerow(rows[-1])
            for stream in streams:
                stream.flush()
    return 0 if all(row["times"] == row["recovered"] == row["equal"] for row in rows) else 1


def attempts(name: str, kind: Kind, times: int, seed: int) -> Iterator[Attempt]:
    """Try a kind; what a run that did not recover has left stays where it says."""
    for number in range(times):
        folder = Path(tempfile.mkdtemp(prefix=f"{name}-"))
        attempt = kind(folder, random.Random(f"{seed}/{name}/{number}"))
        yield attempt
        if attempt.recovered and attempt.equal:
            shutil.rmtree(folder)
        else:
            sys.stderr.write(f"{name}, try {number + 1}: {attempt}; its files: {folder}\n")


def _row(name: str, tried: list[Attempt]) -> dict[str, object]:
    """Return a kind's row of the table."""
    lost = [attempt.lost for attempt in tried if attempt.lost is not None]
    return {
        "kind": name,
        "times": len(tried),
        "recovered": sum(attempt.recovered for attempt in tried),
        "equal": sum(attempt.equal for attempt in tried),
        "lost_mean": round(sum(lost) / len(lost), 2) if lost else None,
        "lost_most": max(lost, default=None),
        "seconds_most": round(max(attempt.seconds for attempt in tried), 1),
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--times", type=int, default=5, metavar="N", help="tries of each kind (default: 5)")
    known = ", ".join(ALL_KINDS)
    parser.add_argument(
        "--kinds", nargs="+", choices=ALL_KINDS, default=[*ALL_KINDS], metavar="KIND", help=f"of {known}"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the random moments")
    parser.add_argument("--csv", metavar="FILE", help="where the table is written too")
    return parser


if __name__ == "__main__":
    sys.exit(main())
