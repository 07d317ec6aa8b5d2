"""Tests of raydistill.storage.parcels: weights that a worker may not see."""

from __future__ import annotations

from pathlib import Path

import pytest

from raydistill.storage.cache import ObjectCache
from raydistill.storage.parcels import NOTHING, Parcel, ShippedFile, checksum_of, find

CONTENT = b"weights of a net"


class Sender:
    """Counts how often the content is brought over."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self) -> bytes:
        self.times += 1
        return CONTENT


@pytest.fixture
def sender() -> Sender:
    return Sender()


@pytest.fixture
def cache(tmp_path: Path) -> ObjectCache:
    return ObjectCache(str(tmp_path / "cache"))


def parcel(path: Path, sender: Sender) -> Parcel:
    return Parcel(str(path), len(CONTENT), checksum_of(CONTENT), sender)


def read(parcel: Parcel, cache: ObjectCache) -> bytes:
    with ShippedFile(parcel, cache).open() as file:
        return file.read()


def test_a_worker_that_sees_the_file_reads_it_and_nothing_is_sent(
    tmp_path: Path, sender: Sender, cache: ObjectCache
) -> None:
    (tmp_path / "best.pt").write_bytes(CONTENT)
    assert read(parcel(tmp_path / "best.pt", sender), cache) == CONTENT
    assert sender.times == 0


def test_a_worker_that_lacks_the_file_gets_it_once(tmp_path: Path, sender: Sender, cache: ObjectCache) -> None:
    for name in ("best.pt", "best.pt", "the same under another name.pt"):
        assert read(parcel(tmp_path / "not here" / name, sender), cache) == CONTENT
    assert sender.times == 1


@pytest.mark.parametrize("other", [b"weights of a nut", b"longer weights of a net"])
def test_another_file_at_the_same_path_is_not_taken_for_it(
    tmp_path: Path, sender: Sender, cache: ObjectCache, other: bytes
) -> None:
    (tmp_path / "best.pt").write_bytes(other)
    assert read(parcel(tmp_path / "best.pt", sender), cache) == CONTENT
    assert sender.times == 1


def test_messages_call_it_what_it_is_called_on_the_commands_machine(
    tmp_path: Path, sender: Sender, cache: ObjectCache
) -> None:
    path = tmp_path / "best.pt"
    assert str(find("runs/x", {"runs/x": parcel(path, sender)}, cache)) == str(path)


def test_what_was_not_sent_is_where_the_settings_say(tmp_path: Path, cache: ObjectCache) -> None:
    assert find(str(tmp_path), NOTHING, cache) == tmp_path
