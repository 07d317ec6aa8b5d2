"""Folders that stand for places on an object store, on a real S3 server on this machine."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import boto3
import pytest
from obstore.exceptions import GenericError, PermissionDeniedError
from obstore.store import GCSStore

from raydistill.errors import UserError
from raydistill.runs.directory import RunDirectory
from raydistill.runs.weights_file import load, save
from raydistill.storage import files, mirror, retry
from raydistill.storage.cache import cache_folder
from raydistill.storage.mirror import named, place_of
from raydistill.storage.output import Output
from raydistill.storage.store import Store, store
from tests.object_store import BUCKET, s3_server, unsteady


@pytest.fixture(scope="module", autouse=True)
def _server() -> Iterator[None]:
    with s3_server():
        yield


@pytest.fixture
def uri(request: pytest.FixtureRequest) -> str:
    return f"s3://{BUCKET}/runs/{re.sub(r'[^a-z_]', '-', request.node.name)}"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uri: str) -> Output:
    """The output of that URI on this machine."""
    monkeypatch.setenv("RAYDISTILL_CACHE", str(tmp_path / "here"))
    return Output.at(uri)


@pytest.fixture
def there(here: Output, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, uri: str) -> Output:
    """The same on another machine."""
    monkeypatch.setenv("RAYDISTILL_CACHE", str(tmp_path / "there"))
    return Output.at(uri)


@pytest.fixture
def waited(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The seconds that were waited, without waiting."""
    seconds: list[float] = []
    monkeypatch.setattr(retry.time, "sleep", seconds.append)
    return seconds


def _texts(path: Path) -> dict[str, str]:
    """Return what the visible files below ``path`` hold."""
    found = [file for file in path.rglob("*") if file.is_file() and not file.name.startswith(".")]
    return {str(file.relative_to(path)): file.read_text() for file in found}


# Names ----------------------------------------------------------------------------------------------------------------
def test_a_path_stands_for_itself() -> None:
    output = Output.at("runs/a")
    assert (output.folder, output.remote) == (Path("runs/a"), False)
    assert place_of(Path("runs/a")) == "runs/a"
    output.pull()


def test_a_folder_is_called_by_its_uri(here: Output, uri: str) -> None:
    assert place_of(here.folder / "teacher" / "best.pt") == f"{uri}/teacher/best.pt"
    assert named(f"{here.folder}/x: and {here.folder / 'y'}") == f"{uri}/x: and {uri}/y"
    assert Output.at(f"{uri}/teacher/").folder == here.folder / "teacher"
    assert here.part(here.folder / "teacher") == Output.at(f"{uri}/teacher")


def test_google_cloud_storage_has_a_client_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAYDISTILL_CACHE", str(tmp_path))
    output = Output.at("gs://bucket/runs/a")
    assert output.mirror is not None
    place = output.mirror.store_of(output.folder)  # nothing is asked of it: there is no server here
    assert (place.uri, place.path) == ("gs://bucket/runs/a", "runs/a")
    assert isinstance(place.client, GCSStore)


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"RAYDISTILL_CACHE": "/own", "XDG_CACHE_HOME": "/all"}, "/own"),
        ({"XDG_CACHE_HOME": "/all"}, "/all/raydistill"),
        ({"HOME": "/somebody"}, "/somebody/.cache/raydistill"),
    ],
)
def test_where_copies_are_kept(variables: dict[str, str], expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RAYDISTILL_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert str(cache_folder()) == expected


# From here to the store -----------------------------------------------------------------------------------------------
def test_what_is_written_is_on_the_store_when_the_call_returns(here: Output, uri: str, tmp_path: Path) -> None:
    here.write_text(here.folder / "a" / "file.txt", "text")
    here.append_line(here.folder / "lines.jsonl", "one")
    here.append_line(here.folder / "lines.jsonl", "two")
    found = store(uri)
    for name, text in {"a/file.txt": "text", "lines.jsonl": "one\ntwo\n"}.items():
        found.fetch(name, tmp_path / "copy")
        assert (tmp_path / "copy").read_text() == text
    assert found.entries().keys() == {"a/file.txt", "lines.jsonl"}


def test_removed_and_renamed_files_are_so_on_the_store(here: Output, uri: str) -> None:
    for name in ("one", "two", "three"):
        here.write_text(here.folder / name, name)
    here.remove(here.folder / "one")
    here.remove(here.folder / "none")
    here.rename(here.folder / "two", here.folder / "four")
    assert store(uri).entries().keys() == {"three", "four"}


def test_the_versions_that_are_kept_are_on_the_store_too(here: Output, there: Output, uri: str) -> None:
    for epoch in range(4):
        save(here.folder / "checkpoint.pt", {"epoch": epoch}, 3, here)
    there.pull(everything=True)
    assert [load(file)["epoch"] for file in files.versions(there.folder / "checkpoint.pt")] == [3, 2, 1]
    assert len(store(uri).entries()) == 3


def test_weights_that_this_machine_has_let_go_are_removed_from_the_store(here: Output, uri: str) -> None:
    run = RunDirectory(here.folder / "distilled", here)
    mine = {"best_copy.pt", "best.pt.bak", "metrics.jsonl"}
    for epoch in range(2):
        save(run.checkpoint, {"epoch": epoch}, 2, here)
    for name in ("best.pt", "last.pt", *sorted(mine)):
        here.write_text(run.path / name, "kept")
    here.drop_weights(run.path)
    assert not run.checkpoints()
    run.remove_checkpoints()
    assert store(uri).below("distilled").entries().keys() == mine | {"best.pt", "last.pt"}
    run.remove_weights()
    assert store(uri).below("distilled").entries().keys() == mine


def test_a_store_that_fails_for_a_while_is_waited_for(
    uri: str, waited: list[float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("RAYDISTILL_CACHE", str(tmp_path))
    unsteady(monkeypatch, "file", failures=2)
    output = Output.at(uri)
    output.write_text(output.folder / "file", "text")
    assert store(uri).entries().keys() == {"file"}
    assert waited == [0.5, 2.0]
    assert f"{uri}/file: storage fails (HTTP error: error sending request); tried again in 0.5 s" in caplog.text


@pytest.mark.parametrize(("kind", "times"), [(GenericError, len(retry.WAITS)), (PermissionDeniedError, 0)])
def test_a_store_that_fails_for_good_is_a_sentence_and_keeps_the_last_good_checkpoint(
    kind: type[Exception], times: int, uri: str, waited: list[float], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAYDISTILL_CACHE", str(tmp_path / "here"))
    client = unsteady(monkeypatch, "checkpoint.pt", failures=0)
    place = Output.at(uri)
    for epoch in (1, 2):
        save(place.folder / "checkpoint.pt", {"epoch": epoch}, 2, place)
    client.failures, client.error = 99, kind("no")
    with pytest.raises(UserError, match=rf"^{uri}/checkpoint.pt: must be on .*, got: no; what was there is intact"):
        save(place.folder / "checkpoint.pt", {"epoch": 3}, 2, place)
    assert len(waited) == times
    monkeypatch.setenv("RAYDISTILL_CACHE", str(tmp_path / "there"))
    Output.at(uri).pull(everything=True)
    assert load(Output.at(uri).folder / "checkpoint.pt") == {"epoch": 2}


def test_nothing_is_written_to_what_has_become_another_commands(here: Output, uri: str) -> None:
    here.close("taken over")
    with pytest.raises(UserError, match=r"^taken over$"):
        here.write_text(here.folder / "file", "text")
    assert store(uri).entries() == {}


# From the store to here -----------------------------------------------------------------------------------------------
def test_a_machine_that_pulls_has_what_the_store_has_and_nothing_else(here: Output, there: Output) -> None:
    here.write_text(here.folder / "a" / "same.txt", "same")
    here.write_text(here.folder / "changed.txt", "new")
    for name, text in {"changed.txt": "old", "gone.txt": "x", "empty/gone.txt": "x", "gone.pt": "x"}.items():
        (there.folder / name).parent.mkdir(parents=True, exist_ok=True)
        (there.folder / name).write_text(text)
    there.pull()
    assert _texts(there.folder) == _texts(here.folder) == {"a/same.txt": "same", "changed.txt": "new"}
    assert not (there.folder / "empty").exists()


def test_what_a_crash_left_here_and_not_on_the_store_does_not_count(here: Output) -> None:
    here.append_line(here.folder / "lines.jsonl", "one")
    with (here.folder / "lines.jsonl").open("a") as file:
        file.write("two\n")
    here.pull()
    assert _texts(here.folder) == {"lines.jsonl": "one\n"}


@pytest.fixture
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Objects count as unchanged at once: a store knows seconds, so what it has had for two may change unseen."""
    monkeypatch.setattr(mirror, "_SECOND", -(10**9))


@pytest.mark.usefixtures("settled")
def test_weights_are_fetched_where_they_are_wanted_and_old_ones_are_never_left(here: Output, there: Output) -> None:
    here.write_text(here.folder / "run" / "best.pt", "weights")
    here.write_text(here.folder / "run" / "config.yaml", "settings")
    there.pull()
    assert _texts(there.folder) == {"run/config.yaml": "settings"}
    assert there.exists(there.folder / "run" / "best.pt")
    assert there.fetched(there.folder / "run" / "best.pt").read_text() == "weights"
    there.pull()
    assert _texts(there.folder) == _texts(here.folder)
    here.write_text(here.folder / "run" / "best.pt", "better weights")
    there.pull()
    assert _texts(there.folder) == {"run/config.yaml": "settings"}
    there.pull(everything=True)
    assert _texts(there.folder) == _texts(here.folder)


def test_a_file_that_the_store_lacks_is_gone_when_it_is_fetched(here: Output) -> None:
    here.write_text(here.folder / "run" / "config.yaml", "settings")
    (here.folder / "best.pt").write_text("x")
    assert not here.fetched(here.folder / "best.pt").exists()
    assert here.fetched(here.folder / "run").is_dir()
    assert not here.exists(here.folder / "best.pt")


@pytest.mark.usefixtures("settled")
def test_what_is_as_it_was_is_not_fetched_again(
    here: Output, there: Output, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(3):
        here.write_text(here.folder / f"{number}.txt", "text")
    names: list[str] = []
    fetch = Store.fetch
    monkeypatch.setattr(Store, "fetch", lambda self, name, to: (names.append(name), fetch(self, name, to))[1])
    here.pull()  # its own
    assert names == []
    there.pull()
    there.pull()
    assert sorted(names) == ["0.txt", "1.txt", "2.txt"]


def test_what_is_none_of_ours_is_left_alone_and_a_name_that_leads_elsewhere_refused(here: Output, uri: str) -> None:
    prefix = uri.removeprefix(f"s3://{BUCKET}/")
    for name in (".lock", ".ray/state.json", "a/.hidden", "a/good.txt"):
        boto3.client("s3").put_object(Bucket=BUCKET, Key=f"{prefix}/{name}", Body=b"x")
    here.pull(everything=True)
    assert _texts(here.folder) == {"a/good.txt": "x"}
    boto3.client("s3").put_object(Bucket=BUCKET, Key=f"{prefix}/a/../../outside.txt", Body=b"x")
    with pytest.raises(UserError, match=r"an object whose name has an empty part, . or .. \(.*outside.txt"):
        here.pull(everything=True)
    assert not (here.folder.parent / "outside.txt").exists()


def test_a_machines_disk_is_freed_of_weights_that_the_store_has(here: Output) -> None:
    here.write_text(here.folder / "run" / "best.pt", "weights")
    here.write_text(here.folder / "run" / "metrics.jsonl", "{}")
    here.drop_weights(here.folder)
    assert _texts(here.folder) == {"run/metrics.jsonl": "{}"}
    here.pull(everything=True)
    assert _texts(here.folder).keys() == {"run/metrics.jsonl", "run/best.pt"}


def test_weights_in_a_plain_folder_are_never_dropped(tmp_path: Path) -> None:
    (tmp_path / "best.pt").write_text("weights")
    Output.at(str(tmp_path)).drop_weights(tmp_path)
    Output.at(str(tmp_path)).pull()
    assert (tmp_path / "best.pt").is_file()


def test_several_of_a_machine_may_pull_the_same_place_at_once(here: Output, there: Output) -> None:
    for number in range(20):
        here.write_text(here.folder / f"{number}.txt", "text")
    with ThreadPoolExecutor(3) as pool:  # each opens the lock's file itself, as a process would
        list(pool.map(Output.pull, [there] * 3))
    assert _texts(there.folder) == _texts(here.folder)
    assert not [file for file in there.folder.iterdir() if file.name.endswith(".part")]


def test_who_reads_has_a_folder_of_its_own(here: Output, uri: str) -> None:
    here.write_text(here.folder / "lines.jsonl", "one")
    reading = Output.to_read(uri)
    assert reading.folder != here.folder
    reading.pull()
    assert _texts(reading.folder) == _texts(here.folder)
    reading.write_text(reading.folder / "report" / "page.html", "page")
    shutil.rmtree(reading.folder)
    reading.pull(everything=True)
    assert _texts(reading.folder).keys() == {"lines.jsonl", "report/page.html"}
