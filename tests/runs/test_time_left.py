"""Tests of what is left of a run, and of its first line."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import pytest

from raydistill.config import load_config
from raydistill.runs.announcement import announced
from raydistill.runs.events import EpochDone, StageStarted
from raydistill.runs.progress import Display
from raydistill.runs.time_left import TimeLeft, of_run

THREE = {"teacher": 8, "baseline": 6, "distilled": 6}


def test_nothing_is_known_before_the_first_epoch() -> None:
    assert TimeLeft(THREE).seconds is None


def test_stages_to_come_are_taken_to_cost_what_the_first_one_does_and_a_distilled_one_half_more() -> None:
    left = TimeLeft(THREE)
    left.epoch_done("teacher", 2, 10.0)
    assert left.seconds == pytest.approx(6 * 10 + 6 * 10 + 6 * 15)


def test_a_student_that_was_timed_counts_for_the_next_one() -> None:
    left = TimeLeft(THREE)
    left.epoch_done("teacher", 8, 10.0)
    left.epoch_done("baseline", 6, 4.0)
    assert left.seconds == pytest.approx(6 * 6)


def test_the_first_epoch_warms_up_and_counts_less_and_less() -> None:
    left = TimeLeft({"baseline": 4})
    for epoch, seconds in ((1, 30.0), (2, 10.0), (3, 10.0)):
        left.epoch_done("baseline", epoch, seconds)
    assert left.seconds == pytest.approx(15.0)


def test_what_was_finished_before_costs_nothing_and_keeps_its_place(tmp_path: Path) -> None:
    config = load_config("quickstart", ["training.epochs=3", "teacher.epochs=2"], tmp_path)
    left = of_run(config)
    assert left.epochs == {"teacher": 2, "baseline": 3, "distilled": 3}
    left.finished("teacher")
    left.epoch_done("baseline", 3, 2.0)
    assert (left.place("distilled"), left.seconds) == ("stage 3 of 3", pytest.approx(9.0))


def test_a_teacher_that_is_only_scored_and_a_student_alone_are_counted_as_they_are(tmp_path: Path) -> None:
    weights = tmp_path / "best.pt"
    weights.touch()
    assert of_run(load_config("quickstart", {"teacher.weights": str(weights)}, tmp_path)).epochs["teacher"] == 0
    none = {f"methods.tar.{term}.weight": 0 for term in ("feature", "classification", "regression", "rpn")}
    assert list(of_run(load_config("quickstart", none, tmp_path)).epochs) == ["baseline"]


def test_the_display_says_which_stage_of_how_many_and_what_is_left_of_all() -> None:
    stream = io.StringIO()
    display = Display(stream, TimeLeft(THREE))
    display(StageStarted("teacher", 8, 10, 0))
    display(EpochDone("teacher", 1, 8, {"train/total": 2.0}, 100.0))
    assert stream.getvalue().splitlines() == [
        "teacher (stage 1 of 3): 8 epochs of 10 steps",
        "teacher epoch 1/8  loss 2.000  100 s  37 min left",
    ]


@pytest.mark.parametrize(
    ("recipe", "overrides", "said"),
    [
        ("quickstart", {"data.num_train": 7}, "resnet18 teaches mobilenet_v3_small, on 7 generated images"),
        ("finetune", {"data.root": "s3://bucket/mine"}, "resnet50 teaches mobilenet_v3_large, on s3://bucket/mine"),
        ("finetune", {"data": {"format": "own", "dataset": "mine:read"}}, "on the data of mine:read"),
    ],
)
def test_the_first_line_names_nets_and_data(
    recipe: str, overrides: dict[str, object], said: str, tmp_path: Path
) -> None:
    text = announced("mine", load_config(recipe, overrides, tmp_path)).text
    assert text.startswith("mine: ")
    assert text.endswith(f"{said}; results go to {tmp_path}")


@pytest.mark.parametrize("function", ["distill", "sweep"])
def test_the_first_line_comes_before_torch_and_ray_are_imported(function: str, tmp_path: Path) -> None:
    program = (
        "import sys, raydistill as rd\n"
        "class Heard(Exception): pass\n"
        "def hear(event):\n"
        "    print(event.text, [name for name in ('torch', 'ray', 'pandas') if name in sys.modules])\n"
        "    raise Heard\n"
        f"try:\n    rd.{function}('quickstart', output={str(tmp_path)!r}, on_event=hear)\n"
        "except Heard: pass\n"
    )
    said = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True, timeout=100)
    assert said.stdout.startswith("quickstart: resnet18 teaches")
    assert said.stdout.endswith("[]\n")
