"""What the user sees of a sweep, on a terminal and in a pipe."""

from __future__ import annotations

import io
import math
import re
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from raydistill.runs.events import EpochDone, Note, StageStarted, StepDone, TrialEvent
from raydistill.sweeps import table
from raydistill.sweeps.directory import TrialRecord
from raydistill.sweeps.table import SweepDisplay, SweepEvents, TrialsKept, hand_on
from tests.small import PATIENCE

STEP = TrialRecord("p0000-seed0", "searched", 0, 0, {"decay.shape": "step", "decay.milestones": [0.5]})
LISTED = TrialRecord("p0001-seed0", "searched", 1, 0, {"model.flags": [True, "a"], "methods.tar.feature.weight": 0.25})
CONTROL = TrialRecord("baseline-seed0", "baseline", -1, 0, {"methods.tar.feature.weight": 0.0})
STARTED = StageStarted("distilled", 6, 10, 2)
SPEED = StepDone("distilled", 3, 4, {"total": 1.5}, 12.34)
EPOCH = EpochDone("distilled", 3, 6, {"train/total": 1.0, "val/AP": 0.125, "val/AP50": 0.5}, 2.0)


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def _ended(record: TrialRecord, **changes: Any) -> TrialRecord:
    return TrialRecord(**{**vars(record), "status": "finished", "seconds": 12.4, **changes})


@pytest.fixture
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.setenv("TERM", "xterm")


@pytest.fixture
def terminal(wide: None) -> Iterator[SweepDisplay]:
    display = SweepDisplay("AP", "max", 6, _Terminal())
    yield display
    display.close()


def _shown(display: SweepDisplay) -> str:
    """Return the table as it stands now, without frames."""
    from rich.console import Console

    console = Console(file=io.StringIO(), width=160)
    console.print(display._table())
    text = console.file.getvalue()  # type: ignore[attr-defined]
    return "\n".join(" ".join(line.split()) for line in re.sub(r"[┃│┏┓┡┩└┘━─┳╇┴┬]", " ", text).splitlines())


def _said(display: SweepDisplay) -> str:
    """Return what was written to the terminal, without its control characters."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", display.stream.getvalue())  # type: ignore[attr-defined]


# In a pipe ------------------------------------------------------------------------------------------------------------
def test_an_ended_trial_is_a_line_in_a_pipe() -> None:
    display = SweepDisplay("AP", "max", 6, io.StringIO())
    display.begins(STEP)
    display.ends(_ended(STEP), 0.2515)
    assert display.stream.getvalue() == (  # type: ignore[attr-defined]
        "[1/6]  p0000-seed0  decay.shape=step, decay.milestones=[0.5]  AP 25.1  finished  12 s\n"
    )


def test_a_failed_trials_line_has_its_reason_and_no_score() -> None:
    display = SweepDisplay("AP50", "max", 6, io.StringIO())
    display.begins(CONTROL)
    display.ends(_ended(CONTROL, status="failed", reason="KeyError: 'x'"), math.nan)
    assert display.stream.getvalue() == (  # type: ignore[attr-defined]
        "[1/6]  baseline-seed0  methods.tar.feature.weight=0  AP50 -  failed: KeyError: 'x'  12 s\n"
    )


def test_ended_trials_are_counted() -> None:
    display = SweepDisplay("AP", "max", 6, io.StringIO())
    for record in (CONTROL, STEP, LISTED):
        display.ends(_ended(record), 0.1)
    lines = display.stream.getvalue().splitlines()  # type: ignore[attr-defined]
    assert [line.split()[0] for line in lines] == ["[1/6]", "[2/6]", "[3/6]"]


def test_what_trials_say_is_not_shown_in_a_pipe() -> None:
    display = SweepDisplay("AP", "max", 6, io.StringIO())
    display.begins(STEP)
    for event in (STARTED, SPEED, EPOCH, Note("careful", warning=True)):
        display(TrialEvent(STEP.name, event))
    display.close()
    assert display.stream.getvalue() == ""  # type: ignore[attr-defined]


def test_the_teachers_training_is_shown_as_that_of_a_run() -> None:
    display = SweepDisplay("AP", "max", 6, io.StringIO())
    display(Note("no GPU", warning=True))
    display(StageStarted("teacher", 6, 10, 0))
    display(EpochDone("teacher", 3, 6, {"train/total": 1.0, "val/AP": 0.125, "val/AP50": 0.5}, 2.0))
    assert display.stream.getvalue() == (  # type: ignore[attr-defined]
        "warning: no GPU\nteacher: 6 epochs of 10 steps\nteacher epoch 3/6  loss 1.000  2 s  AP 12.5, AP50 50.0\n"
    )


# On a terminal --------------------------------------------------------------------------------------------------------
def test_a_terminal_has_a_table_of_the_running_trials(terminal: SweepDisplay) -> None:
    terminal.begins(STEP)
    assert "p0000-seed0 decay.shape=step, decay.milestones=[0.5] - - - running" in _shown(terminal)
    for event in (STARTED, SPEED, EPOCH):
        terminal(TrialEvent(STEP.name, event))
    shown = _shown(terminal)
    assert "p0000-seed0 decay.shape=step, decay.milestones=[0.5] 3/6 12.5 12.3 running" in shown
    assert "0 of 6 trials ended, 1 running, 0 min" in shown


def test_the_table_is_drawn_on_the_terminal(terminal: SweepDisplay) -> None:
    terminal.begins(STEP)
    terminal.ends(_ended(STEP), 0.1)  # a line above the table draws it anew
    terminal.begins(LISTED)
    terminal.close()
    assert "1 of 6 trials ended, 1 running" in _said(terminal)
    assert "p0001-seed0" in _said(terminal)


def test_a_trial_that_goes_on_begins_with_its_epoch(terminal: SweepDisplay) -> None:
    terminal.begins(STEP)
    terminal(TrialEvent(STEP.name, STARTED))
    assert "2/6 - - running" in _shown(terminal)


def test_an_epoch_without_evaluation_keeps_the_score(terminal: SweepDisplay) -> None:
    terminal.begins(STEP)
    terminal(TrialEvent(STEP.name, EPOCH))
    terminal(TrialEvent(STEP.name, EpochDone("distilled", 4, 6, {"train/total": 1.0}, 2.0)))
    assert "4/6 12.5 - running" in _shown(terminal)


def test_ended_trials_are_listed_best_first(terminal: SweepDisplay) -> None:
    for record, score in ((CONTROL, 0.1), (STEP, 0.3), (LISTED, 0.2)):
        terminal.ends(_ended(record), score)
    names = [line.split()[0] for line in _shown(terminal).splitlines() if "finished" in line]
    assert names == [STEP.name, LISTED.name, CONTROL.name]


def test_lowest_first_where_less_is_better(wide: None) -> None:
    display = SweepDisplay("AP", "min", 6, _Terminal())
    for record, score in ((CONTROL, 0.1), (STEP, 0.3)):
        display.ends(_ended(record), score)
    names = [line.split()[0] for line in _shown(display).splitlines() if "finished" in line]
    assert names == [CONTROL.name, STEP.name]


def test_a_trial_without_a_score_is_not_among_the_best(terminal: SweepDisplay) -> None:
    terminal.ends(_ended(STEP, status="failed", reason="no memory"), math.nan)
    assert STEP.name not in _shown(terminal)


def test_only_the_best_of_many_are_listed(terminal: SweepDisplay) -> None:
    for number in range(20):
        name = f"p{number:04d}-seed0"
        terminal.ends(_ended(TrialRecord(name, "searched", number, 0)), number / 100)
    names = [line.split()[0] for line in _shown(terminal).splitlines() if "finished" in line]
    assert names == [f"p{number:04d}-seed0" for number in range(19, 11, -1)]


def test_an_ended_trial_is_a_line_above_the_table(terminal: SweepDisplay) -> None:
    terminal.begins(STEP)
    terminal.ends(_ended(STEP), 0.25)
    line = "[1/6]  p0000-seed0  decay.shape=step, decay.milestones=[0.5]  AP 25.0  finished  12 s"
    assert line in _said(terminal)


def test_lists_in_settings_are_not_taken_for_colours(terminal: SweepDisplay) -> None:
    terminal.begins(LISTED)
    assert 'model.flags=[true, "a"], methods.tar.feature.weight=0.25' in _shown(terminal)
    terminal.ends(_ended(LISTED, status="failed", reason="[red]no[/red]"), 0.5)
    assert 'model.flags=[true, "a"], methods.tar.feature.weight=0.25' in _shown(terminal)
    assert 'model.flags=[true, "a"], methods.tar.feature.weight=0.25' in _said(terminal)
    assert "failed: [red]no[/red]" in _said(terminal)


def test_a_note_is_a_line_above_the_table(terminal: SweepDisplay) -> None:
    terminal.begins(STEP)
    terminal(Note("no worker has begun: [busy]", warning=True))
    assert "warning: no worker has begun: [busy]" in _said(terminal)


def test_events_of_trials_that_do_not_run_are_passed_over(terminal: SweepDisplay) -> None:
    terminal(TrialEvent(STEP.name, EPOCH))  # late: it has been ended meanwhile
    assert STEP.name not in _shown(terminal)


def test_closing_twice_is_once(terminal: SweepDisplay) -> None:
    terminal.begins(STEP)
    terminal.close()
    written = terminal.stream.getvalue()  # type: ignore[attr-defined]
    terminal.close()
    assert terminal.stream.getvalue() == written  # type: ignore[attr-defined]


# On a small one -------------------------------------------------------------------------------------------------------
POINT = {"methods.tar.feature.weight": 0.25, "methods.tar.rpn.weight": 1.5, "decay.shape": "exponential"}


def _lines(display: SweepDisplay, width: int, height: int) -> list[str]:
    """Return the lines of the table on a terminal of so many columns and lines."""
    from rich.console import Console

    console = Console(file=io.StringIO(), width=width, height=height)
    console.print(display._table())
    return console.file.getvalue().splitlines()  # type: ignore[attr-defined,no-any-return]


def _busy(running: int, ended: int, total: int = 400, name: str = "p{:04d}-seed0") -> SweepDisplay:
    """Return the display of a sweep at work: of what ended the last is the best, of what runs the last too."""
    display = SweepDisplay("AP", "max", total, io.StringIO())
    for number in range(ended + running):
        record = TrialRecord(name.format(number), "searched", number, 0, POINT)
        display.begins(record)
        if number < ended:
            display.ends(_ended(record), number / 1000)
    for number in range(ended, ended + running):
        trial = name.format(number)
        display(TrialEvent(trial, EpochDone("distilled", 3, 300, {"val/AP": number / 1000}, 2.0)))
    return display


@pytest.mark.parametrize(("width", "height"), [(40, 24), (80, 24), (40, 8), (59, 12), (60, 11), (100, 8), (160, 50)])
@pytest.mark.parametrize(("running", "ended"), [(1, 0), (0, 1), (3, 2), (64, 0), (0, 100), (64, 100)])
def test_the_table_fits_the_terminal_and_shows_the_best_and_what_runs(
    width: int, height: int, running: int, ended: int
) -> None:
    lines = _lines(_busy(running, ended), width, height)
    assert len(lines) < height
    assert max(map(len, lines)) <= width
    text = "\n".join(lines)
    names = re.findall(r"p\d{4}-seed0", text)
    assert len(names) == len(set(names))
    if ended:
        assert f"p{ended - 1:04d}-seed0" in names
    if running:
        assert f"p{ended + running - 1:04d}-seed0" in names  # the best of those at work
        assert int(names[0][1:5]) >= ended  # which come first
    shown = {True: 0, False: 0}
    for name in names:
        shown[int(name[1:5]) < ended] += 1
    for number, what in ((running - shown[False], "running"), (ended - shown[True], "ended")):
        assert (f"{number} {what}" in lines[-1]) == (number > 0)


def test_a_small_terminal_is_full_of_trials() -> None:
    for width, height, most in ((80, 24, 17), (40, 24, 19)):
        text = "\n".join(_lines(_busy(64, 300), width, height))
        assert len(re.findall(r"p\d{4}-seed0", text)) == most


def test_in_forty_columns_names_of_settings_are_as_short_as_can_be() -> None:
    lines = _lines(_busy(1, 1), 40, 24)
    assert lines[0].strip() == "1/400 ended, 1 running, 0 min"
    assert lines[1].split() == ["trial", "epoch", "AP", "settings"]
    assert [" ".join(line.split()) for line in lines[3:]] == [
        "p0001-seed0 3/300 0.1 feature.weight=0.…",
        "p0000-seed0 0.0 feature.weight=0.…",
    ]


def test_on_eighty_columns_a_point_is_told_by_the_ends_of_its_names() -> None:
    text = "\n".join(_lines(_busy(1, 1), 80, 24))
    assert "feature.weight=0.25, rpn.weight" in text and "methods.tar" not in text
    assert "images/s" not in text and "finished" in text
    assert "methods.tar.feature.weight=0.25" in "\n".join(_lines(_busy(1, 1), 160, 24))


def test_a_long_name_leaves_the_score_in_sight() -> None:
    lines = _lines(_busy(1, 1, name="confirm-p{:04d}-seed1000"), 40, 24)
    assert "confirm-p0001-seed1000 3/300" in lines[3] and " 0.1 " in lines[3]
    assert max(map(len, lines)) <= 40


def test_a_stopped_trial_is_told_from_a_finished_one_in_forty_columns() -> None:
    display = SweepDisplay("AP", "max", 4, io.StringIO())
    display.ends(_ended(STEP, status="stopped"), 0.3)
    assert "stopped" in "\n".join(_lines(display, 40, 24))


def test_what_ended_before_is_in_the_table_and_is_no_line(terminal: SweepDisplay) -> None:
    terminal(TrialsKept(((_ended(STEP), 0.4), (_ended(CONTROL), 0.1))))
    terminal.begins(LISTED)
    shown = _shown(terminal)
    assert "2 of 6 trials ended, 1 running" in shown
    assert [line.split()[0] for line in shown.splitlines() if "finished" in line] == [STEP.name, CONTROL.name]
    terminal.ends(_ended(LISTED), 0.2)
    lines = [line.split()[:2] for line in _said(terminal).splitlines() if line.startswith("[")]
    assert lines == [["[1/6]", LISTED.name]]


def test_kept_trials_leave_a_pipe_as_it_was() -> None:
    display = SweepDisplay("AP", "max", 6, io.StringIO())
    display(TrialsKept(((_ended(STEP), 0.4),)))
    display.ends(_ended(LISTED), 0.2)
    assert display.stream.getvalue().splitlines()[0].startswith("[1/6]  p0001-seed0")  # type: ignore[attr-defined]


# Several threads ------------------------------------------------------------------------------------------------------
def _from_two_threads(display: SweepDisplay) -> list[threading.Thread]:
    """Let one thread begin and end trials while another shows what they say, as on Ray; wait for both, a minute."""

    def begin_and_end() -> None:
        for number in range(100):
            record = TrialRecord(f"p{number:04d}-seed0", "searched", number, 0)
            display.begins(record)
            display.ends(_ended(record), number / 100)

    def say() -> None:
        for number in range(100):
            for event in (STARTED, SPEED, EPOCH):
                display(TrialEvent(f"p{number:04d}-seed0", event))
            display(Note(f"note {number}"))

    threads = [threading.Thread(target=work, daemon=True) for work in (begin_and_end, say)]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + PATIENCE
    for thread in threads:
        thread.join(max(0, deadline - time.monotonic()))
    return threads


def test_two_threads_may_share_a_display_in_a_pipe() -> None:
    display = SweepDisplay("AP", "max", 100, io.StringIO())
    assert not any(thread.is_alive() for thread in _from_two_threads(display))
    lines = display.stream.getvalue().splitlines()  # type: ignore[attr-defined]
    assert [line.split()[0] for line in lines if line.startswith("[")] == [f"[{n}/100]" for n in range(1, 101)]
    assert [line for line in lines if line.startswith("note")] == [f"note {n}" for n in range(100)]


def test_two_threads_may_share_a_display_on_a_terminal(wide: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(table, "_REFRESHES_PER_SECOND", 1000)  # as many meetings as in an hour's sweep
    display = SweepDisplay("AP", "max", 100, _Terminal())
    assert not any(thread.is_alive() for thread in _from_two_threads(display))
    display.close()
    assert [f"[{number}/100]" in _said(display) for number in range(1, 101)] == [True] * 100
    assert "100 of 100 trials ended, 0 running" in _shown(display)


def test_what_was_made_events_of_is_heard_as_it_was() -> None:
    heard: list[tuple[Any, ...]] = []

    class Listener:
        def __call__(self, event: Any) -> None:
            heard.append(("event", event))

        def begins(self, record: TrialRecord) -> None:
            heard.append(("begins", record))

        def ends(self, record: TrialRecord, score: float) -> None:
            heard.append(("ends", record, score))

        def close(self) -> None:
            heard.append(("close",))

    record, note = TrialRecord("p0000-seed0", "searched", 0, 0), Note("a sentence")
    events = SweepEvents(lambda event: hand_on(event, Listener()))
    events.begins(record)
    events(note)
    events.ends(record, 0.5)
    events.close()
    assert heard == [("begins", record), ("event", note), ("ends", record, 0.5)]
