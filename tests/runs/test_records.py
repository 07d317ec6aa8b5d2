"""What a run wrote of itself, damaged in every way that a file can be."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from raydistill.errors import UserError
from raydistill.runs.directory import RunDirectory
from raydistill.runs.records import parse_lines, read_lines, read_result

SOUND: dict[str, Any] = {"stage": "teacher", "epochs": 3, "epoch": 2, "parameters": 9, "AP": 0.5, "AP_large": -1.0}
RESULTS: dict[str, bytes] = {
    "empty": b"",
    "cut": json.dumps(SOUND).encode()[:40],
    "zeros": bytes(50),
    "no UTF-8": b'{"stage": "\xff\xfe"}',
    "a list": b"[1]",
    "a number": b"5",
    "nested": b"[" * 100_000,
    "without AP": json.dumps({k: v for k, v in SOUND.items() if k != "AP"}).encode(),
    "without parameters": json.dumps({k: v for k, v in SOUND.items() if k != "parameters"}).encode(),
    "AP null": json.dumps(SOUND | {"AP": None}).encode(),
    "AP a text": json.dumps(SOUND | {"AP": "0.5"}).encode(),
    "AP true": json.dumps(SOUND | {"AP": True}).encode(),
    "AP NaN": json.dumps(SOUND | {"AP": float("nan")}).encode(),
    "AP 10^400": json.dumps(SOUND | {"AP": 10**400}).encode(),
    "AP a number of 5,000 digits": b'{"AP": ' + b"1" * 5000 + b"}",
    "AP in points of 100": json.dumps(SOUND | {"AP": 50.0}).encode(),
    "AP a list": json.dumps(SOUND | {"AP": [0.5]}).encode(),
    "AP of the test split infinite": json.dumps(SOUND | {"test_AP": float("inf")}).encode(),
    "epochs a fraction": json.dumps(SOUND | {"epochs": 1.5}).encode(),
    "epochs 10^400": json.dumps(SOUND | {"epochs": 10**400}).encode(),
    "epoch -1": json.dumps(SOUND | {"epoch": -1}).encode(),
    "parameters 0": json.dumps(SOUND | {"parameters": 0}).encode(),
    "speed a text": json.dumps(SOUND | {"images_per_second": "fast"}).encode(),
}
LINE = '{"epoch": 1, "val/AP": 0.5}\n'
LINES: dict[str, tuple[bytes, list[dict[str, float]], int]] = {
    "zeros at the end": (LINE.encode() + bytes(60), [{"epoch": 1, "val/AP": 0.5}], 0),  # as a power cut leaves it
    "zeros in a line": (bytes(20) + b"\n" + LINE.encode(), [{"epoch": 1, "val/AP": 0.5}], 1),
    "a wrong byte": (LINE.encode().replace(b"val", b"v\xffl"), [{"epoch": 1, "v\ufffdl/AP": 0.5}], 0),
    "no UTF-8": (LINE.encode("utf-16"), [], 1),
    "a foreign line": (b"hello\n[1]\n5\n{}\n" + LINE.encode(), [{"epoch": 1, "val/AP": 0.5}], 4),
    "a line cut off": (LINE.encode() + b'{"epoch": 2, "val/A', [{"epoch": 1, "val/AP": 0.5}], 0),
    "a last line without its end": (LINE.encode().strip(), [{"epoch": 1, "val/AP": 0.5}], 0),
    "nested values": (b'{"epoch": 1, "a": {"b": 1}, "c": [1], "d": "e", "f": null, "g": true}\n', [{"epoch": 1}], 0),
    "nested beyond all": (b"[" * 100_000 + b"\n", [], 1),
    "numbers beyond floats": (
        b'{"epoch": 1, "a": 1' + b"0" * 400 + b', "b": 1180591620717411303424}\n',
        [{"epoch": 1, "b": 2**70}],
        0,
    ),
    "epochs beyond counting": (
        b'{"epoch": 1180591620717411303424}\n{"epoch": 0}\n{"epoch": 1.5}\n{"epoch": true}\n',
        [],
        4,
    ),
    "spaces and a return": (b"\n\n" + LINE.encode().replace(b"\n", b"\r\n"), [{"epoch": 1, "val/AP": 0.5}], 0),
    "empty": (b"", [], 0),
}


@pytest.mark.parametrize("name", RESULTS)
def test_a_damaged_result_is_a_sentence_and_the_stage_is_not_finished(name: str, tmp_path: Path) -> None:
    run = RunDirectory(tmp_path)
    run.result.write_bytes(RESULTS[name])
    with pytest.raises(UserError, match=r"result\.json: must be the result of a stage, (cannot be read|got)") as caught:
        read_result(run.result)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 300
    assert not run.finished


def test_a_sound_result_is_read_with_all_that_it_has(tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text(json.dumps(SOUND | {"weights": "abc", "teacher_precision": "fp32"}))
    assert read_result(tmp_path / "result.json") == SOUND | {"weights": "abc", "teacher_precision": "fp32"}


@pytest.mark.parametrize("name", LINES)
def test_of_damaged_metrics_what_can_be_read_is_read_and_the_rest_counted(name: str, tmp_path: Path) -> None:
    content, lines, unreadable = LINES[name]
    (tmp_path / "metrics.jsonl").write_bytes(content)
    found = read_lines(tmp_path / "metrics.jsonl")
    assert (found.lines, found.unreadable) == (lines, unreadable)
    assert RunDirectory(tmp_path).lines() == lines


def test_no_file_has_no_lines_and_a_pipe_is_a_sentence(tmp_path: Path) -> None:
    assert read_lines(tmp_path / "metrics.jsonl").lines == []
    for name, read in (("metrics.jsonl", read_lines), ("result.json", read_result)):
        os.mkfifo(tmp_path / name)
        with pytest.raises(UserError, match=r"named pipe"):
            read(tmp_path / name)


def test_a_line_separator_in_a_class_name_ends_no_line() -> None:
    assert parse_lines('{"epoch": 1, "val/class/a\u2028b": 0.5}\n').lines == [{"epoch": 1, "val/class/a\u2028b": 0.5}]
