"""What the user sees while a run lasts."""

from __future__ import annotations

import io
import re
import sys
import threading

import pytest

from raydistill.runs.events import EpochDone, Evaluating, Event, Note, StageStarted, StepDone
from raydistill.runs.progress import Display

METRICS = {
    "train/total": 1.5,
    "train/detection/total": 1.25,
    "train/weighted/tar/feature": 0.25,
    "train/images_per_second": 12.34,
    "val/AP": 0.1234,
    "val/AP50": 0.3,
}
EVENTS: list[Event] = [
    Note("data: 8 images"),
    StageStarted("baseline", 2, 10, 0),
    StepDone("baseline", 1, 5, {"total": 1.75, "detection/total": 1.0}, 20.0),
    EpochDone("baseline", 1, 2, METRICS, 3.0),
    StepDone("baseline", 2, 5, {"total": 1.25}, 20.0),
    EpochDone("baseline", 2, 2, METRICS, 3.0),
]


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setenv("TERM", "xterm")


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def _shown(stream: io.StringIO, events: list[Event]) -> str:
    display = Display(stream)
    for event in events:
        display(event)
    display.close()
    return stream.getvalue()


def _plain(text: str) -> str:
    """Return a text without control codes."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)


def test_a_pipe_gets_one_line_per_epoch() -> None:
    lines = _shown(io.StringIO(), EVENTS).splitlines()
    assert lines[:2] == ["data: 8 images", "baseline: 2 epochs of 10 steps"]
    assert [line.partition("  ")[0] for line in lines[2:]] == ["baseline epoch 1/2", "baseline epoch 2/2"]


def test_a_pipe_gets_no_control_characters() -> None:
    text = _shown(io.StringIO(), EVENTS)
    assert "\r" not in text
    assert "\x1b" not in text


def test_an_epochs_line_has_losses_speed_time_and_scores_in_points() -> None:
    line = _shown(io.StringIO(), EVENTS).splitlines()[2]
    for part in ("loss 1.500", "detection 1.250", "feature 0.250", "12.3 images/s", "3 s", "AP 12.3, AP50 30.0"):
        assert part in line


def test_an_epoch_without_evaluation_shows_no_score() -> None:
    line = _shown(io.StringIO(), [EpochDone("teacher", 1, 2, {"train/total": 1.0}, 3.0)])
    assert "AP" not in line


def test_a_score_without_objects_is_shown_as_none() -> None:
    line = _shown(io.StringIO(), [EpochDone("teacher", 1, 2, {"val/AP": -1.0, "val/AP50": -1.0}, 3.0)])
    assert "AP -, AP50 -" in line


def test_a_terminal_gets_a_bar_with_losses_and_speed() -> None:
    text = _shown(_Terminal(), EVENTS)
    assert "\r" in text
    assert re.search(r"baseline ━+\S* +5/20 .*loss 1.750 detection 1.000, 20.0 images/s", _plain(text))


def test_a_narrow_terminal_gets_one_line_cut_short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    drawn = [line for line in re.split(r"[\r\n]", _plain(_shown(_Terminal(), EVENTS[1:3]))) if "5/20" in line]
    assert drawn and all(len(line) <= 40 for line in drawn)
    assert all("loss" in line for line in drawn)


def test_a_terminal_that_cannot_draw_anew_gets_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    assert _shown(_Terminal(), EVENTS) == _shown(io.StringIO(), EVENTS)


def test_a_pipe_gets_lines_even_where_colours_are_forced(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = _shown(io.StringIO(), EVENTS)
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert _shown(io.StringIO(), EVENTS) == expected


def test_no_colours_where_none_are_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    assert re.search(r"\x1b\[[0-9;]*3[0-9][0-9;]*m", _shown(_Terminal(), EVENTS))
    monkeypatch.setenv("NO_COLOR", "1")
    assert not re.search(r"\x1b\[[0-9;]*3[0-9][0-9;]*m", _shown(_Terminal(), EVENTS))


def test_a_bar_starts_no_thread() -> None:
    before = threading.active_count()
    display = Display(_Terminal())
    display(EVENTS[1])
    assert threading.active_count() == before
    display.close()


def test_a_note_on_a_terminal_stays_as_it_was_written() -> None:
    text = "data: [red]no[/red] :x: " + "long/" * 40
    assert f"\x1b[2K{text}\n" in _shown(_Terminal(), [EVENTS[1], Note(text)])


def test_what_others_write_meanwhile_stands_above_the_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = _Terminal()
    monkeypatch.setattr(sys, "stderr", stream)
    display = Display(stream)
    display(EVENTS[1])
    sys.stderr.write("a warning of torch\n")
    display.close()
    assert sys.stderr is stream
    assert "\x1b[2Ka warning of torch\n" in stream.getvalue()


def test_a_closed_bar_leaves_the_cursor_where_it_is_seen() -> None:
    text = _shown(_Terminal(), EVENTS[1:3])
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")


def test_a_terminal_shows_how_far_an_evaluation_is() -> None:
    begun = [StageStarted("baseline", 2, 10, 0)]
    assert "evaluating image 3 of 40" in _shown(_Terminal(), [*begun, Evaluating("baseline", 1, 3, 40)])
    assert "scoring" in _shown(_Terminal(), [*begun, Evaluating("baseline", 1, 40, 40)])


def test_a_pipe_is_not_filled_with_signs_of_life() -> None:
    assert _shown(io.StringIO(), [Evaluating("baseline", 1, 3, 40)]) == ""


def test_a_terminal_keeps_the_lines_of_the_epochs() -> None:
    text = _shown(_Terminal(), EVENTS)
    assert "baseline epoch 1/2  loss 1.500" in text
    assert "baseline epoch 2/2  loss 1.500" in text


def test_a_warning_is_called_one() -> None:
    assert _shown(io.StringIO(), [Note("two boxes dropped", warning=True)]) == "warning: two boxes dropped\n"


def test_a_resumed_stage_says_where_it_goes_on() -> None:
    assert _shown(io.StringIO(), [StageStarted("teacher", 5, 7, 3)]).endswith("going on after epoch 3\n")
    in_an_epoch = _shown(io.StringIO(), [StageStarted("teacher", 5, 7, 0, 2)])
    assert in_an_epoch.endswith("going on in epoch 1 after step 2\n")


def test_a_resumed_bar_begins_where_the_run_stopped() -> None:
    assert "30/50" in _plain(_shown(_Terminal(), [StageStarted("teacher", 5, 10, 3)]))


def test_epochs_that_are_trained_again_after_a_lost_worker_do_not_break_the_bar() -> None:
    again: list[Event] = [*EVENTS[1:4], StageStarted("baseline", 2, 10, 0), *EVENTS[2:]]
    text = _shown(_Terminal(), again)
    assert text.count("baseline epoch 2/2") == 1


def test_nothing_goes_to_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    display = Display()
    for event in EVENTS:
        display(event)
    display.close()
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "baseline epoch 1/2" in captured.err


def test_closing_twice_is_harmless() -> None:
    display = Display(_Terminal())
    display(EVENTS[1])
    display.close()
    display.close()
