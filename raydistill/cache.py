"""``python -m raydistill.cache``: what teachers' answers are kept on this machine, and a way to remove them."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence

from raydistill import VERSION
from raydistill.command import run_command
from raydistill.errors import UserError, printable
from raydistill.storage.kept_files import KeptSource, kept_folder, kept_sources, remove_source, size_in_words


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    options = command_line().parse_args(arguments)
    return run_command(lambda: _cache(options))


def _cache(options: argparse.Namespace) -> int:
    folder = kept_folder(options.folder)
    sources = kept_sources(folder)
    if options.clear is not None:
        removed = _removed(sources, options.clear)
        size = sum(source.num_bytes for source in removed)
        text = f"{folder}: removed {len(removed)} of {len(sources)}, {size_in_words(size)}\n"
        sys.stdout.write(printable(text, lines=True))
        return 0
    if options.json:
        found = [
            {"name": s.path.name, "answers": s.num_files, "bytes": s.num_bytes, "used": s.used, **s.about}
            for s in sources
        ]
        sys.stdout.write(f"{json.dumps({'folder': str(folder), 'teachers': found}, indent=1)}\n")
        return 0
    sys.stdout.write(printable(as_text(str(folder), sources, time.time()), lines=True))
    return 0


def as_text(folder: str, sources: list[KeptSource], now: float) -> str:
    """Return what is kept as a table; ``now`` in seconds since 1970."""
    if not sources:
        return f"{folder}: nothing is kept\n"
    lines = [f"{folder}: {size_in_words(sum(source.num_bytes for source in sources))}"]
    lines.append(f"{'name':<18}{'teacher':<20}{'input':>11}  {'in':<6}{'files':>9}{'size':>9}  last used")
    for source in sources:
        about = source.about
        given = about.get("input")
        sides = f"{given.get('min_size')}-{given.get('max_size')}" if isinstance(given, dict) else ""
        lines.append(
            f"{source.path.name:<18}{about.get('teacher', '?')!s:<20.19}{sides:>11}  {about.get('precision', '?')!s:<6}"
            f"{source.num_files:>9,}{size_in_words(source.num_bytes):>9}  {_ago(now - source.used)}"
        )
    return "\n".join([*lines, "remove some: raydistill cache --clear NAME; all: raydistill cache --clear", ""])


def _removed(sources: list[KeptSource], names: list[str]) -> list[KeptSource]:
    """Remove the sources of these names, or all where there is none.

    Raises:
        UserError: where there is none of a name.
    """
    known = {source.path.name: source for source in sources}
    unknown = [name for name in names if name not in known]
    if unknown:
        there = ", ".join(known) or "nothing"
        raise UserError(f"--clear: must be names that raydistill cache shows, got {unknown[0]}; there is {there}")
    chosen = [known[name] for name in names] if names else sources
    for source in chosen:
        remove_source(source.path)
    return chosen


def _ago(seconds: float) -> str:
    for unit, length in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds >= length:
            number = int(seconds // length)
            return f"{number} {unit}{'s' if number > 1 else ''} ago"
    return "just now"


def command_line() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m raydistill.cache",
        description="Show what teachers said of images, kept on this machine so that they need not be asked again "
        "(teacher.cache=disk), or remove it.",
    )
    parser.add_argument("--folder", metavar="DIR", help="as teacher.cache_folder (default: that of its default)")
    parser.add_argument("--clear", nargs="*", metavar="NAME", help="remove what is kept of these, or all of it")
    parser.add_argument("--json", action="store_true", help="write it to stdout as JSON")
    parser.add_argument("--version", action="version", version=VERSION)
    return parser


if __name__ == "__main__":
    sys.exit(main())
