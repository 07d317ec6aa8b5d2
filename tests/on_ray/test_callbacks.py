"""What is said and remembered while Ray Tune runs a sweep; without starting Ray."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from raydistill.on_ray.callbacks import PlannedSearch, Recorder, Searcher
from raydistill.runs.events import Event, Note


class _Plan:
    """A plan of two trials."""

    loaded: Any = SimpleNamespace(sweep=SimpleNamespace(mode="max"))
    controls_left = 0

    def __init__(self) -> None:
        self.left = [SimpleNamespace(name=name, settings={}) for name in ("one", "two")]

    def next(self) -> Any:
        return self.left.pop(0) if self.left else None


def test_a_trial_that_is_started_again_is_told_of() -> None:
    heard: list[Event] = []
    recorder = Recorder(_Plan(), heard.append)  # type: ignore[arg-type]
    recorder.on_trial_recover(iteration=1, trials=[], trial="p0001-seed0")
    assert heard == [Note("p0001-seed0: its worker was lost; the trial goes on from its last checkpoint", warning=True)]


def test_no_more_trials_are_handed_out_than_there_is_room_for_now() -> None:
    room = 1
    search = PlannedSearch(_Plan(), False, lambda: room)  # type: ignore[arg-type]
    assert search.suggest("a") == {"trial": "one", "settings": {}}
    assert search.suggest("b") is None
    room = 2
    assert search.suggest("b") == {"trial": "two", "settings": {}}
    search.on_trial_complete("a")
    assert search.suggest("c") == Searcher.FINISHED


def test_controls_alone_are_handed_out_where_only_they_are_wanted() -> None:
    assert PlannedSearch(_Plan(), True, lambda: 9).suggest("a") == Searcher.FINISHED  # type: ignore[arg-type]
