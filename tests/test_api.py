"""``import raydistill as rd``: the commands as functions, in this process."""

from __future__ import annotations

import json
import os
import shutil
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch

import raydistill as rd
from raydistill.__main__ import COMMANDS
from raydistill.config import load_config
from raydistill.config.loader import split_overrides
from raydistill.runs.directory import RunDirectory
from raydistill.runs.events import EpochDone, StageStarted
from raydistill.runs.stopping import Stopped
from raydistill.sweeps.table import TrialEnded, TrialStarted
from raydistill.training import loop
from tests.small import SMALL_RUN, metrics_of, run_python, same_weights, small_sweep, weights_of

ONE_EPOCH = {"training.epochs": 1, "distillation.preflight": "warn", "data": {"num_train": 4, "num_val": 2}}
SETTINGS = dict(split_overrides(SMALL_RUN)[0])
SMALL: dict[str, Any] = {"base": "quickstart", **SETTINGS, "student.box_score_thresh": 0}
"""A recipe as a mapping, for a run of seconds."""


@pytest.fixture(scope="module")
def events() -> list[Any]:
    """What the run said."""
    return []


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, events: list[Any]) -> rd.Run:
    """A run to its end."""
    output = tmp_path_factory.mktemp("api") / "run"
    return rd.distill(SMALL, ONE_EPOCH, output=output, local=True, on_event=events.append)


# Importing ------------------------------------------------------------------------------------------------------------
def test_importing_and_naming_what_is_offered_brings_neither_torch_nor_pandas_nor_ray() -> None:
    code = (
        "import sys, raydistill as rd; "
        "early = [name for name in sys.modules if name.startswith('raydistill.')]; "
        "rd.distill, rd.sweep, rd.score, rd.load, rd.UserError, rd.report.load; "
        "print(early, [name for name in ('torch', 'pandas', 'ray', 'matplotlib') if name in sys.modules])"
    )
    assert run_python("-c", code).stdout == "[] []\n"


def test_what_is_offered_is_listed_and_there() -> None:
    assert {"distill", "sweep", "score", "load", "report", "UserError", "VERSION"} <= set(dir(rd))
    assert all(getattr(rd, name) is not None for name in dir(rd))
    with pytest.raises(AttributeError, match="no attribute 'distil'"):
        rd.distil  # type: ignore[attr-defined]  # noqa: B018


def test_no_function_bears_the_name_of_a_command() -> None:
    assert not {name for name in dir(rd) if callable(getattr(rd, name))} & set(COMMANDS)


# A run ----------------------------------------------------------------------------------------------------------------
def test_a_run_gives_its_table_and_hears_its_epochs(run: rd.Run, events: list[Any]) -> None:
    assert isinstance(run.table, pd.DataFrame)
    assert run.table["model"].tolist() == ["teacher", "student alone", "student distilled"]
    assert [event.stage for event in events if isinstance(event, EpochDone)] == ["teacher", "baseline", "distilled"]


def test_nothing_is_shown_where_somebody_listens(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(Stopped):
        rd.distill(SMALL, ONE_EPOCH, output=tmp_path, local=True, on_event=_raising(Stopped()))
    assert capfd.readouterr() == ("", "")


def test_the_student_of_a_run_detects(run: rd.Run) -> None:
    (found,) = run.student.detect([torch.rand(3, 64, 64)])
    assert not run.student.training
    assert len(run.student.classes) > 1
    assert found["boxes"].shape == (len(found["scores"]), 4)


def test_load_finds_the_distilled_student_in_an_output_a_stage_and_a_file(run: rd.Run) -> None:
    expected = weights_of(Path(run.output) / "distilled" / "best.pt")
    for path in (run.output, Path(run.output) / "distilled", run.weights):
        assert same_weights(rd.load(path).exported().state_dict(), expected)
    baseline = weights_of(Path(run.output) / "baseline" / "best.pt")
    assert same_weights(rd.load(f"{run.output}/baseline").exported().state_dict(), baseline)
    assert not same_weights(baseline, expected)


def test_load_finds_the_student_alone_where_nothing_was_distilled(run: rd.Run, tmp_path: Path) -> None:
    shutil.copytree(f"{run.output}/baseline", tmp_path / "baseline")
    assert same_weights(rd.load(tmp_path).exported().state_dict(), weights_of(tmp_path / "baseline" / "best.pt"))
    shutil.copytree(f"{run.output}/teacher", tmp_path / "teacher")
    with pytest.raises(rd.UserError, match="name one of baseline, teacher"):
        rd.load(tmp_path)


def test_the_report_is_read_and_files_are_written_when_asked_for(run: rd.Run) -> None:
    page = Path(run.output) / "report" / "report.html"
    assert run.report.trials["stage"].tolist() == ["teacher", "baseline", "distilled"]
    assert not page.exists()
    run.write_report(pictures=False)
    assert page.is_file()
    pd.testing.assert_frame_equal(rd.report.load(run.output).trials, run.report.trials)


def test_the_same_call_again_trains_nothing_and_gives_the_same(run: rd.Run) -> None:
    heard: list[Any] = []
    again = rd.distill(run.config, local=True, on_event=heard.append)
    pd.testing.assert_frame_equal(again.table, run.table)
    assert not any(isinstance(event, EpochDone) for event in heard)


def test_scores_of_a_student_are_those_of_its_run(run: rd.Run, tmp_path: Path) -> None:
    data = _written_as_coco(run, tmp_path)
    metrics = rd.score(run.output, data, num_workers=0)
    result = json.loads(RunDirectory(Path(run.output) / "distilled").result.read_text())
    assert metrics["AP"] == pytest.approx(result["AP"], abs=1e-6)
    assert set(metrics["per_class"]) == set(run.student.classes)
    assert rd.score(run.student, data, num_workers=0) == metrics
    with pytest.raises(rd.UserError, match="batch_size: must be 1 to 1000000, got 0"):
        rd.score(run.output, data, batch_size=0)


def _written_as_coco(run: rd.Run, folder: Path) -> Path:
    """Write the validation split of a run's shapes as a COCO folder."""
    from PIL import Image

    from raydistill.data.build import build_datasets

    _, val = build_datasets(run.config.data)
    truth = json.loads(json.dumps(val.ground_truth))
    (folder / "val").mkdir()
    (folder / "annotations").mkdir()
    for index, entry in enumerate(truth["images"]):
        image, _ = val.load(index)
        entry["file_name"] = f"{entry['id']}.png"
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(folder / "val" / entry["file_name"])
    (folder / "annotations" / "val.json").write_text(json.dumps(truth))
    return folder


# Interrupted, and elsewhere -------------------------------------------------------------------------------------------
def _raising(error: BaseException) -> Callable[[Any], None]:
    def listen(_: object) -> None:
        raise error

    return listen


def _student_only(run: rd.Run) -> dict[str, Any]:
    """Settings for the distilled student of ``run`` alone, with the teacher that there is."""
    teacher = {"weights": f"{run.output}/teacher", "train": False, "learning_rate": None}
    return {**ONE_EPOCH, "teacher": teacher, "distillation.baseline": False}


def test_an_interrupted_call_goes_on_when_it_is_made_again(
    run: rd.Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    original, settings = loop.take_step, {**_student_only(run), "data.num_train": 8}

    def step(*given: Any) -> Any:
        os.kill(os.getpid(), signal.SIGINT)  # as a notebook's kernel is interrupted
        return original(*given)

    before, heard = signal.getsignal(signal.SIGINT), list[Any]()
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(loop, "take_step", step)
        rd.distill(SMALL, settings, output=tmp_path, local=True, on_event=heard.append)
    assert signal.getsignal(signal.SIGINT) == before
    rd.distill(SMALL, settings, output=tmp_path, local=True, on_event=heard.append)
    assert [event.first_step for event in heard if isinstance(event, StageStarted)] == [0, 1]


def test_a_run_in_a_thread_is_one_as_any_other(run: rd.Run, tmp_path: Path) -> None:
    made: list[rd.Run] = []
    settings = _student_only(run)

    def work() -> None:
        made.append(rd.distill(SMALL, settings, output=tmp_path / "run", local=True, on_event=lambda _: None))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(120)
    distilled = weights_of(Path(run.output) / "distilled" / "last.pt")
    assert same_weights(weights_of(Path(made[0].output) / "distilled" / "last.pt"), distilled)


# Settings -------------------------------------------------------------------------------------------------------------
NESTED = {"training": {"epochs": 3, "optimizer": {"learning_rate": 0.5}}, "decay": {"shape": "exponential", "rate": 2}}
DOTTED = {
    "decay.rate": 2,  # before the shape that has one: a mapping has no order
    "decay.shape": "exponential",
    "training.epochs": 3,
    "training.optimizer.learning_rate": 0.5,
}
TEXTS = ["decay.shape=exponential", "decay.rate=2", "training.epochs=3", "training.optimizer.learning_rate=0.5"]


def test_nested_dotted_and_written_overrides_mean_the_same(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("base: quickstart\n")
    configs = [load_config("quickstart", overrides) for overrides in (NESTED, DOTTED, TEXTS)]
    configs += [load_config({"base": "quickstart"} | DOTTED), load_config(load_config("quickstart"), NESTED)]
    configs += [load_config(tmp_path / "mine.yaml", NESTED, output=configs[0].output)]
    assert configs == [configs[0]] * 6
    assert (configs[0].decay.rate, configs[0].training.epochs) == (2, 3)  # type: ignore[union-attr]


def test_python_values_are_taken_for_what_they_are(tmp_path: Path) -> None:
    import numpy as np

    overrides = {"loader.cache": tmp_path, "data.object_sizes": (0.2, np.float32(0.5)), "seed": np.int64(4)}
    config = load_config("quickstart", overrides)
    assert (config.loader.cache, config.seed) == (str(tmp_path), 4)
    assert config.data.object_sizes == (0.2, 0.5)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("recipe", "overrides", "problem"),
    [
        ("quikstart", {}, "did you mean 'quickstart'"),
        ("quickstart", {"training": {"epoch": 3}}, "training.epoch: no such setting; did you mean training.epochs"),
        ("quickstart", {"training.epochs": 0, "seed": -1}, "2 problems"),
        ("quickstart", {3: 4}, "3: must be the name of a setting, section.key"),
        ({"base": "quikstart"}, {}, "recipe: base: must be one of"),
        ({"data.format": "shapes"}, {}, "output: must be given"),
    ],
)
def test_mistakes_are_named_as_on_the_command_line(recipe: Any, overrides: Any, problem: str) -> None:
    with pytest.raises(rd.UserError, match=problem):
        rd.distill(recipe, overrides, local=True)


def test_settings_that_another_run_was_begun_with_are_kept(run: rd.Run) -> None:
    with pytest.raises(rd.UserError, match="seed=0 then, 9 now"):
        rd.distill(run.config, {"seed": 9}, local=True)


def test_a_config_is_checked_as_a_recipe_is(run: rd.Run) -> None:
    wrong = run.config.model_copy(
        update={"teacher": run.config.teacher.model_copy(update={"anchor_sizes": ((9,),) * 5}), "output": "x"}
    )
    with pytest.raises(rd.UserError, match="same anchors where the RPN is distilled"):
        rd.distill(wrong, local=True)


# A sweep --------------------------------------------------------------------------------------------------------------
def test_a_sweep_gives_its_trials_and_the_best_point_with_a_recipe_that_runs(tmp_path: Path) -> None:
    heard: list[Any] = []
    file, overrides = small_sweep(tmp_path), {"training.epochs": 1, "space": {"decay.shape": {"grid": ["cosine"]}}}
    sweep = rd.sweep(file, overrides, local=True, on_event=heard.append)
    assert sweep.trials["role"].tolist() == ["baseline", "constant", "searched"]
    assert [event.record.name for event in heard if isinstance(event, TrialStarted)] == sweep.trials["trial"].tolist()
    assert sum(isinstance(event, TrialEnded) for event in heard) == 3
    assert sweep.has_result
    best = sweep.best
    assert best is not None
    assert best.settings == {"decay.shape": "cosine"}
    assert best.score == sweep.trials["AP"].iloc[2]
    assert same_weights(rd.load(best.path).exported().state_dict(), weights_of(Path(best.path) / "best.pt"))
    run = rd.distill(best.recipe, output=tmp_path / "best", local=True, on_event=heard.append)
    assert metrics_of(RunDirectory(Path(run.output) / "distilled"))[0]["val/AP"] == pytest.approx(best.score)


def test_mistakes_in_a_sweep_are_named() -> None:
    with pytest.raises(rd.UserError, match=r"settings.training.epoch: no such setting; did you mean training.epochs"):
        rd.sweep("quickstart", {"training.epoch": 3}, local=True)
    with pytest.raises(rd.UserError, match="did you mean seeds"):
        rd.sweep("quickstart", {"seed_": 3}, local=True)
