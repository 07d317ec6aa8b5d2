"""``python -m raydistill.train``, up to the door of Ray."""

from __future__ import annotations

import contextlib
import io
import resource
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import raydistill.reports
from raydistill.config import RECIPES
from raydistill.errors import UserError
from raydistill.runs.directory import RunDirectory
from raydistill.runs.worker import Worker
from raydistill.storage.output import Output
from raydistill.train import main
from raydistill.training import stages
from tests.small import SMALL_RUN, metrics_of, plain_report, run_python

QUICK = [*SMALL_RUN, "distillation.preflight=warn", "training.epochs=1", "data.num_train=4", "data.num_val=2"]


def _local(output: Path, *more: str) -> int:
    return main(["quickstart", *QUICK, "--local", "--output", str(output), *more])


@pytest.fixture(autouse=True, scope="module")
def _without_pictures() -> Iterator[None]:
    """Pictures take seconds, and have tests of their own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(raydistill.reports, "write_report", plain_report)
        yield


@dataclass(frozen=True)
class _Finished:
    """A run here to its end, and what it said."""

    output: Path
    out: str
    err: str


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> _Finished:
    output, out, err = tmp_path_factory.mktemp("finished") / "run", io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        assert _local(output) == 0
    return _Finished(output, out.getvalue(), err.getvalue())


def test_help_answers_in_a_second_and_names_the_recipes() -> None:
    """A second of the processor's time, as others may want it too; of two calls, as the first may have to compile."""
    seconds = []
    for _ in range(2):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        answer = run_python("-m", "raydistill.train", "--help")
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert answer.returncode == 0
    assert all(recipe in answer.stdout for recipe in RECIPES)
    assert min(seconds) < 1


def test_the_command_line_needs_neither_torch_nor_ray() -> None:
    code = "import sys, raydistill.train; print([name for name in ('torch', 'ray', 'pandas') if name in sys.modules])"
    assert run_python("-c", code).stdout == "[]\n"


def test_a_run_here_ends_with_the_table_on_stdout_and_progress_on_stderr(finished: _Finished) -> None:
    assert "student distilled" in finished.out
    assert "student alone" in finished.out
    assert f"Student's weights: {finished.output / 'distilled' / 'best.pt'}" in finished.out
    assert "epoch 1/1" not in finished.out
    assert [f"{stage} epoch 1/1" in finished.err for stage in ("teacher", "baseline", "distilled")] == [True] * 3
    assert (finished.output / "comparison.csv").is_file()


def test_a_finished_run_shows_its_table_again_and_trains_nothing(
    finished: _Finished, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _local(finished.output) == 0
    captured = capsys.readouterr()
    assert captured.out == finished.out
    assert "epoch 1/1" not in captured.err
    assert "distilled: finished before, not trained again" in captured.err


def test_the_table_of_a_finished_run_needs_no_ray(
    finished: _Finished, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "raydistill.on_ray.run", None)  # importing it would fail
    assert main(["quickstart", *QUICK, "scaling.num_workers=2", "--output", str(finished.output)]) == 0
    assert "student distilled" in capsys.readouterr().out


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_printed_config_is_the_config_that_runs(
    recipe: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([recipe, "seed=7", "--print-config"]) == 0
    printed = capsys.readouterr().out
    (tmp_path / "copy.yaml").write_text(printed)
    assert main([str(tmp_path / "copy.yaml"), "--print-config"]) == 0
    assert capsys.readouterr().out == printed
    assert yaml.safe_load(printed)["seed"] == 7


def test_the_printed_config_is_that_of_the_run_that_the_command_has_made(
    finished: _Finished, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same settings: nothing is refused or trained again."""
    main(["quickstart", *QUICK, "--output", str(finished.output), "--print-config"])
    (tmp_path / "copy.yaml").write_text(capsys.readouterr().out)
    assert main([str(tmp_path / "copy.yaml"), "--local"]) == 0
    assert capsys.readouterr().err.count("finished before, not trained again") == 3


def test_seeds_train_both_students_under_each_beside_the_teacher_that_is_there(
    finished: _Finished, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = shutil.copytree(finished.output, tmp_path / "run")
    teacher = (output / "teacher" / "best.pt").stat().st_mtime_ns
    assert main(["quickstart", *QUICK, "seeds=[5]", "--local", "--output", str(output)]) == 0
    assert {trial.name for trial in (output / "trials").iterdir()} == {
        "baseline-seed5",
        "constant-seed5",
        "p0000-seed5",
    }
    assert (output / "teacher" / "best.pt").stat().st_mtime_ns == teacher
    captured = capsys.readouterr()
    assert captured.err.startswith("quickstart: ")
    assert "3 trials, 3 finished" in captured.out


def test_seeds_are_no_part_of_the_printed_config(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["quickstart", "seeds=3", "--print-config"]) == 0
    assert "seeds" not in yaml.safe_load(capsys.readouterr().out)


def test_printing_the_config_writes_nothing(tmp_path: Path) -> None:
    main(["quickstart", "--output", str(tmp_path / "run"), "--print-config"])
    assert not (tmp_path / "run").exists()


def test_a_mistyped_setting_ends_with_a_hint(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["quickstart", "training.epoch=3", "--local"]) == 2
    captured = capsys.readouterr()
    assert "did you mean training.epochs?" in captured.err
    assert "Traceback" not in captured.err
    assert captured.out == ""


def test_a_mistyped_recipe_ends_with_a_hint(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["quikstart"]) == 2
    assert "did you mean 'quickstart'?" in capsys.readouterr().err


def test_all_wrong_settings_are_told_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["quickstart", "training.epochs=0", "methods.tar.feature.weight=-1", "decay.shape=round"]) == 2
    error = capsys.readouterr().err
    assert all(name in error for name in ("training.epochs", "methods.tar.feature.weight", "decay.shape"))


def test_options_may_stand_between_settings(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["quickstart", "seed=3", "--print-config", "training.epochs=2"]) == 0
    settings = yaml.safe_load(capsys.readouterr().out)
    assert (settings["seed"], settings["training"]["epochs"]) == (3, 2)


def test_the_output_option_beats_the_recipes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["quickstart", "output=elsewhere", "--output", str(tmp_path), "--print-config"])
    assert yaml.safe_load(capsys.readouterr().out)["output"] == str(tmp_path)


def test_that_local_takes_one_process_and_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []

    def run_stages(config: Any, output: Any, worker: Worker, *_: Any) -> None:
        sizes.append(worker.world_size)
        raise KeyboardInterrupt  # what it would do has tests of its own

    monkeypatch.setattr(stages, "run_stages", run_stages)
    assert _local(tmp_path, "scaling.num_workers=2") == 130
    assert sizes == [1]
    assert "--local: one process instead of scaling.num_workers=2" in capsys.readouterr().err


def test_another_runs_directory_is_refused_before_ray_is_started(
    finished: _Finished, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "raydistill.on_ray.run", None)  # importing it would fail
    assert main(["quickstart", *QUICK, "seed=9", "--output", str(finished.output)]) == 2
    assert "seed=0 then, 9 now" in capsys.readouterr().err


def test_data_that_is_not_there_is_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["finetune", f"data.root={tmp_path / 'gone'}", "--local", "--output", str(tmp_path / "run")]) == 2
    error = capsys.readouterr().err
    assert "gone" in error
    assert "Traceback" not in error


def test_an_output_that_cannot_be_written_is_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    assert _local(tmp_path / "file") == 2
    assert f"{tmp_path / 'file'}: must be a directory to write to" in capsys.readouterr().err


def test_a_second_command_in_the_same_place_is_refused_while_the_first_works(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with Output.at(str(tmp_path)).opened():
        assert _local(tmp_path) == 2
    assert f"{tmp_path}: another command is at work there" in capsys.readouterr().err
    assert not (tmp_path / "teacher").exists()
    monkeypatch.setattr(stages, "_run_stage", _interrupted_by(KeyboardInterrupt()))
    assert _local(tmp_path) == 130  # the lock ends with its holder: it came to its first stage


def test_fp16_without_a_gpu_is_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    assert _local(tmp_path, "training.precision=fp16") == 2
    assert "training.precision: fp16 needs a GPU" in capsys.readouterr().err


def _interrupted_by(error: BaseException) -> Any:
    def run(*_: Any) -> None:
        raise error

    return run


def test_an_interrupted_run_says_how_to_go_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stages, "_run_stage", _interrupted_by(KeyboardInterrupt()))
    assert _local(tmp_path) == 130
    captured = capsys.readouterr()
    assert "interrupted; the same command goes on after the last finished epoch" in captured.err
    assert captured.out == ""


def test_an_error_of_ours_keeps_its_traceback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stages, "_run_stage", _interrupted_by(ZeroDivisionError()))
    with pytest.raises(ZeroDivisionError):
        _local(tmp_path)


def test_an_error_of_the_users_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stages, "_run_stage", _interrupted_by(UserError("images: must be there")))
    assert _local(tmp_path) == 2
    assert capsys.readouterr().err.endswith("images: must be there\n")


def test_a_killed_process_goes_on_where_it_stopped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    original = stages.fit

    def fit(job: Any, *rest: Any) -> Any:
        if job.stage == "baseline":
            raise KeyboardInterrupt
        return original(job, *rest)

    monkeypatch.setattr(stages, "fit", fit)
    assert _local(tmp_path) == 130
    monkeypatch.undo()
    assert _local(tmp_path) == 0
    assert "teacher: finished before, not trained again" in capsys.readouterr().err
    for stage in ("teacher", "baseline", "distilled"):
        assert [line["epoch"] for line in metrics_of(RunDirectory(tmp_path / stage))] == [1]
