"""How long a stage is trained: until nothing gets better, and for more epochs than it was begun with."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from raydistill.config import Config
from raydistill.errors import UserError
from raydistill.inference.evaluation import EvaluationResult
from raydistill.runs.comparison import as_csv, as_text, comparison
from raydistill.runs.directory import RunDirectory, StageName
from raydistill.runs.events import EpochDone, StageStarted
from raydistill.runs.reporter import FileReporter
from raydistill.runs.worker import Worker
from raydistill.training import loop
from raydistill.training.stages import run_stages
from tests.outputs import output_of, refuse_other_settings
from tests.ranks import on_ranks
from tests.small import (
    Listener,
    ProcessEndedError,
    Stage,
    metrics_of,
    repeatable,
    same_weights,
    small_run,
    weights_of,
)

STEADY = ("training.schedule={shape: step, milestones: [], warmup_steps: 2}", "decay.shape=constant")
ALONE = "distillation.baseline=false"
FIXED = ("student.box_score_thresh=0", "data.num_train=4", "data.num_val=2", "distillation.preflight=warn")


@pytest.fixture
def scored(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The AP of each evaluation, in order; the one that stands first is taken and removed."""
    scores: list[float] = []
    evaluate = loop.evaluate_on_val

    def as_given(job: Any, *given: Any) -> EvaluationResult:
        found = evaluate(job, *given)
        summary = {**found.scores.summary, "AP": scores.pop(0)}
        return dataclasses.replace(found, scores=dataclasses.replace(found.scores, summary=summary))

    monkeypatch.setattr(loop, "evaluate_on_val", as_given)
    return scores


def _stage(folder: Path, *settings: str, name: StageName = "baseline", worker: Worker | None = None) -> Stage:
    return Stage(small_run(folder, *FIXED, *settings), name, worker or Worker())


@pytest.mark.parametrize("name", ["baseline", "teacher", "distilled"])
def test_a_stage_ends_where_nothing_got_better_for_so_many_epochs(
    name: StageName, scored: list[float], tmp_path: Path
) -> None:
    scored += [0.1, 0.3, 0.3, 0.2, 0.4]
    stage = _stage(tmp_path, "training.epochs=9", "training.patience=2", name=name)
    result = stage.fit()
    assert (result["epochs"], result["planned_epochs"], result["epoch"], result["AP"]) == (4, 9, 2, 0.3)
    assert len(stage.lines()) == 4
    assert f"{name}: ends after epoch 4 of 9, as AP was best after epoch 2 (training.patience=2)" in stage.listener.text
    ends = [(event.epoch, event.epochs) for event in stage.listener.events if isinstance(event, EpochDone)]
    assert ends == [(1, 9), (2, 9), (3, 9), (4, 4)]


def test_patience_counts_epochs_and_ends_with_an_evaluation(scored: list[float], tmp_path: Path) -> None:
    scored += [0.3, 0.2, 0.1, 0.0]
    stage = _stage(tmp_path, "training.epochs=9", "training.patience=3", "evaluation.every=2")
    result = stage.fit()
    assert (result["epochs"], result["epoch"]) == (6, 2)


def test_a_stage_that_gets_better_uses_all_its_epochs(scored: list[float], tmp_path: Path) -> None:
    scored += [0.1, 0.2, 0.2]
    result = _stage(tmp_path, "training.epochs=3", "training.patience=2").fit()
    assert result["epochs"] == 3
    assert "planned_epochs" not in result


def test_an_interrupted_stage_ends_where_it_would_have_ended(scored: list[float], tmp_path: Path) -> None:
    settings = ("training.epochs=9", "training.patience=2")
    scored += [0.1, 0.3, 0.2, 0.2]
    whole = _stage(tmp_path / "whole", *settings)
    whole.fit()
    for after in (2,):
        scored[:] = [0.1, 0.3, 0.2, 0.2][: after + 1]
        with pytest.raises(ProcessEndedError):
            _stage(tmp_path / str(after), *settings).fit(interrupt_after=after)
        scored[:] = [0.1, 0.3, 0.2, 0.2][after:]
        again = _stage(tmp_path / str(after), *settings)
        again.fit()
        assert repeatable(again.lines()) == repeatable(whole.lines())
        assert same_weights(weights_of(again.run.best), weights_of(whole.run.best))
        assert not scored
    ended = _stage(tmp_path / "whole", *settings)  # its checkpoint was written, its result was not
    ended.run.result.unlink()
    assert ended.fit()["epochs"] == 4
    assert len(ended.lines()) == 4


def _without_progress(worker: Worker, folder: Path) -> None:
    """Train at a rate so low that no score changes."""
    settings = ("training.epochs=6", "training.patience=1", "training.optimizer.learning_rate=1e-12")
    result = _stage(folder, *settings, worker=worker).fit()
    assert (result["epochs"], result["epoch"]) == (2, 1)


def test_all_workers_end_together(tmp_path: Path) -> None:
    assert on_ranks(_without_progress, 2, tmp_path) == [0, 0]


def test_the_table_says_what_ended_early(tmp_path: Path) -> None:
    from tests.reports.made_up import stage_directory

    stage_directory(tmp_path / "baseline", "baseline", [0.1, 0.2])
    stage_directory(tmp_path / "distilled", "distilled", [0.1, 0.2, 0.3])
    assert "ended" not in as_text(comparison(tmp_path))
    assert "planned" not in as_csv(comparison(tmp_path))
    file = tmp_path / "distilled" / "result.json"
    file.write_text(file.read_text().replace('"epochs": 3', '"epochs": 3, "planned_epochs": 8'))
    head, alone, distilled = as_text(comparison(tmp_path)).splitlines()
    assert head.endswith("ended after")
    assert alone.endswith(" 2")
    assert distilled.endswith(" 3 of 8")
    assert as_csv(comparison(tmp_path)).splitlines()[0].endswith("epochs,planned_epochs")


def _run(config: Config) -> Listener:
    listener, worker = Listener(), Worker()
    run_stages(config, output_of(config), worker, lambda run: FileReporter(run, worker, listener, False))
    return listener


def _config(folder: Path, epochs: int, *settings: str) -> Config:
    return small_run(folder, *FIXED, "teacher.epochs=1", f"training.epochs={epochs}", *settings)


@pytest.mark.parametrize(
    ("then", "now"),
    [
        (STEADY, STEADY),
        (("training.horizon=2", ALONE), ("training.horizon=2", ALONE)),
        ((ALONE,), ("training.horizon=1", ALONE)),  # it was laid out for the epoch that it had
    ],
)
def test_more_epochs_later_are_as_good_as_from_the_start(
    then: tuple[str, ...], now: tuple[str, ...], tmp_path: Path
) -> None:
    _run(_config(tmp_path / "grown", 1, *then))
    grown = _run(_config(tmp_path / "grown", 2, *now))
    whole = _config(tmp_path / "whole", 2, *now)
    _run(whole)
    assert "teacher: finished before, not trained again" in grown.text
    starts = {event.stage: event.first_epoch for event in grown.events if isinstance(event, StageStarted)}
    assert starts == dict.fromkeys([*(["baseline"] if ALONE not in now else []), "distilled"], 1)
    for stage in starts:
        one, other = (RunDirectory(tmp_path / folder / stage) for folder in ("grown", "whole"))
        assert repeatable(metrics_of(one)) == repeatable(metrics_of(other))
        assert len(one.lines()) == 2
        assert same_weights(weights_of(one.best), weights_of(other.best))
        assert same_weights(weights_of(one.last), weights_of(other.last))
    with pytest.raises(UserError, match=r"training.epochs=2 then, 1 now"):
        refuse_other_settings(_config(tmp_path / "grown", 1, *then))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two epochs, of all stages."""
    folder = tmp_path_factory.mktemp("finished")
    _run(_config(folder, 2))
    return folder


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ((), r"training.epochs=2 then, 4 now \(the learning rate was laid out for 2 epochs; training.horizon=2 trains"),
        ((), r"\(learning rate and decay were laid out for 2 epochs; training.horizon=2"),
        (("training.horizon=3",), r"training.epochs=2 then, 4 now"),
        (("training.horizon=2", "teacher.epochs=null"), r"set teacher.epochs=1 to keep the teacher"),
        (("training.horizon=2", "training.batch_size=2"), r"training.batch_size=4 then, 2 now$"),
    ],
)
def test_more_epochs_that_would_not_be_the_same_are_refused_with_the_reason(
    settings: tuple[str, ...], reason: str, finished: Path
) -> None:
    with pytest.raises(UserError, match=reason):
        refuse_other_settings(_config(finished, 4, *settings))


def test_an_epoch_that_was_evaluated_out_of_turn_stands_in_the_way(tmp_path: Path) -> None:
    _run(_config(tmp_path, 1, *STEADY, "evaluation.every=2", "distillation.baseline=false"))
    with pytest.raises(UserError, match=r"its last epoch was evaluated out of turn, with evaluation.every=2"):
        refuse_other_settings(_config(tmp_path, 4, *STEADY, "evaluation.every=2", "distillation.baseline=false"))


def test_a_stage_without_its_checkpoint_cannot_go_on(finished: Path) -> None:
    for stage in ("baseline", "distilled"):
        RunDirectory(finished / stage).remove_checkpoints()
    with pytest.raises(UserError, match="must hold its checkpoint to be trained for more than 2 epochs, got none"):
        _run(_config(finished, 4, "training.horizon=2"))
    assert len(comparison(finished)) == 3
