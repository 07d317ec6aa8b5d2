"""Points that Optuna suggests from those already scored."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from raydistill.errors import UserError
from raydistill.sweeps.file import LoadedSweep, OptunaSearch, Point, controls, draw, signature
from raydistill.sweeps.file.space import value_key

if TYPE_CHECKING:  # a third of a second, which sweeps that suggest nothing do without
    import optuna

_TRIES = 50
"""Suggestions in a row that may be known already, before the space is called exhausted."""


class Suggestions:
    """Optuna's side of a sweep; a point's number says which one is meant."""

    def __init__(self, loaded: LoadedSweep) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        search = loaded.sweep.search
        if not isinstance(search, OptunaSearch):
            raise TypeError(f"search must be optuna's, got {search}")
        self._loaded, self._search = loaded, search
        self._study = optuna.create_study(direction="maximize" if loaded.sweep.mode == "max" else "minimize")
        self._in_every_trial = optuna.search_space.IntersectionSearchSpace(include_pruned=True)
        self._states = optuna.trial.TrialState
        self._trials: dict[int, optuna.trial.Trial] = {}
        self._given = deque(loaded.given)
        self._known = {signature(loaded, point) for point in controls(loaded).values()}

    def ask(self, number: int) -> Point | None:
        """Return a point that was not suggested before and is no control; None where none is found.

        The points that the sweep file gives come first. Where there are few points in all, one that is left is found.
        """
        while self._given:
            point = self._given.popleft()
            if self._is_new(point):
                self.repeat(number, point)
                return point
        for attempt in range(_TRIES):
            self._study.sampler = self._sampler(number, attempt)
            trial = self._study.ask()
            point = draw(self._loaded.sweep.space, _OptunasChoice(trial))
            if self._is_new(point):
                self._remember(number, point, trial)
                return point
            self._study.tell(trial, state=self._states.FAIL)
        for point in self._loaded.all_points or ():
            if self._is_new(point):
                self.repeat(number, point)
                return point
        return None

    def repeat(self, number: int, point: Point) -> None:
        """Suggest a point again that an earlier session has had."""
        recorder = _Recorder(point)
        draw(self._loaded.sweep.space, recorder)
        self._study.enqueue_trial(recorder.chosen)
        trial = self._study.ask()
        draw(self._loaded.sweep.space, _OptunasChoice(trial))
        self._remember(number, point, trial)

    def tell(self, number: int, value: float, stopped_at: int) -> None:
        """Let Optuna learn a point's value; ``stopped_at`` is the epoch of an early end, else 0."""
        trial = self._trials.pop(number)
        if stopped_at:
            trial.report(value, stopped_at)
            self._study.tell(trial, state=self._states.PRUNED)
        else:
            self._study.tell(trial, value)

    def tell_failed(self, number: int) -> None:
        """Let Optuna know that a point has no value."""
        self._study.tell(self._trials.pop(number), state=self._states.FAIL)

    def _sampler(self, number: int, attempt: int) -> optuna.samplers.TPESampler:
        """Return a sampler with a seed of its own: a sweep that goes on suggests as one that was never interrupted."""
        import optuna

        sampler = optuna.samplers.TPESampler(
            seed=hash((self._search.seed, number, attempt)) % 2**32,
            n_startup_trials=self._search.startup_trials,
            constant_liar=True,
        )
        # A new sampler would read every trial again to find this out; if Optuna renames it, that is all that happens.
        sampler._search_space = self._in_every_trial
        return sampler

    def _remember(self, number: int, point: Point, trial: optuna.trial.Trial) -> None:
        self._trials[number] = trial
        self._known.add(signature(self._loaded, point))

    def _is_new(self, point: Point) -> bool:
        try:
            return signature(self._loaded, point) not in self._known
        except UserError:  # its settings do not fit together
            return False


class _OptunasChoice:
    """Draws through one of Optuna's trials."""

    def __init__(self, trial: optuna.trial.Trial) -> None:
        self._trial = trial

    def choice(self, name: str, values: Sequence[Any]) -> Any:
        return self._trial.suggest_categorical(name, list(values))

    def uniform(self, name: str, low: float, high: float, log: bool) -> float:
        return self._trial.suggest_float(name, low, high, log=log)

    def integer(self, name: str, low: int, high: int) -> int:
        return self._trial.suggest_int(name, low, high)


class _Recorder:
    """Picks what a known point holds, and keeps it as Optuna knows it."""

    def __init__(self, point: Point) -> None:
        self._point = point
        self.chosen: dict[str, Any] = {}

    def choice(self, name: str, values: Sequence[Any]) -> Any:
        value = self._point[name]
        self.chosen[name] = value if value in values else value_key(value)
        return self.chosen[name]

    def uniform(self, name: str, low: float, high: float, log: bool) -> float:  # noqa: ARG002
        return self._pick(name)

    def integer(self, name: str, low: int, high: int) -> int:  # noqa: ARG002
        return int(self._pick(name))

    def _pick(self, name: str) -> float:
        self.chosen[name] = self._point[name]
        return float(self._point[name])
