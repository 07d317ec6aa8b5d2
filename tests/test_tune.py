"""``python -m raydistill.tune``, up to the door of Ray."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import raydistill.reports
from raydistill.errors import UserError
from raydistill.results import SweepRun
from raydistill.storage.output import Output
from raydistill.sweeps import trial as trial_module
from raydistill.sweeps.directory import SweepDirectory
from raydistill.training import stages
from raydistill.tune import main
from tests.small import metrics_of, plain_report, repeatable, run_python, small_sweep

TRIALS = ["baseline-seed0", "constant-seed0", "p0000-seed0"]
TWO_SHAPES = {"decay.shape": {"grid": ["linear", "cosine"]}}


@pytest.fixture(autouse=True, scope="module")
def _without_pictures() -> Any:
    """Pictures take seconds, and have tests of their own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(raydistill.reports, "write_report", plain_report)
        yield


def _sweep(folder: Path) -> SweepDirectory:
    return SweepDirectory(folder / "sweep")


def _statuses(folder: Path) -> dict[str, str]:
    return {trial.path.name: trial.read().status for trial in _sweep(folder).trials()}


def _table(folder: Path) -> pd.DataFrame:
    table = pd.read_csv(_sweep(folder).report / "trials.csv")
    return table.drop(columns=[name for name in table if "seconds" in name])


def _files(folder: Path) -> dict[Path, int]:
    """Return every file that training writes, and when it was written."""
    patterns = ("teacher/*", "trials/*/*", "trials/*/*/*")
    found = [path for pattern in patterns for path in (folder / "sweep").glob(pattern)]
    return {path: path.stat().st_mtime_ns for path in found if path.is_file()}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a sweep of two points and one seed, run to its end, with what it said."""
    folder, out, err = tmp_path_factory.mktemp("undisturbed"), io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        assert main([small_sweep(folder, space=TWO_SHAPES), "--local"]) == 0
    (folder / "out.txt").write_text(out.getvalue())
    (folder / "err.txt").write_text(err.getvalue())
    return folder


@pytest.fixture
def quick_students(undisturbed: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let trials end at once, with what those of the undisturbed sweep have left."""

    def run_student(config: Any, *_: Any) -> None:
        trained = "p0000-seed0" if config.distills else "baseline-seed0"
        shutil.copytree(_sweep(undisturbed).trial(trained).path, config.output, ignore=_own_files, dirs_exist_ok=True)

    monkeypatch.setattr(trial_module, "run_student", run_student)


def _own_files(folder: str, names: list[str]) -> list[str]:
    return [name for name in names if name in ("trial.json", "recipe.yaml", "log.txt")]


# A sweep here ---------------------------------------------------------------------------------------------------------
def test_a_sweep_here_ends_with_the_table_on_stdout_and_progress_on_stderr(undisturbed: Path) -> None:
    out, err = ((undisturbed / name).read_text() for name in ("out.txt", "err.txt"))
    assert "sweep: 4 trials, 4 finished" in out
    for row in ("point 0 ", "point 1 ", "student alone ", "constant weight "):
        assert [line for line in out.splitlines() if line.startswith(row)], row
    assert f"Report: {undisturbed / 'sweep' / 'report' / 'report.html'}" in out
    assert f"4 trials in {undisturbed / 'sweep'}\n" in err
    lines = [line for line in err.splitlines() if line.startswith("[")]
    expected = [[f"[{n}/4]", name] for n, name in enumerate([*TRIALS, "p0001-seed0"], start=1)]
    assert [line.split()[:2] for line in lines] == expected


@pytest.mark.parametrize(("bf16", "meant"), [(False, "fp32"), (True, "bf16")])
def test_what_auto_means_is_decided_once_and_kept_on_another_processor(
    tmp_path: Path, bf16: bool, meant: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = small_sweep(tmp_path, {"distillation.teacher_precision": "auto", "training.epochs": 1})

    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("raydistill.detectors.frozen.computes_bf16", lambda: bf16)
    with monkeypatch.context() as patch:
        patch.setattr(stages, "run_stages", interrupt)
        assert main([file, "--local"]) == 130
    trials, said = capsys.readouterr().err.splitlines()[1:3]
    assert trials.startswith("3 trials in ")
    assert said.startswith(f"teacher: answers in {meant}, ")
    monkeypatch.setattr("raydistill.detectors.frozen.computes_bf16", lambda: not bf16)
    assert main([file, "--local"]) == 0
    captured = capsys.readouterr()
    assert captured.err.splitlines()[2] == f"teacher: answers in {meant}"
    assert f"sweep: 3 trials, 3 finished; the teacher answered in {meant}" in captured.out
    table = _table(tmp_path).set_index("role")["distillation.teacher_precision"]
    assert table[["constant", "searched"]].tolist() == [meant, meant]
    assert pd.isna(table["baseline"])


def test_every_trial_is_finished_and_has_its_files(undisturbed: Path) -> None:
    assert _statuses(undisturbed) == dict.fromkeys([*TRIALS, "p0001-seed0"], "finished")
    for trial in _sweep(undisturbed).trials():
        assert trial.recipe.is_file()
        assert trial.log.is_file()
        assert trial.run.finished
        assert [line["epoch"] for line in metrics_of(trial.run)] == [1, 2]
        assert trial.read().seconds > 0


def test_the_points_differ_in_what_is_searched(undisturbed: Path) -> None:
    decays = [
        [line["train/decay"] for line in metrics_of(_sweep(undisturbed).trial(name).run)]
        for name in ("constant-seed0", "p0000-seed0", "p0001-seed0")
    ]
    assert decays == [[1.0, 1.0], [1.0, 0.5], [1.0, pytest.approx(0.5)]]
    losses = [metrics_of(_sweep(undisturbed).trial(f"p000{n}-seed0").run)[1]["train/total"] for n in (0, 1)]
    assert losses[0] == pytest.approx(losses[1])  # linear and cosine meet at half-time


def test_the_teacher_is_trained_once_for_all_seeds_and_seeds_give_different_students(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[str] = []
    original = stages.fit

    def fit(job: Any, *rest: Any) -> Any:
        begun.append(job.stage)
        return original(job, *rest)

    monkeypatch.setattr(stages, "fit", fit)
    assert main([small_sweep(tmp_path, {"training.epochs": 1}, seeds=[0, 5]), "--local"]) == 0
    assert begun == ["teacher", *["baseline"] * 2, *["distilled"] * 4]
    assert not list((tmp_path / "sweep" / "trials").glob("*/teacher"))
    assert "teacher epoch 1/1" in capsys.readouterr().err
    losses = [metrics_of(_sweep(tmp_path).trial(f"baseline-seed{seed}").run)[0]["train/total"] for seed in (0, 5)]
    assert losses[0] != losses[1]


def test_repeating_a_sweep_that_has_ended_shows_its_table_and_runs_nothing(
    undisturbed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before, table = _files(undisturbed), _table(undisturbed)
    assert main([str(undisturbed / "small.yaml"), "--local"]) == 0
    captured = capsys.readouterr()
    assert _files(undisturbed) == before
    pd.testing.assert_frame_equal(_table(undisturbed), table)
    assert "4 trials, 4 finished" in captured.out
    assert "; 4 of them ended before and are kept" in captured.err
    assert "epoch" not in captured.err


def test_the_table_of_a_sweep_that_has_ended_needs_no_ray(
    undisturbed: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "raydistill.on_ray.sweep", None)  # importing it would fail
    assert main([str(undisturbed / "small.yaml")]) == 0
    assert "4 trials, 4 finished" in capsys.readouterr().out


def test_what_was_written_down_is_a_sweep_file_that_goes_on(
    undisturbed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = _files(undisturbed)
    assert main([str(undisturbed / "sweep" / "sweep.yaml"), "--local"]) == 0
    assert _files(undisturbed) == before


# Interruptions --------------------------------------------------------------------------------------------------------
def _interrupt(monkeypatch: pytest.MonkeyPatch, trial: str, epoch: int, error: BaseException) -> None:
    """Let ``error`` come up in a trial after an epoch, with its checkpoint written."""
    original = trial_module.run_student

    def run_student(config: Any, output: Any, worker: Any, reporter_for: Any, *rest: Any) -> None:
        def reporter(run: Any) -> Any:
            inner = reporter_for(run)
            if Path(config.output).name == trial:
                handed_on = inner.files.listener

                def listener(event: Any) -> None:
                    handed_on(event)
                    if getattr(event, "metrics", None) and event.epoch == epoch:
                        raise error

                object.__setattr__(inner.files, "listener", listener)
            return inner

        original(config, output, worker, reporter, *rest)

    monkeypatch.setattr(trial_module, "run_student", run_student)


def test_a_sweep_interrupted_twice_goes_on_and_ends_as_one_that_was_not(
    undisturbed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = small_sweep(tmp_path, space=TWO_SHAPES)
    shutil.copytree(_sweep(undisturbed).teacher.path, _sweep(tmp_path).teacher.path)
    interrupted = {}
    for trial, epoch, begun in (("constant-seed0", 1, TRIALS[:2]), ("p0000-seed0", 2, TRIALS)):
        with monkeypatch.context() as patch:
            _interrupt(patch, trial, epoch, KeyboardInterrupt())
            assert main([file, "--local"]) == 130
        captured = capsys.readouterr()
        assert captured.err.endswith(
            "interrupted; the same command goes on: ended trials are kept, the others go on after their last epoch\n"
        )
        assert captured.out == ""
        assert _statuses(tmp_path) == dict.fromkeys(begun, "finished") | {trial: "unfinished"}
        directory = _sweep(tmp_path).trial(trial)
        interrupted[trial] = directory.read().seconds, directory.run.lines()[0]

    assert main([file, "--local"]) == 0
    for trial, (spent, first_line) in interrupted.items():
        assert _sweep(tmp_path).trial(trial).run.lines()[0] == first_line  # it went on, and did not begin again
        assert _sweep(tmp_path).trial(trial).read().seconds > spent > 0
    pd.testing.assert_frame_equal(_table(tmp_path), _table(undisturbed))
    for one in _sweep(undisturbed).trials():
        other = _sweep(tmp_path).trial(one.path.name)
        assert repeatable(metrics_of(other.run)) == repeatable(metrics_of(one.run))


def test_a_sweep_interrupted_with_its_teacher_goes_on(
    tmp_path: Path, quick_students: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = small_sweep(tmp_path, {"training.epochs": 1})

    def fit(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(stages, "fit", fit)
        assert main([file, "--local"]) == 130
    assert _statuses(tmp_path) == {}
    assert main([file, "--local"]) == 0
    assert _sweep(tmp_path).teacher.finished
    assert _statuses(tmp_path) == dict.fromkeys(TRIALS, "finished")


def test_a_second_command_in_the_same_place_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Output.at(str(tmp_path / "sweep")).opened():
        assert main([small_sweep(tmp_path), "--local"]) == 2
    assert f"{tmp_path / 'sweep'}: another command is at work there" in capsys.readouterr().err


# Fresh seeds ----------------------------------------------------------------------------------------------------------
def test_the_winner_is_run_again_once_under_fresh_seeds_and_every_other_file_stays(
    undisturbed: Path, tmp_path: Path, quick_students: None, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(_sweep(undisturbed).path, _sweep(tmp_path).path, ignore=shutil.ignore_patterns("report"))
    file = small_sweep(tmp_path, space=TWO_SHAPES)
    _make_differ(tmp_path, "p0001-seed0", 0.5)
    before = _files(tmp_path)
    assert main([file, "--local", "--confirm", "2"]) == 0
    captured = capsys.readouterr()
    assert "point 1 (decay.shape=cosine) and the student alone again, under 2 seeds that nothing was" in captured.err
    names = [f"confirm-{what}-seed{seed}" for what in ("baseline", "p0001") for seed in (1000, 1001)]
    assert [line.split()[1] for line in captured.err.splitlines() if line.startswith("[")] == names
    assert {path: _files(tmp_path)[path] for path in before} == before
    after = _files(tmp_path)
    assert main([file, "--local", "--confirm", "2"]) == 0
    assert _files(tmp_path) == after
    assert [line for line in capsys.readouterr().err.splitlines() if line.startswith("[")] == []
    assert "Under 5 seeds" not in captured.out
    assert "Run again on 2 fresh seeds that nothing was chosen on: point 1 (decay.shape=cosine): " in captured.out
    trials = _table(tmp_path).set_index("trial")
    gains = [trials["AP"][name] - trials["AP"][control] for name, control in zip(names[2:], names[:2], strict=True)]
    assert trials["gain_over_baseline"][names[2:]].tolist() == pytest.approx(gains)
    sweep = SweepRun(str(_sweep(tmp_path).path), has_result=True)
    assert sweep.confirmed is not None and sweep.best is not None
    assert (sweep.confirmed.number, sweep.confirmed.pairs, sweep.confirmed.holds) == (1, 2, False)  # two are too few
    assert sweep.confirmed.gain == pytest.approx(sum(gains) / 2)
    assert (sweep.best.number, sweep.best.points, sweep.best.is_better) == (1, 2, False)


def test_at_the_end_of_a_sweep_the_command_for_fresh_seeds_is_offered(
    undisturbed: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(_sweep(undisturbed).path, _sweep(tmp_path).path, ignore=shutil.ignore_patterns("report"))
    file = small_sweep(tmp_path / "a b", space=TWO_SHAPES, output=str(_sweep(tmp_path).path))
    _make_differ(tmp_path, "p0001-seed0", 0.5)
    assert main([file, "max_concurrent=2", "--local"]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    command = f"python -m raydistill.tune '{file}' max_concurrent=2 --local --confirm 5"
    assert last == f"Under 5 seeds that nothing was chosen on: {command}"
    for trial in ("p0000-seed0", "p0001-seed0"):
        _make_differ(tmp_path, trial, 0.0)
    assert main([file, "--local", "--confirm", "2"]) == 0
    captured = capsys.readouterr()
    assert "Every AP is 0" in captured.out and "Under 5 seeds" not in captured.out
    assert "confirm: no point is better than another, so none is run again" in captured.err


def _make_differ(folder: Path, trial: str, score: float) -> None:
    """Give a trial another score than it has."""
    run = _sweep(folder).trial(trial).run
    run.result.write_text(json.dumps({**json.loads(run.result.read_text()), "AP": score}))


def test_nothing_is_run_again_where_no_point_has_finished(
    tmp_path: Path, quick_students: None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    original = trial_module.run_student

    def run_student(config: Any, *rest: Any) -> None:
        if Path(config.output).name.startswith("p"):
            raise ZeroDivisionError("no luck")
        original(config, *rest)

    monkeypatch.setattr(trial_module, "run_student", run_student)
    assert main([small_sweep(tmp_path, {"training.epochs": 1}), "--local", "--confirm", "3"]) == 1
    assert "warning: confirm: no point has finished on every seed, so none is run again" in capsys.readouterr().err
    assert not any("confirm" in name for name in _statuses(tmp_path))


def test_the_plan_says_what_is_run_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([small_sweep(tmp_path), "--print-plan", "--confirm", "3"]) == 0
    line = "then the point of the highest AP and the student alone again, under seed 1000 to 1002"
    assert capsys.readouterr().out.splitlines()[-1] == line
    assert main([small_sweep(tmp_path), "--print-plan", "--confirm", "-3"]) == 2
    assert "confirm: must be a number of seeds, 1 to 1000, got -3" in capsys.readouterr().err


# Failures -------------------------------------------------------------------------------------------------------------
HOPELESS = {"training.optimizer.learning_rate": {"grid": [1e9, 0.01]}}


def test_a_trial_that_fails_is_no_end_of_the_sweep(
    undisturbed: Path,
    tmp_path: Path,
    quick_students: None,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    quick = trial_module.run_student

    def run_student(config: Any, *rest: Any) -> None:
        (stages.run_student if Path(config.output).name == "p0000-seed0" else quick)(config, *rest)

    monkeypatch.setattr(trial_module, "run_student", run_student)
    shutil.copytree(_sweep(undisturbed).teacher.path, _sweep(tmp_path).teacher.path)
    file = small_sweep(tmp_path, space=HOPELESS)
    assert main([file, "--local"]) == 0
    captured = capsys.readouterr()
    assert _statuses(tmp_path) == dict.fromkeys([*TRIALS, "p0001-seed0"], "finished") | {"p0000-seed0": "failed"}
    assert "the loss must be finite" in _sweep(tmp_path).trial("p0000-seed0").read().reason
    assert "  p0000-seed0: distilled, step " in captured.out
    assert "failed: distilled, step " in captured.err
    # it is tried again, the others are not
    before = {path: time for path, time in _files(tmp_path).items() if "p0000" not in str(path)}
    assert main([file, "--local"]) == 0
    captured = capsys.readouterr()
    assert {path: time for path, time in _files(tmp_path).items() if "p0000" not in str(path)} == before
    assert "; 3 of them ended before and are kept" in captured.err
    assert [line.split()[1] for line in captured.err.splitlines() if line.startswith("[")] == ["p0000-seed0"]


def test_a_sweep_whose_searched_trials_all_fail_ends_with_1_and_the_reasons(
    tmp_path: Path, quick_students: None, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    original = trial_module.run_student

    def run_student(config: Any, *rest: Any) -> None:
        if Path(config.output).name.startswith("p"):
            raise ZeroDivisionError("no luck")
        original(config, *rest)

    monkeypatch.setattr(trial_module, "run_student", run_student)
    assert main([small_sweep(tmp_path, {"training.epochs": 1}, seeds=2), "--local"]) == 1
    captured = capsys.readouterr()
    failed = [f"p0000-seed{seed}: ZeroDivisionError: no luck" for seed in (0, 1)]
    assert [line.strip() for line in captured.out.splitlines() if "no luck" in line] == failed
    assert "Traceback" not in captured.out + captured.err
    assert "No searched trial has a score yet." in captured.out


def test_a_teacher_that_cannot_be_had_ends_the_sweep(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = small_sweep(tmp_path, {"teacher.weights": str(tmp_path / "nowhere")})
    assert main([file, "--local"]) == 2
    captured = capsys.readouterr()
    assert "nowhere" in captured.err
    assert "Traceback" not in captured.err
    assert captured.out == ""
    assert _statuses(tmp_path) == {}


def test_an_error_of_ours_keeps_its_traceback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fit(*_: Any) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(stages, "fit", fit)
    with pytest.raises(ZeroDivisionError):
        main([small_sweep(tmp_path), "--local"])


# Refusals -------------------------------------------------------------------------------------------------------------
def test_a_scheduler_is_refused_without_ray(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = small_sweep(tmp_path, scheduler={"name": "asha", "grace_period": 1})
    assert main([file, "--local"]) == 2
    assert "scheduler: must be none with --local, got asha" in capsys.readouterr().err
    assert not (tmp_path / "sweep" / "teacher").exists()
    assert _statuses(tmp_path) == {}


def test_a_changed_sweep_is_refused_with_the_difference(
    undisturbed: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = _files(undisturbed)
    monkeypatch.setitem(sys.modules, "raydistill.on_ray.sweep", None)  # importing it would fail
    assert main([str(undisturbed / "small.yaml"), "data.num_train=6", "seeds=[1, 2]"]) == 2
    captured = capsys.readouterr()
    assert "data.num_train: 4 then, 6 now" in captured.err
    assert "seeds: [0] then, [1, 2] now" in captured.err
    assert captured.out == ""
    assert _files(undisturbed) == before


def test_a_mistyped_key_ends_with_a_hint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([small_sweep(tmp_path), "training.epoch=3", "--local"]) == 2
    captured = capsys.readouterr()
    assert "did you mean training.epochs?" in captured.err
    assert "Traceback" not in captured.err
    assert not (tmp_path / "sweep").exists()


def test_a_mistyped_file_is_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "nowhere.yaml")]) == 2
    assert f"{tmp_path / 'nowhere.yaml'}: must be a sweep or a YAML file, got neither" in capsys.readouterr().err


# Options --------------------------------------------------------------------------------------------------------------
def test_the_plan_is_printed_and_nothing_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    space = {"decay.shape": {"grid": ["linear", "constant", "cosine"]}}
    assert main([small_sweep(tmp_path, space=space, seeds=2), "--print-plan"]) == 0
    captured = capsys.readouterr()
    assert captured.out.splitlines() == [
        "baseline   methods.tar.feature.weight=0, methods.tar.classification.weight=0, "
        "methods.tar.regression.weight=0, methods.tar.rpn.weight=0",
        "constant   decay.shape=constant",
        "p0000      decay.shape=linear",
        "p0001      decay.shape=cosine",
        "decay.shape=constant: left out, as it gives the same as the control constant",
        "each under seed 0, 1",
    ]
    assert captured.err == ""
    assert not (tmp_path / "sweep").exists()


def test_the_plan_of_a_search_says_how_many_points_will_be_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    space = {"methods.tar.feature.weight": {"uniform": [1, 2]}}
    assert main([small_sweep(tmp_path, space=space, search="optuna", num_trials=7), "--print-plan"]) == 0
    assert "\n7 points that Optuna will choose\n" in capsys.readouterr().out


def test_what_is_left_out_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    space = {"decay.shape": {"grid": ["linear", "constant"]}}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("raydistill.sweeps.local.run_sweep_locally", lambda plan, display, stop: None)
        main([small_sweep(tmp_path, space=space), "--local"])
    assert "decay.shape=constant: left out, as it gives the same as the control constant\n" in capsys.readouterr().err


def test_the_output_option_beats_the_files(tmp_path: Path, quick_students: None) -> None:
    file = small_sweep(tmp_path, {"training.epochs": 1})
    assert main(["--local", file, "--output", str(tmp_path / "there"), "seeds=[7]"]) == 0
    assert not (tmp_path / "sweep").exists()
    names = sorted(path.name for path in (tmp_path / "there" / "trials").iterdir())
    assert names == ["baseline-seed7", "constant-seed7", "p0000-seed7"]
    assert json.loads((tmp_path / "there" / "trials" / "p0000-seed7" / "trial.json").read_text())["seed"] == 7


def test_the_command_line_needs_neither_torch_nor_ray_nor_pandas() -> None:
    code = "import sys, raydistill.tune; print([n for n in ('torch', 'ray', 'pandas', 'optuna') if n in sys.modules])"
    assert run_python("-c", code).stdout == "[]\n"


def test_an_error_of_the_users_on_ray_is_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import types

    def run_sweep_on_ray(plan: Any, display: Any, stop: Any) -> None:
        raise UserError("resources: must fit")

    fake = types.SimpleNamespace(run_sweep_on_ray=run_sweep_on_ray)
    monkeypatch.setitem(sys.modules, "raydistill.on_ray.sweep", fake)
    assert main([small_sweep(tmp_path)]) == 2
    assert capsys.readouterr().err.endswith("resources: must fit\n")
