"""Tests of raydistill.storage.cache."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from raydistill.errors import UserError
from raydistill.storage.cache import ObjectCache, cache_folder
from tests.small import PATIENCE


def writes(content: bytes) -> Callable[[Path], None]:
    def fetch(path: Path) -> None:
        path.write_bytes(content)

    return fetch


def must_not_be_called(path: Path) -> None:
    raise AssertionError


def use(cache: ObjectCache, name: str, size: int = 4) -> None:
    cache.open(name, size, writes(bytes(size))).close()


def age(cache: ObjectCache, name: str, seconds: float) -> None:
    """Let the last use of a file lie ``seconds`` back."""
    then = time.time() - seconds
    os.utime(cache._file(name), (then, then))


def test_what_was_fetched_once_is_not_fetched_again(tmp_path: Path) -> None:
    cache = ObjectCache(str(tmp_path / "new" / "folder"))
    assert not cache.holds("a", 5)
    with cache.open("a", 5, writes(b"hello")) as file:
        assert file.read() == b"hello"
    assert cache.holds("a", 5)
    with cache.open("a", 5, must_not_be_called) as file:
        assert file.read() == b"hello"


def test_a_copy_that_a_power_failure_cut_off_is_fetched_again(tmp_path: Path) -> None:
    cache = ObjectCache(str(tmp_path))
    use(cache, "a")
    cache._file("a").write_bytes(b"")
    assert not cache.holds("a", 4)
    with cache.open("a", 4, writes(b"more")) as file:
        assert file.read() == b"more"


def test_over_the_limit_the_least_recently_used_go(tmp_path: Path) -> None:
    cache = ObjectCache(str(tmp_path), max_bytes=40)
    for seconds, name in ((300, "old"), (200, "used again"), (100, "new")):
        use(cache, name, 12)
        age(cache, name, seconds)
    use(cache, "used again", 12)
    use(cache, "one more", 12)
    assert [cache.holds(name, 12) for name in ("old", "used again", "new", "one more")] == [False, True, True, True]
    assert sum(file.stat().st_size for file in tmp_path.glob("*/*")) <= 40


def test_a_file_that_is_open_can_be_read_after_it_had_to_go(tmp_path: Path) -> None:
    cache = ObjectCache(str(tmp_path), max_bytes=10)
    with cache.open("a", 8, writes(b"8 bytes.")) as file:
        age(cache, "a", 100)
        use(cache, "b", 8)
        assert not cache.holds("a", 8)
        assert file.read() == b"8 bytes."


def test_what_is_larger_than_the_limit_is_read_all_the_same(tmp_path: Path) -> None:
    cache = ObjectCache(str(tmp_path), max_bytes=3)
    with cache.open("a", 5, writes(b"hello")) as file:
        assert file.read() == b"hello"


def test_files_are_counted_anew_where_the_count_was_lost(tmp_path: Path) -> None:
    cache = ObjectCache(str(tmp_path), max_bytes=20)
    use(cache, "a", 15)
    (tmp_path / "bytes_used").unlink()
    use(cache, "b", 15)
    assert not cache.holds("a", 15)


def test_what_changed_since_it_was_listed_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^the thing: must stay as it was when it was listed, 5 bytes, got 4;"):
        ObjectCache(str(tmp_path)).open("the thing", 5, writes(b"four"))


def test_a_folder_that_cannot_be_written_to_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"^downloads\.folder: .*/file must be a folder to write to .* Not a directory"):
        ObjectCache(str(tmp_path / "file")).open("a", 4, writes(b"four"))


def test_one_of_many_threads_fetches(tmp_path: Path) -> None:
    cache, calls = ObjectCache(str(tmp_path)), []

    def fetch(path: Path) -> None:
        calls.append(path)
        time.sleep(0.1)
        path.write_bytes(b"four")

    threads = [threading.Thread(target=lambda: cache.open("a", 4, fetch).close()) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(calls) == 1


def _fetch_everything(folder: str, process: int) -> None:
    """Read 60 files twice through a cache that holds about half of them, and note what was fetched."""
    cache = ObjectCache(folder, max_bytes=30_000)
    for number in [*range(60), *range(60)]:
        content = bytes([number]) * 1000

        def fetch(path: Path, content: bytes = content) -> None:
            part = path.with_suffix(f".{process}")
            part.write_bytes(content)
            part.replace(path)

        with cache.open(str(number), 1000, fetch) as file:
            assert file.read() == content


def test_processes_share_a_folder_that_is_too_small(tmp_path: Path) -> None:
    forked = multiprocessing.get_context("fork")
    processes = [forked.Process(target=_fetch_everything, args=(str(tmp_path), number)) for number in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(PATIENCE)
    assert [process.exitcode for process in processes] == [0, 0, 0]
    files = [*tmp_path.glob("*/*")]
    assert sum(file.stat().st_size for file in files) <= 30_000
    assert not [file for file in files if file.suffix]


def test_the_folder_follows_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "general"))
    monkeypatch.delenv("RAYDISTILL_CACHE", raising=False)
    assert cache_folder() == tmp_path / "general" / "raydistill"
    monkeypatch.setenv("RAYDISTILL_CACHE", str(tmp_path / "own"))
    assert cache_folder() == tmp_path / "own"
    assert ObjectCache().path == tmp_path / "own" / "objects"
    assert ObjectCache("/elsewhere").path == Path("/elsewhere")
