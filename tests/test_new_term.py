"""A distillation term that is added in one place is left out nowhere: tried on a copy of the package that has one more.

Its settings are all that is added; nobody computes it, so that the preflight finds it silently off.
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.small import REPOSITORY, run_python

CLASS = '''class MadeUp(Term):
    """Nobody computes it."""


class Tar(MethodSettings):
'''
FIELD = """    made_up: MadeUp = MadeUp()
    rpn: Rpn = Rpn()
"""
LOOK = """
import io, json, sys
from pathlib import Path

import raydistill
from tests.outputs import refuse_other_settings, stage_of, write_settings
from raydistill.errors import UserError
from raydistill.reports.reading import read
from raydistill.reports.settings import column
from raydistill.runs.events import EpochDone
from raydistill.runs.progress import Display
from raydistill.sweeps.file import load_sweep
from raydistill.sweeps.file.trials import controls_of, signature_of
from raydistill.training.preflight import preflight
from tests.benchmarks.handwritten import term_weights, unknown_setting
from tests.reports import made_up
from tests.small import Stage, small_run, small_sweep

folder = Path(sys.argv[1])
config = small_run(folder / "run", "data.num_train=4", "distillation.preflight=warn")
heavier = small_run(folder / "run", "data.num_train=4", "distillation.preflight=warn", "methods.tar.made_up.weight=2")
others = [f"methods.tar.{term}.weight=0" for term in ("feature", "classification", "regression", "rpn")]
found = {"package": raydistill.__file__}

found["student alone"] = controls_of(config)["baseline"]
found["distils by it alone"] = small_run(folder / "run", *others).distills
found["points differ"] = signature_of(config) != signature_of(heavier)
found["bench"] = [term_weights(heavier)["tar.made_up"], unknown_setting(config)]

run = stage_of(config, "distilled")
run.path.mkdir(parents=True)
write_settings(config, "distilled")
run.checkpoint.touch()
refuse_other_settings(config)
try:
    refuse_other_settings(heavier)
except UserError as error:
    found["resumed"] = str(error)

stream = io.StringIO()
Display(stream)(EpochDone("distilled", 1, 2, {"train/total": 1.5, "train/weighted/tar/made_up": 0.25}, 3.0))
found["progress"] = stream.getvalue()

stage = Stage(config, "distilled")
preflight(stage.job, stage.distiller(), stage.loader(), stage.worker, stage.listener)
found["preflight"] = stage.listener.text

space = {"methods.tar.made_up.weight": {"uniform": [1, 2]}}
scheduler = {"name": "pbt", "interval": 1}
file = small_sweep(folder, space=space, search={"method": "random"}, num_trials=2)
loaded = load_sweep(file)
found["searched"] = [*loaded.sweep.space]
population = small_sweep(folder, space=space, search={"method": "random"}, num_trials=2, scheduler=scheduler)
found["changes while a trial runs"] = [*load_sweep(population).sweep.space]

trials = read(made_up.sweep(folder / "sweep")).trials
found["reported"] = [
    value
    for trial, value in zip(trials, column(trials, "methods.tar.made_up.weight"), strict=True)
    if trial.role == "baseline"
]
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return what the parts of a package with one more term say of it."""
    folder = tmp_path_factory.mktemp("copy")
    shutil.copytree(REPOSITORY / "raydistill", folder / "raydistill")  # with what is compiled already
    settings = folder / "raydistill" / "config" / "methods.py"
    text = settings.read_text()
    for added in (CLASS, FIELD):
        anchor = added.rstrip("\n").rpartition("\n")[2]
        assert text.count(f"{anchor}\n") == 1
        text = text.replace(f"{anchor}\n", added)
    settings.write_text(text)
    (folder / "look.py").write_text(LOOK)
    path = os.pathsep.join([str(folder), str(REPOSITORY)])
    done = run_python(str(folder / "look.py"), str(folder / "found"), PYTHONPATH=path)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert Path(found["package"]).is_relative_to(folder)
    return found


def test_the_student_alone_is_trained_without_it(found: dict[str, Any]) -> None:
    assert found["student alone"]["methods.tar.made_up.weight"] == 0
    assert len(found["student alone"]) == 5


def test_a_student_with_this_term_only_is_distilled(found: dict[str, Any]) -> None:
    assert found["distils by it alone"] is True


def test_a_run_does_not_go_on_with_another_weight_of_it(found: dict[str, Any]) -> None:
    assert "methods.tar.made_up.weight=1.0 then, 2.0 now" in found["resumed"]


def test_the_progress_line_shows_it(found: dict[str, Any]) -> None:
    assert "made_up 0.250" in found["progress"]


def test_the_preflight_says_that_nobody_computes_it(found: dict[str, Any]) -> None:
    assert "'tar.made_up' is zero on the first batch" in found["preflight"]


def test_sweeps_search_its_weight_and_tell_points_apart_by_it(found: dict[str, Any]) -> None:
    assert found["searched"] == ["methods.tar.made_up.weight"]
    assert found["changes while a trial runs"] == ["methods.tar.made_up.weight"]
    assert found["points differ"] is True


def test_a_report_gives_it_the_weight_0_in_a_student_alone(found: dict[str, Any]) -> None:
    assert found["reported"] == [0, 0]


def test_the_benchmark_times_it_and_says_that_the_handwritten_loop_lacks_it(found: dict[str, Any]) -> None:
    assert found["bench"] == [2, "methods.tar.made_up.weight"]
