"""An output as a value."""

from __future__ import annotations

import pickle
from pathlib import Path

import pytest

from raydistill.errors import UserError
from raydistill.storage.mirror import place_of
from raydistill.storage.output import Output


def test_a_directory_is_its_own_folder_and_keeps_a_second_command_away(tmp_path: Path) -> None:
    with Output.at(str(tmp_path / "run")).opened() as output:
        assert output.folder == tmp_path / "run"
        assert place_of(output.folder / "teacher") == str(tmp_path / "run" / "teacher")
        with pytest.raises(UserError, match="another command is at work there"), Output.at(output.place).opened():
            pytest.fail("it was let in")
    with Output.at(output.place).opened():
        pass


def test_a_place_on_a_store_is_the_folder_of_the_machine_that_it_arrives_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RAYDISTILL_CACHE", str(tmp_path / "here"))
    sent = pickle.dumps(Output.at("s3://bucket/runs/first"))
    monkeypatch.setenv("RAYDISTILL_CACHE", str(tmp_path / "there"))
    arrived = pickle.loads(sent)
    assert arrived.place == "s3://bucket/runs/first"
    assert arrived.folder.is_relative_to(tmp_path / "there")
    assert place_of(arrived.folder / "teacher") == "s3://bucket/runs/first/teacher"
