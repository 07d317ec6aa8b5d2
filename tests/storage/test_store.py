"""The object store's files, on a real S3 server on this machine."""

from __future__ import annotations

import multiprocessing
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import boto3
import pytest

from raydistill.errors import UserError
from raydistill.storage import fetcher, retry
from raydistill.storage.store import Store, Version, store
from raydistill.storage.store_errors import ConflictError
from tests.object_store import BUCKET, S3Server, s3_server
from tests.small import PATIENCE
from tests.store_proxy import Proxy, proxy_of


@pytest.fixture(scope="module", autouse=True)
def server() -> Iterator[S3Server]:
    with s3_server() as running:
        yield running


@pytest.fixture
def place(request: pytest.FixtureRequest) -> Store:
    return store(f"s3://{BUCKET}/{request.node.name}")


@pytest.fixture
def proxy(server: S3Server) -> Iterator[Proxy]:
    """What stands before the server of ``through``."""
    with proxy_of(server.url) as proxy:
        yield proxy


@pytest.fixture
def through(proxy: Proxy, request: pytest.FixtureRequest) -> Store:
    """A place of the test's own behind the proxy."""
    return store(f"s3://{BUCKET}/{request.node.originalname}")


@pytest.fixture
def waited(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that were waited, without waiting."""
    seconds: list[float] = []
    monkeypatch.setattr(retry, "time", SimpleNamespace(sleep=seconds.append))
    return seconds


def _put(place: Store, name: str, text: str, folder: Path) -> None:
    file = folder / "source"
    file.write_text(text)
    place.put(file, name)


def test_what_was_put_is_listed_and_fetched(place: Store, tmp_path: Path) -> None:
    before = time.time_ns()
    _put(place, "a/b.txt", "hello", tmp_path)
    _put(place, "empty", "", tmp_path)
    entries = place.entries()
    assert {name: entry.size for name, entry in entries.items()} == {"a/b.txt": 5, "empty": 0}
    assert abs(entries["a/b.txt"].modified - before) < 60e9
    assert place.entry("a/b.txt") == entries["a/b.txt"]
    place.fetch("a/b.txt", tmp_path / "new" / "file")
    assert (tmp_path / "new" / "file").read_text() == "hello"


def test_a_put_replaces_what_was_there(place: Store, tmp_path: Path) -> None:
    _put(place, "file", "one", tmp_path)
    _put(place, "file", "second", tmp_path)
    place.fetch("file", tmp_path / "file")
    assert (tmp_path / "file").read_text() == "second"


def test_copies_stay_where_the_first_is_deleted(place: Store, tmp_path: Path) -> None:
    _put(place, "one", "text", tmp_path)
    place.copy("one", "two")
    place.delete("one")
    place.delete("one")
    assert [*place.entries()] == ["two"]


def test_a_place_without_objects_is_empty(place: Store) -> None:
    assert place.entries() == {}
    assert place.entry("any") is None


def test_a_missing_object_leaves_no_file(place: Store, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        place.fetch("nothing", tmp_path / "file")
    assert [*tmp_path.iterdir()] == []


def test_a_missing_bucket_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("text")
    with pytest.raises(
        UserError, match=r"^s3://missing/x: must be on an object store .* got: 404 Not Found: NoSuchBucket: "
    ):
        store("s3://missing/x").entries()
    with pytest.raises(UserError, match=r"^s3://missing/x/file: must be on an object store .* no such bucket$"):
        store("s3://missing/x").put(tmp_path / "file", "file")


def test_what_is_no_such_place_is_a_sentence() -> None:
    with pytest.raises(UserError, match=r"^s3://: must be a place on an object store"):
        store("s3://")


# Conditions -----------------------------------------------------------------------------------------------------------
def test_of_eight_that_create_an_object_at_once_one_does(place: Store) -> None:
    together = threading.Barrier(8)

    def create(number: int) -> Version | None:
        together.wait()
        try:
            return place.create(f"{number}".encode(), "one")
        except ConflictError:
            return None

    with ThreadPoolExecutor(8) as pool:
        versions = [*pool.map(create, range(8))]
    (winner,) = (number for number, version in enumerate(versions) if version is not None)
    assert place.read("one") == (f"{winner}".encode(), versions[winner])


def test_an_object_is_replaced_in_the_state_that_was_seen_and_in_no_other(place: Store) -> None:
    first = place.create(b"first", "one")
    second = place.replace(b"second", "one", first)
    with pytest.raises(ConflictError):
        place.replace(b"third", "one", first)
    assert place.read("one") == (b"second", second)
    place.delete("one")
    with pytest.raises(ConflictError):
        place.replace(b"third", "one", second)


# Failures -------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("status", "said"), [(503, "503 Service Unavailable"), (429, "429"), (None, "HTTP error")])
def test_a_store_that_is_busy_or_out_of_reach_is_asked_again_with_a_word(
    status: int | None,
    said: str,
    proxy: Proxy,
    through: Store,
    waited: list[float],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    proxy.failures, proxy.status = 2, status
    through.write(b"text", "file")
    assert waited == [0.5, 2.0]
    assert caplog.text.count(f"{through.uri}/file: storage fails ({said}") == 2
    proxy.failures = 1
    through.fetch("file", tmp_path / "file")
    assert (tmp_path / "file").read_text() == "text"
    assert len(proxy.requests) == 5  # the client itself has not asked again


@pytest.mark.parametrize(
    ("status", "said"), [(403, "403 Forbidden"), (401, "401 Unauthorized"), (400, "400 Bad Request"), (501, "501 ")]
)
def test_a_store_that_refuses_is_asked_once(
    status: int, said: str, proxy: Proxy, through: Store, waited: list[float]
) -> None:
    proxy.failures, proxy.status = 99, status
    for ask in (lambda: through.write(b"text", "file"), through.entries, lambda: through.entry("file")):
        with pytest.raises(UserError, match=rf"^{through.uri}.*: must be on .* reached and used, got: {said}"):
            ask()
    assert (len(proxy.requests), waited) == (3, [])


def test_what_stays_out_of_reach_is_a_sentence(proxy: Proxy, through: Store, waited: list[float]) -> None:
    proxy.failures, proxy.status = 99, None
    with pytest.raises(UserError, match=rf"^{through.uri}/file: must be on .* used, got: HTTP error: error sending"):
        through.write(b"text", "file")
    assert waited == [*retry.WAITS]


def test_an_object_that_vanished_is_no_failure(proxy: Proxy, through: Store, waited: list[float]) -> None:
    proxy.failures, proxy.status = 3, 404
    assert through.entry("file") is None
    with pytest.raises(FileNotFoundError):
        through.read("file")
    through.delete("file")
    assert waited == []


# Listings -------------------------------------------------------------------------------------------------------------
def test_objects_that_stand_for_folders_are_not_listed(place: Store) -> None:
    for name in ("", "a/", "a/b/", "a/b/c.txt", "a/empty"):
        boto3.client("s3").put_object(Bucket=BUCKET, Key=f"{place.path}/{name}", Body=b"")
    assert place.entries().keys() == {"a/b/c.txt", "a/empty"}


def test_a_name_that_cannot_be_spoken_of_is_a_sentence(place: Store) -> None:
    boto3.client("s3").put_object(Bucket=BUCKET, Key=f"{place.path}/a//b.txt", Body=b"x")
    with pytest.raises(UserError, match=rf"^{place.uri}: .*, got: an object whose name .*{place.path}/a//b.txt"):
        place.entries()


def test_any_other_name_comes_back_as_it_is(place: Store, tmp_path: Path) -> None:
    names = {"ü b+%2F/c d", "~%zz#?*[x]", "a:b"}
    for name in names:
        place.write(name.encode(), name)
    assert place.entries().keys() == names
    listed = boto3.client("s3").list_objects_v2(Bucket=BUCKET, Prefix=f"{place.path}/")["Contents"]
    assert {entry["Key"] for entry in listed} == {f"{place.path}/{name}" for name in names}
    for name in names:
        place.fetch(name, tmp_path / "file")
        assert (tmp_path / "file").read_text() == name


def test_a_large_file_is_put_in_parts(proxy: Proxy, through: Store, tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(bytes(range(256)) * 24_000)  # 6 MB
    through.put(tmp_path / "large", "large")
    assert sum("partNumber=" in request for request in proxy.requests) == 2
    through.fetch("large", tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == (tmp_path / "large").read_bytes()


# Forked processes -----------------------------------------------------------------------------------------------------
def _in_a_fork(work: Callable[[], None]) -> int | None:
    process = multiprocessing.get_context("fork").Process(target=work, daemon=True)  # as a loader's are
    process.start()
    process.join(PATIENCE)
    process.kill()
    return process.exitcode


def test_a_forked_process_is_told_instead_of_waiting_for_ever(place: Store) -> None:
    def work() -> None:
        with pytest.raises(RuntimeError, match="before this process was forked"):
            place.entries()

    place.write(b"text", "file")
    assert _in_a_fork(work) == 0


def test_a_forked_process_fetches(place: Store, tmp_path: Path) -> None:
    def work() -> None:
        fetcher.fetch(place.uri, "file", tmp_path / "file")
        with pytest.raises(FileNotFoundError):
            fetcher.fetch(place.uri, "none", tmp_path / "none")
        with pytest.raises(UserError, match="no bucket"):
            fetcher.fetch("s3://", "none", tmp_path / "none")

    place.write(b"text", "file")
    assert _in_a_fork(work) == 0
    assert [file.name for file in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_text() == "text"
