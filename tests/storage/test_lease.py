"""One command at a time on an output of an object store, on a real S3 server on this machine."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from raydistill.errors import UserError
from raydistill.storage import lease as lease_module
from raydistill.storage import owner as owner_module
from raydistill.storage.lease import lease
from raydistill.storage.output import Output
from raydistill.storage.owner import Owner
from raydistill.storage.store import Store, store
from tests.object_store import BUCKET, S3Server, s3_server
from tests.small import PATIENCE
from tests.store_proxy import proxy_of

STRANGER = Owner("theirs", "elsewhere", 42, "another machine", "7")


@pytest.fixture(scope="module", autouse=True)
def server() -> Iterator[S3Server]:
    with s3_server() as running:
        yield running


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything happens thirty times as fast."""
    for name in ("BEAT_SECONDS", "LOST_SECONDS", "_LOOK_SECONDS"):
        monkeypatch.setattr(lease_module, name, getattr(lease_module, name) / 30)


@pytest.fixture
def place(request: pytest.FixtureRequest) -> Store:
    return store(f"s3://{BUCKET}/{request.node.name}")


def _ignore(why: str) -> None:
    """Stand for what ends a command."""


def _leave(place: Store, owner: Owner) -> None:
    place.write(json.dumps(dataclasses.asdict(owner)).encode(), ".lock")


def _owner(place: Store, folder: Path) -> Owner:
    place.fetch(".lock", folder / "lock")
    return Owner(**json.loads((folder / "lock").read_text()))


def test_a_second_command_on_this_machine_is_refused_at_once_and_one_after_it_is_not(place: Store) -> None:
    with (
        lease(place, _ignore),
        pytest.raises(UserError, match=rf"^{place.uri}: another command is at work there \(process {os.getpid()} on"),
    ):
        lease(place, _ignore).__enter__()
    assert place.entries() == {}
    with lease(place, _ignore):
        assert place.entries().keys() == {".lock"}


def test_the_lease_ends_with_work_that_fails(place: Store) -> None:
    with pytest.raises(ZeroDivisionError), lease(place, _ignore):
        raise ZeroDivisionError
    assert place.entries() == {}


def test_a_killed_command_of_this_machine_is_no_obstacle(place: Store, caplog: pytest.LogCaptureFixture) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    with lease(place, _ignore):
        pass
    own = Owner("theirs", "here", dead.pid, owner_module._machine(), "7")
    _leave(place, own)
    with lease(place, _ignore):
        assert caplog.text == ""


def test_a_command_elsewhere_that_shows_a_sign_of_life_refuses_a_second_one(place: Store) -> None:
    _leave(place, STRANGER)
    refused = threading.Event()

    def show_signs() -> None:
        for beat in itertools.count(1):
            if refused.wait(0.3):
                return
            _leave(place, dataclasses.replace(STRANGER, beat=beat))

    signs = threading.Thread(target=show_signs)
    signs.start()
    with pytest.raises(UserError, match=r"another command is at work there \(process 42 on elsewhere\)"):
        lease(place, _ignore).__enter__()
    refused.set()
    signs.join()
    assert place.entries().keys() == {".lock"}


def test_a_command_elsewhere_without_a_sign_of_life_is_replaced(
    place: Store, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _leave(place, STRANGER)
    with lease(place, _ignore):
        assert _owner(place, tmp_path).process == os.getpid()
    assert "process 42 on elsewhere was at work there; a sign of life of it is waited for, 2 s at most" in caplog.text


def _beats(place: Store, folder: Path, wanted: int) -> int:
    """Wait for signs of life, and return how many there were."""
    deadline = time.monotonic() + PATIENCE
    while (seen := _owner(place, folder).beat) < wanted:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return seen


def test_the_holder_shows_signs_of_life(place: Store, tmp_path: Path) -> None:
    with lease(place, _ignore):
        assert _owner(place, tmp_path).beat == 0
        _beats(place, tmp_path, 1)


def _tries(place: Store, times: int) -> list[str]:
    """Let so many commands begin at once, and return what those hear that are refused."""
    together = threading.Barrier(times)

    def begin(_: int) -> str:
        together.wait()
        try:
            held.enter_context(lease(place, _ignore))
        except UserError as error:
            return str(error)
        return ""

    with contextlib.ExitStack() as held, ThreadPoolExecutor(times) as pool:
        return sorted(filter(None, pool.map(begin, range(times))))


def test_of_eight_that_begin_together_seven_are_refused(place: Store) -> None:
    refused = _tries(place, 8)
    assert len(refused) == 7
    assert all(f"{place.uri}: another command is at work there (process {os.getpid()} on" in said for said in refused)


def test_of_eight_that_find_a_dead_command_one_takes_its_place(place: Store) -> None:
    _leave(place, Owner("theirs", "here", 2**22 + 1, owner_module._machine(), "7"))
    assert len(_tries(place, 8)) == 7


def test_an_answer_that_is_lost_on_its_way_does_not_refuse_a_command_because_of_itself(
    server: S3Server, place: Store, tmp_path: Path
) -> None:
    with proxy_of(server.url) as proxy:
        behind = store(place.uri)
        proxy.loses = {1}
        with lease(behind, _ignore):
            assert _owner(place, tmp_path).process == os.getpid()
        _leave(place, Owner("theirs", "here", 2**22 + 1, owner_module._machine(), "7"))
        proxy.loses = {len(proxy.requests) + 3}  # after that which finds the other, and that which reads its name
        with lease(behind, _ignore):
            assert _owner(place, tmp_path).process == os.getpid()


def test_a_command_whose_sign_of_life_was_not_answered_goes_on(server: S3Server, place: Store, tmp_path: Path) -> None:
    lost: list[str] = []
    with proxy_of(server.url) as proxy:
        with lease(store(place.uri), lost.append):
            proxy.loses = {len(proxy.requests) + 1}
            seen = _beats(place, tmp_path, 3)
        assert lost == []
    assert seen >= 3


def test_a_lock_that_somebody_removes_is_told(place: Store) -> None:
    lost: list[str] = []
    with lease(place, lost.append):
        place.delete(".lock")
        deadline = time.monotonic() + PATIENCE
        while not lost:
            assert time.monotonic() < deadline
            time.sleep(0.1)
    assert lost == [f"{place.uri}/.lock: it was removed, by hand or by a command that has ended since; repeat this one"]


def test_a_store_that_writes_whatever_the_condition_is_refused(server: S3Server, place: Store) -> None:
    with proxy_of(server.url) as proxy:
        proxy.ignored = ("if-match", "if-none-match")
        with pytest.raises(UserError, match=rf"^{place.uri}: must be on a store that writes on a condition"):
            lease(store(place.uri), _ignore).__enter__()
    assert place.entries() == {}


def test_a_user_may_do_without_conditions_and_is_told_what_that_means(
    place: Store, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("AWS_CONDITIONAL_PUT", "disabled")
    with lease(store(place.uri), _ignore):
        assert place.entries() == {}
    assert caplog.messages == [f"{place.uri}: AWS_CONDITIONAL_PUT=disabled: nothing keeps a second command away"]


def test_a_command_of_the_version_before_is_not_overrun(place: Store) -> None:
    written = '{"id": "6d", "host": "elsewhere", "process": 42, "machine": "another", "born": "7", "beat": %d}'
    place.write((written % 3).encode(), ".lock")
    sign = threading.Timer(0.3, lambda: place.write((written % 4).encode(), ".lock"))
    sign.start()
    with pytest.raises(UserError, match=r"another command is at work there \(process 42 on elsewhere\)"):
        lease(place, _ignore).__enter__()
    sign.join()


def test_a_command_that_lost_its_output_writes_nothing_more(
    place: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAYDISTILL_CACHE", str(tmp_path / "cache"))
    with Output.at(place.uri).opened() as output:
        assert output.mirror is not None
        output.write_text(output.folder / "before.txt", "x")
        _leave(place, STRANGER)
        deadline = time.monotonic() + PATIENCE
        while not output.mirror.closed:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        with pytest.raises(UserError, match=rf"^{place.uri}: process 42 on elsewhere has taken it over"):
            output.write_text(output.folder / "after.txt", "x")
    assert place.entries().keys() == {".lock", "before.txt"}
    assert _owner(place, tmp_path) == STRANGER


def test_two_commands_that_share_a_cache_are_told_apart_by_its_lock(
    place: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAYDISTILL_CACHE", str(tmp_path))
    with Output.at(place.uri).opened(), pytest.raises(UserError, match="another command is at work there"):
        Output.at(place.uri).opened().__enter__()


@pytest.mark.parametrize(
    "content", [b"", b"{", b"mine", b"[1]", b"{}", b'{"id": 1}', b'{"who": "me", "id": "x"}', b"[" * 9999, b"\xff"]
)
def test_a_lock_that_is_none_is_a_sentence(content: bytes, place: Store) -> None:
    place.write(content, ".lock")
    told = rf"^{re.escape(place.uri)}/.lock: must name the command at work there, holds something else; remove it"
    with pytest.raises(UserError, match=told):
        lease(place, _ignore).__enter__()
