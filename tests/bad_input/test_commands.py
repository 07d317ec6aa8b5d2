"""Bad input through the real command lines: exit code 2, the sentence on stderr, and nothing else anywhere."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from raydistill import evaluate, train, tune
from tests.data.conftest import CocoFolder

from .detections import BOX, truth
from .weights import sound

Main = Callable[[Sequence[str]], int]


def _files(folder: Path) -> None:
    """Put one of each kind of input into ``folder``, most of them broken."""
    import torch

    coco = CocoFolder(folder / "coco")
    coco.annotations.with_name("broken.json").write_text('{"images": [')
    coco.write()
    (folder / "truth.json").write_text(json.dumps(truth()))
    (folder / "found.json").write_text(json.dumps([{**BOX, "score": True}]))
    (folder / "bomb.yaml").write_text("a: &a [*a]")
    (folder / "sweep.yaml").write_text("base: quickstart\nspace: {methods.tar.feature.weight: {grid: [true]}}")
    (folder / "text.pt").write_text("no weights")
    torch.save(sound(), folder / "net.pt")


BROKEN: list[tuple[Main, str, str]] = [
    (train.main, "gone", "gone: must be a recipe or a YAML file"),
    (train.main, "bomb.yaml", "bomb.yaml: must be YAML"),
    (
        train.main,
        "quickstart training.epochs=true --print-config",
        "training.epochs: must be a valid integer, got True",
    ),
    (
        train.main,
        "finetune data.root=coco --local --output out",
        r"must have a file of the training split, got annotations",
    ),
    (tune.main, "gone.yaml", "gone.yaml: must be a sweep or a YAML file"),
    (tune.main, "sweep.yaml --print-plan", "methods.tar.feature.weight: must be a valid number, got True"),
    (evaluate.main, "--annotations gone.json --detections found.json", "gone.json: the annotations file must exist"),
    (evaluate.main, "--annotations truth.json --detections found.json", "score must be a number, got True"),
    (
        evaluate.main,
        "--annotations found.json --detections truth.json",
        "must be a COCO file .* got a list",
    ),
    (evaluate.main, "gone.pt coco", "gone.pt: must be a weights file or a run directory"),
    (evaluate.main, "text.pt coco", "text.pt: must be a checkpoint of tensors"),
    (evaluate.main, "net.pt gone.json", "gone.json: the annotations file must exist"),
    (evaluate.main, "net.pt coco/annotations/broken.json", r"broken\.json, line 1, .*must be complete JSON"),
    (
        evaluate.main,
        "net.pt coco",
        "net.pt: must know the data's classes, got a net for disc, square and data with cat",
    ),
]


@pytest.mark.parametrize(("main", "line", "sentence"), BROKEN, ids=[f"{m.__module__} {line}" for m, line, _ in BROKEN])
def test_a_command_ends_with_the_sentence_and_code_2(
    main: Main,
    line: str,
    sentence: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    _files(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert main(line.split()) == 2
    out, err = capsys.readouterr()
    assert re.search(sentence, err), err
    assert "Traceback" not in err
    said_before = ("device: cpu", "teacher: answers in", "; results go to ")
    lines = [text for text in err.splitlines() if not any(words in text for words in said_before)]
    assert len(lines) == 1 or lines[0].endswith("(1 problem):"), err
    assert out == ""
