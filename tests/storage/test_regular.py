"""Tests of raydistill.storage.regular."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from raydistill.storage.regular import UnfitFileError, check_regular, open_regular, read_bytes, read_text

ODD: dict[str, tuple[Callable[[Path], object], str]] = {
    "a FIFO": (os.mkfifo, "a named pipe"),
    "a link to a device": (lambda path: path.symlink_to("/dev/zero"), "a device"),
    "a file that is too large": (lambda path: path.write_bytes(bytes(11)), "1 kB, more than the 1 kB"),
}


@pytest.mark.parametrize("kind", ODD)
def test_what_never_ends_or_is_too_large_is_refused_before_it_is_opened(tmp_path: Path, kind: str) -> None:
    make, said = ODD[kind]
    make(tmp_path / "a")
    for look in (check_regular, open_regular, read_bytes, read_text):
        with pytest.raises(UnfitFileError, match=said):
            look(tmp_path / "a", 10)


def test_a_regular_file_is_read_also_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"0123456789")
    (tmp_path / "b").symlink_to("a")
    assert read_bytes(tmp_path / "b", 10) == b"0123456789"
    assert read_text(tmp_path / "b", 10) == "0123456789"
    with open_regular(tmp_path / "b", 10) as file:
        assert file.read(3) == b"012"


def test_a_file_that_says_it_is_empty_is_read_no_further_than_allowed() -> None:
    with pytest.raises(UnfitFileError, match="more than the 1 kB"):
        read_bytes(Path("/proc/self/status"), 10)


def test_a_folder_and_a_file_that_is_not_there_are_what_they_are_to_the_system(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError):
        open_regular(tmp_path, 10)
    with pytest.raises(FileNotFoundError):
        open_regular(tmp_path / "gone", 10)
