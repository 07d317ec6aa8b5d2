"""What was computed, kept in files: found again, within a limit, whatever the disk does."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO

import pytest

from raydistill.storage import kept_files
from raydistill.storage.kept_files import KeptFiles, kept_folder, kept_sources, remove_source


@pytest.fixture(autouse=True)
def _empty_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_files, "_FREE", 0)


def put(files: KeptFiles, name: str, content: bytes) -> None:
    files.write(name, len(content), lambda: iter([content]))


def opened(folder: Path, source: str = "one", limit: int = 10**6) -> KeptFiles:
    return KeptFiles(folder, source, {"teacher": "resnet18"}, limit)


def age(files: KeptFiles, name: str, seconds: float) -> None:
    then = time.time() - seconds
    os.utime(files.path / name[:2] / name, (then, then))


def test_what_was_written_is_read_by_another_process_and_nothing_else_is(tmp_path: Path) -> None:
    put(opened(tmp_path), "abc", b"123")
    assert opened(tmp_path).read("abc") == b"123"
    assert opened(tmp_path).read("abd") is None
    assert opened(tmp_path, "other").read("abc") is None


def test_a_run_never_drives_out_its_own_files(tmp_path: Path) -> None:
    files = opened(tmp_path, limit=10)
    for name in ("aa", "bb", "cc"):
        put(files, name, b"1234")
    assert [files.read(name) for name in ("aa", "bb", "cc")] == [b"1234", b"1234", None]
    assert files.full == "teacher.cache_max_gb=1e-08, and all that is there is in use"


def test_files_of_other_runs_go_first_the_least_recently_used_of_them(tmp_path: Path) -> None:
    earlier = opened(tmp_path, "earlier")
    for name, seconds in (("aa", 5000), ("bb", 9000), ("cc", 0)):
        put(earlier, name, b"1234")
        age(earlier, name, seconds)
    files = opened(tmp_path, limit=12)
    put(files, "dd", b"1234")
    assert [earlier.read(name) is not None for name in ("aa", "bb", "cc")] == [True, False, True]
    put(files, "ee", b"1234")
    assert files.read("ee") is None, "aa was just used, so it may be in use"
    assert files.full


def test_reading_counts_as_use(tmp_path: Path) -> None:
    files = opened(tmp_path)
    put(files, "aa", b"1")
    age(files, "aa", 10_000)
    files.read("aa")
    assert time.time() - kept_sources(tmp_path)[0].used < 100


def test_a_full_disk_ends_the_keeping_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = opened(tmp_path)

    class Full:
        def __enter__(self) -> IO[bytes]:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        def __exit__(self, *_: object) -> None: ...

    monkeypatch.setattr(kept_files, "whole", lambda _: Full())
    put(files, "aa", b"1")
    assert files.full == os.strerror(errno.ENOSPC)
    assert files.read("aa") is None


def test_a_disk_that_is_nearly_full_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept_files, "_FREE", 10**18)
    files = opened(tmp_path)
    put(files, "aa", b"1")
    assert files.full == "its disk is full, and all that is there is in use"


def test_an_interrupted_write_leaves_nothing(tmp_path: Path) -> None:
    def broken() -> Iterator[bytes]:
        yield b"12"
        raise KeyboardInterrupt

    files = opened(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        files.write("aa", 4, broken)
    assert not list((files.path / "aa").iterdir())


def test_sources_tell_what_they_are_and_can_be_removed(tmp_path: Path) -> None:
    assert kept_sources(tmp_path / "nowhere") == []
    put(opened(tmp_path), "aa", b"123")
    opened(tmp_path, "empty")
    sources = {source.path.name: source for source in kept_sources(tmp_path)}
    assert (sources["one"].num_files, sources["one"].num_bytes) == (1, 3)
    assert sources["one"].about == {"teacher": "resnet18"}
    remove_source(sources["one"].path)
    assert [source.path.name for source in kept_sources(tmp_path)] == ["empty"]


def test_a_source_that_was_cleared_under_a_run_is_begun_anew(tmp_path: Path) -> None:
    files = opened(tmp_path)
    put(files, "aa", b"1")
    remove_source(files.path)
    assert files.read("aa") is None
    put(files, "bb", b"1")
    assert files.read("bb") == b"1"
    assert [source.about for source in kept_sources(tmp_path)] == [{"teacher": "resnet18"}]


def test_runs_that_keep_the_same_at_the_same_time_read_whole_files(tmp_path: Path) -> None:
    content = bytes(range(256)) * 400

    def use(_: int) -> set[bytes]:
        files, found = opened(tmp_path, limit=10**9), set()
        for turn in range(60):
            name = f"{turn % 7:02}"
            read = files.read(name)
            found.add(bytes(read) if read is not None else content)
            put(files, name, content)
        return found

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(use, range(4))) == [{content}] * 4
    assert kept_sources(tmp_path)[0].num_files == 7


def test_the_folder_lies_beside_the_downloads(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RAYDISTILL_CACHE", str(tmp_path))
    assert kept_folder(None) == tmp_path / "teacher"
    assert kept_folder("/elsewhere") == Path("/elsewhere")
