"""The object store's files, on a real S3 server on this machine."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from raydistill.errors import UserError
from raydistill.storage.store import Store, store
from tests.object_store import BUCKET, s3_server


@pytest.fixture(scope="module", autouse=True)
def _server() -> Iterator[None]:
    with s3_server():
        yield


@pytest.fixture
def place(request: pytest.FixtureRequest) -> Store:
    return store(f"s3://{BUCKET}/{request.node.name}")


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
    with pytest.raises(UserError, match=r"^s3://missing/x: must be on an object store .* no bucket missing$"):
        store("s3://missing/x").entries()
    with pytest.raises(UserError, match=r"^s3://missing/x/file: must be on an object store"):
        store("s3://missing/x").put(tmp_path / "file", "file")


def test_what_is_no_such_place_is_a_sentence() -> None:
    with pytest.raises(UserError, match=r"^s3://: must be a place on an object store"):
        store("s3://")
