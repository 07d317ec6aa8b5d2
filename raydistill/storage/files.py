"""Files that may belong on storage elsewhere too: put there, removed, renamed and kept in several versions."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Protocol


class Remote(Protocol):
    """Storage elsewhere that has what lies below a folder of this machine; a call returns once that is durable."""

    def put(self, path: Path) -> None:
        """Take over a file that was written."""

    def copy(self, path: Path, to: Path) -> None:
        """Copy a file that is there; ``to`` is the same on this machine already."""

    def delete(self, path: Path) -> None:
        """Remove a file."""


def remove(path: Path, remote: Remote | None = None) -> None:
    """Remove a file, also from ``remote``; one that is not there is no error."""
    if remote is not None and path.is_file():
        remote.delete(path)
    path.unlink(missing_ok=True)


def rename(path: Path, to: Path, remote: Remote | None = None) -> None:
    """Give a file another name, also on ``remote``."""
    _renamed(path, to, remote)
    if remote is not None:
        remote.delete(path)


def _renamed(path: Path, to: Path, remote: Remote | None) -> None:
    """Give a file another name here; ``remote`` keeps it under the old one too, until that is written anew."""
    path.replace(to)
    if remote is not None:
        remote.copy(path, to)


def versions(path: Path) -> list[Path]:
    """Return what is there of ``path`` and of the versions that ``make_way`` kept of it, newest first.

    ``checkpoint.1.pt`` is the version before ``checkpoint.pt``.
    """
    beside = path.parent.glob(f"{path.stem}.*{path.suffix}")
    there = versions_among(path.name, [file.name for file in beside])
    older = [path.with_name(name) for name in there if name != path.name]
    return [path, *older] if path.is_file() else older


def versions_among(name: str, names: Iterable[str]) -> list[str]:
    """Return which of ``names`` are a file's and its earlier versions', newest first.

    >>> versions_among("best.pt", ["best.old.pt", "best.10.pt", "last.pt", "best.2.pt", "best.pt"])
    ['best.pt', 'best.2.pt', 'best.10.pt']
    """
    stem, _, suffix = name.rpartition(".")
    numbered = {other.removeprefix(f"{stem}.").removesuffix(f".{suffix}"): other for other in names if other != name}
    mine = {number: other for number, other in numbered.items() if other == f"{stem}.{number}.{suffix}"}
    older = [mine[number] for number in sorted(filter(str.isdecimal, mine), key=int)]
    return [name, *older] if name in names else older


def make_way(path: Path, keep: int, remote: Remote | None = None) -> None:
    """Number the versions of ``path`` anew, so that the next one is one of ``keep``.

    Whoever is killed in between leaves a gap in the numbers, and every version but the oldest.
    """
    there = versions(path)
    for file in there[keep - 1 :]:
        remove(file, remote)
    for number, file in reversed([*enumerate(there[: keep - 1], start=1)]):
        _renamed(file, path.with_name(f"{path.stem}.{number}{path.suffix}"), remote)
