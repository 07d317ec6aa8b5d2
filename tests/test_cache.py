"""``raydistill cache``: shows what is kept of teachers, and removes it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from raydistill.cache import main
from raydistill.storage.kept_files import KeptFiles

ABOUT = {"teacher": "resnet50", "input": {"min_size": 640, "max_size": 1088}, "precision": "fp32"}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RAYDISTILL_CACHE", str(tmp_path))
    for source in ("first", "second"):
        KeptFiles(tmp_path / "teacher", source, ABOUT, 10**9).write("aa", 3, lambda: iter([b"123"]))
    return tmp_path / "teacher"


def test_it_shows_each_teacher(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    shown = capsys.readouterr().out
    assert str(folder) in shown
    assert [line.split()[:4] for line in shown.splitlines()[2:4]] in (
        [[name, "resnet50", "640-1088", "fp32"] for name in names]
        for names in (("first", "second"), ("second", "first"))
    )
    assert main(["--json"]) == 0
    assert {one["name"] for one in json.loads(capsys.readouterr().out)["teachers"]} == {"first", "second"}


def test_it_removes_one_or_all(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--clear", "third"]) == 2
    assert "--clear: must be names that raydistill cache shows, got third" in capsys.readouterr().err
    assert main(["--clear", "first"]) == 0
    assert [path.name for path in folder.iterdir()] == ["second"]
    assert main(["--clear"]) == 0
    assert not list(folder.iterdir())
    assert main([]) == 0
    assert "nothing is kept" in capsys.readouterr().out


def test_it_survives_a_damaged_note(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "first" / "about.json").write_text("{")
    assert main([]) == 0
    assert "first" in capsys.readouterr().out
