"""A run and a sweep that the version before begun, whose names were others: they go on, and are reported.

``earlier_version/`` holds the small files that it wrote, but no weights; ``OUTPUT`` stands for where they lay.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

from raydistill import train
from raydistill.config import Config, load_config
from raydistill.config.renamed import RenamedWarning
from raydistill.errors import UserError
from raydistill.reports import load
from raydistill.reports.reading import read
from raydistill.reports.screen import as_text
from raydistill.runs.directory import DATA_RECORD, RunDirectory
from raydistill.runs.reporter import FileReporter
from raydistill.runs.worker import Worker
from raydistill.sweeps.file import load_sweep
from raydistill.training import loop
from raydistill.training.stages import run_stages
from tests.outputs import output_of, plan_of, refuse_other_settings, write_settings
from tests.small import Listener, ProcessEndedError, Stage, ending, same_weights, small_run, weights_of

KEPT = Path(__file__).with_name("earlier_version")
AS_BEGUN = (
    *("data.num_train=4", "data.num_val=2", "distillation.preflight=warn", "logging.tensorboard=false"),
    *("distillation.teacher_precision=fp32", "training.epochs=1", "teacher.epochs=1", "logging.diagnosis=true"),
    *("methods.tar.feature.weight=2", "methods.tar.regions.source=student", "methods.tar.rpn.gate=foreground"),
)
OLD_NAMES = {"feature.weight=2": 2.0, "feature={weight: 2}": 2.0, "rpn.weight=0": 3.0}


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """Return a copy of what is kept, as if it had been written there."""
    shutil.copytree(KEPT, tmp_path / "kept")
    for file in tmp_path.rglob("*.yaml"):
        file.write_text(file.read_text().replace("OUTPUT", str(tmp_path / "kept")))
    return tmp_path / "kept"


@pytest.mark.parametrize("override", OLD_NAMES)
def test_an_old_name_on_the_command_line_works_and_is_noted(override: str, tmp_path: Path) -> None:
    with pytest.warns(RenamedWarning, match=r"is called methods\.tar\.(feature|rpn)"):
        config = small_run(tmp_path, override)
    assert config.methods.tar is not None and config.methods.tar.feature.weight == OLD_NAMES[override]


def test_a_command_says_in_one_line_how_a_setting_is_called_now(capsys: pytest.CaptureFixture[str]) -> None:
    assert train.main(["quickstart", "feature.weight=2", "rpn.weight=0", "--print-config"]) == 0
    captured = capsys.readouterr()
    assert captured.err.splitlines() == [
        f"{name}: is called methods.tar.{name} now; the old name still works"
        for name in ("feature.weight", "rpn.weight")
    ]
    assert "\nfeature:" not in captured.out


def test_an_old_name_in_a_recipe_works_and_is_noted(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text("base: quickstart\nrpn: {weight: 0.5}\nfeature: {mask: box}\n")
    with pytest.warns(RenamedWarning, match=r"rpn: is called methods\.tar\.rpn now"):
        config = load_config(str(tmp_path / "mine.yaml"))
    assert config.methods.tar is not None
    assert (config.methods.tar.rpn.weight, config.methods.tar.feature.mask) == (0.5, "box")


def test_a_finished_run_is_the_same_run_and_others_are_not(output: Path) -> None:
    assert "feature:" in (output / "run" / "distilled" / "config.yaml").read_text()
    refuse_other_settings(small_run(output / "run", *AS_BEGUN))
    with pytest.raises(UserError, match=r"methods\.tar\.rpn\.gate=foreground then, teacher_better now"):
        refuse_other_settings(small_run(output / "run", *AS_BEGUN, "methods.tar.rpn.gate=teacher_better"))


def test_another_method_is_another_run(output: Path) -> None:
    other = small_run(output / "run", *AS_BEGUN, "methods={mine: {method: 'a:B'}}", "methods.tar=null")
    with pytest.raises(UserError, match=r"methods\.mine\.weight=unset then, 1\.0 now"):
        refuse_other_settings(other)


def _as_it_was(checkpoint: Path) -> None:
    """Call the tensors and sums of a checkpoint as the version before did."""
    saved = torch.load(checkpoint, weights_only=True)
    saved["distiller"] = {
        name.replace("methods.tar.adapters.", "adapters."): value for name, value in saved["distiller"].items()
    }
    for sums in saved["sums"]:
        sums["terms"] = {name.replace("/tar/", "/"): value for name, value in sums["terms"].items()}
    assert any(name.startswith("adapters.") for name in saved["distiller"])
    torch.save(saved, checkpoint)


def test_a_checkpoint_of_then_goes_on_to_the_bit(tmp_path: Path) -> None:
    settings = ("data.num_train=4", "distillation.preflight=warn", "logging.tensorboard=false")
    whole = Stage(small_run(tmp_path / "whole", *settings), "distilled")
    whole.fit()
    begun = Stage(small_run(tmp_path / "begun", *settings), "distilled")
    with pytest.raises(ProcessEndedError):
        begun.fit(interrupt_after=1)
    _as_it_was(begun.run.checkpoint)
    begun.fit()
    assert same_weights(weights_of(whole.run.last), weights_of(begun.run.last))


def _run(config: Config, heard: Listener) -> None:
    run_stages(config, output_of(config), Worker(), lambda directory: FileReporter(directory, Worker(), heard))


def test_a_run_from_before_there_was_a_fast_roi_align_goes_on_to_the_bit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = ("data.num_train=4", "logging.tensorboard=false", "methods={}", "schedule=[]")
    exact, heard = "training.roi_align=exact", Listener()
    whole = small_run(tmp_path / "whole", *settings, exact)
    _run(whole, heard)
    begun = tmp_path / "begun"
    with monkeypatch.context() as patch, pytest.raises(ProcessEndedError):
        patch.setattr(loop, "take_step", ending(loop.take_step, 1))
        _run(small_run(begun, *settings, exact), heard)
    student = RunDirectory(begun / "baseline")
    student.config.write_text(student.config.read_text().replace("  roi_align: exact\n", ""))
    for checkpoint in student.checkpoints():
        saved = torch.load(checkpoint, weights_only=True)
        del saved["run"]["settings"]["training"]["roi_align"]
        torch.save(saved, checkpoint)
    assert not heard.text.count("as the run was begun")
    for _ in range(2):  # it is kept, and found again where the run has ended
        refuse_other_settings(small_run(begun, *settings))
        _run(small_run(begun, *settings), heard)
        assert "roi_align: exact" in student.config.read_text()
    assert heard.text.count("regions are pooled as the run was begun: training.roi_align=exact") == 1
    assert same_weights(*(weights_of(run / "baseline" / "last.pt") for run in (tmp_path / "whole", begun)))


def test_a_fast_run_does_not_become_an_exact_one(tmp_path: Path) -> None:
    write_settings(small_run(tmp_path), "teacher")
    RunDirectory(tmp_path / "teacher").result.write_text("{}")
    refuse_other_settings(small_run(tmp_path))
    with pytest.raises(UserError, match=r"training\.roi_align=fast then, exact now"):
        refuse_other_settings(small_run(tmp_path, "training.roi_align=exact"))


def test_a_sweep_goes_on_with_what_was_left(output: Path) -> None:
    recipe = output / "sweep" / "trials" / "p0002-seed0" / "recipe.yaml"
    assert "\nfeature:" in recipe.read_text()
    loaded = load_sweep(str(output / "small.yaml"))
    plan = plan_of(loaded)
    assert sorted(record.name for record in plan.records if not record.ended) == ["p0001-seed0", "p0002-seed0"]
    first, second = plan.next(), plan.next()
    assert first is not None and second is not None and plan.next() is None
    assert first.settings == {"methods.tar.feature.weight": 1, "methods.tar.rpn.gate": "foreground"}
    assert second.settings == {"methods.tar.feature.weight": 2}
    recipes = [load_config(str(plan.directory.trial(record.name).recipe)) for record in (first, second)]
    assert [recipe.training.roi_align for recipe in recipes] == ["exact", "exact"]  # there was nothing else
    assert plan_of(load_sweep(str(output / "small.yaml"))).loaded.config.training.roi_align == "exact"
    config = load_config(str(recipe))
    assert config.methods.tar is not None
    assert (config.methods.tar.feature.weight, config.methods.tar.feature.background_weight) == (2.0, 0.5)


def test_a_sweep_with_other_weights_is_another(output: Path) -> None:
    with pytest.raises(UserError, match=r"methods\.tar\.feature\.background_weight: 0\.5 then, 0\.25 now"):
        plan_of(load_sweep(str(output / "small.yaml"), ["methods.tar.feature.background_weight=0.25"]))


def test_a_report_of_then_has_the_names_of_today(output: Path) -> None:
    source = read(output / "sweep")
    trial = next(trial for trial in source.trials if trial.record.name == "p0000-seed0")
    assert trial.record.settings == {"methods.tar.feature.weight": 1, "methods.tar.rpn.gate": "teacher_better"}
    assert trial.recipe["methods"]["tar"]["feature"]["weight"] == 1
    assert {"train/distillation/tar/feature", "train/weighted/tar/rpn"} <= set(trial.curves.columns)
    assert [*source.sweep["space"]] == ["methods.tar.feature.weight", "methods.tar.rpn.gate"]
    assert source.sweep["space"]["methods.tar.rpn.gate"]["when"] == {"methods.tar.feature.weight": [1]}
    lines = (output / "run" / "distilled" / "metrics.jsonl").read_text().splitlines()
    assert "train/gradient/feature" in json.loads(lines[0])
    assert "train/gradient/tar/feature" in read(output / "run").trials[0].curves.columns


def test_a_report_marks_the_scores_of_then(output: Path) -> None:
    report = load(output / "sweep")
    marked = report.trials.set_index("trial")["rules"]
    ended = [name for name in marked.index if marked[name] == "earlier"]
    assert ended == ["baseline-seed0", "constant-seed0", "p0000-seed0"]
    (note,) = [note for note in report.notes if "were made by an earlier version" in note]
    assert f"the scores of {', '.join(ended)} were made" in note
    assert "were made by an earlier version" in as_text(report)
    (run_note,) = [note for note in load(output / "run").notes if "were made by an earlier version" in note]
    assert "the scores of distilled were made" in run_note


def test_a_run_of_then_goes_on_beside_new_scores_and_its_data_are_taken_for_the_same(tmp_path: Path) -> None:
    settings = ("data.num_train=4", "data.num_val=2", "distillation.preflight=warn", "logging.tensorboard=false")
    settings += ("training.epochs=1", "distillation.baseline=false")
    config, heard = small_run(tmp_path, *settings), Listener()

    def run() -> None:
        run_stages(config, output_of(config), Worker(), lambda directory: FileReporter(directory, Worker(), heard))

    run()
    teacher, student = (RunDirectory(tmp_path / stage) for stage in ("teacher", "distilled"))
    result = json.loads(teacher.result.read_text())
    teacher.result.write_text(json.dumps({k: v for k, v in result.items() if k not in ("rules", "weights")}))
    (tmp_path / DATA_RECORD).unlink()
    student.result.unlink()
    for checkpoint in student.checkpoints():
        saved = torch.load(checkpoint, weights_only=True)
        saved.pop("run")
        saved["best"].pop("weights")
        torch.save(saved, checkpoint)
    heard.events.clear()
    run()
    assert "nobody wrote down what they were" in heard.text and not student.lines()[1:]
    assert load(tmp_path).trials.set_index("stage")["rules"].to_dict() == {"teacher": "earlier", "distilled": ""}
