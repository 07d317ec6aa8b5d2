"""Every bad input of the corpus ends in one of our errors, in a warning and a right result, or in a right result."""

from __future__ import annotations

import logging
import re
from collections import Counter
from pathlib import Path

import pytest

from raydistill.errors import UserError

from . import annotations, detections, foreign, images, settings, voc, weights
from .cases import Case

CORPUS: dict[str, list[Case]] = {
    "annotations": annotations.CASES,
    "images": images.CASES,
    "voc": voc.CASES,
    "settings": settings.CASES,
    "weights": weights.CASES,
    "weights of others": foreign.CASES,
    "detections": detections.CASES,
}
COUNTS = {
    "annotations": {"error": 95, "warning": 41, "right": 11},
    "images": {"error": 37, "warning": 5, "right": 8},
    "voc": {"error": 58, "warning": 19, "right": 48},
    "settings": {"error": 144, "right": 3},
    "weights": {"error": 43, "right": 4},
    "weights of others": {"error": 8, "right": 12},
    "detections": {"error": 41, "warning": 6, "right": 3},
}
"""How many bad inputs of each kind there are, and how they end: no traceback, no silently wrong result."""


def _of(outcome: str) -> list[object]:
    cases = [(kind, case) for kind, listed in CORPUS.items() for case in listed if case.outcome == outcome]
    return [pytest.param(case, id=f"{kind}: {case.name}") for kind, case in cases]


@pytest.mark.parametrize("case", _of("error"))
def test_a_bad_input_ends_in_a_sentence(
    case: Case, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recwarn: pytest.WarningsRecorder
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=case.expected) as caught:
        case.run(tmp_path)
    message = str(caught.value)
    assert all(": " in line or line.strip().startswith("... and") for line in message.splitlines()), message
    assert len(message) < 12_000
    assert not (tmp_path / "the-code-ran").exists()
    assert [str(warning.message) for warning in recwarn if issubclass(warning.category, RuntimeWarning)] == []


@pytest.mark.parametrize("case", _of("warning"))
def test_a_bad_part_is_left_out_with_one_warning_a_split(
    case: Case, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "raydistill"):
        assert case.run(tmp_path) == case.result
    assert len(set(caplog.messages)) == 1
    assert re.search(case.expected, caplog.messages[0])


@pytest.mark.parametrize("case", _of("right"))
def test_an_odd_input_that_is_fine_is_read_without_a_word(
    case: Case, tmp_path: Path, caplog: pytest.LogCaptureFixture, recwarn: pytest.WarningsRecorder
) -> None:
    with caplog.at_level(logging.WARNING, "raydistill"):
        assert case.run(tmp_path) == case.result
    assert caplog.messages == []
    assert [str(warning.message) for warning in recwarn if issubclass(warning.category, RuntimeWarning)] == []


def test_the_corpus_is_complete_and_counted() -> None:
    counted = {kind: dict(Counter(case.outcome for case in cases)) for kind, cases in CORPUS.items()}
    assert counted == COUNTS
    names = [(kind, case.name) for kind, cases in CORPUS.items() for case in cases]
    assert len(names) == len(set(names)) >= 100
    assert all(case.expected or case.outcome == "right" for cases in CORPUS.values() for case in cases)
