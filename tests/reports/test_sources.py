"""Directories that are unfinished, damaged, several, or something else."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from raydistill.errors import UserError
from raydistill.reports import load, write_report
from raydistill.reports.screen import as_text
from tests.reports import made_up


def test_a_line_that_was_cut_off_is_left_out(tmp_path: Path) -> None:
    made_up.sweep(tmp_path / "s")
    metrics = tmp_path / "s" / "trials" / "p001_s0" / "distilled" / "metrics.jsonl"
    metrics.write_text(metrics.read_text() + '{"epoch": 3, "val/AP": 0.9')
    assert load(tmp_path / "s").trials.set_index("trial")["AP"]["p001_s0"] == 0.20


def test_of_an_epoch_that_was_trained_twice_the_later_counts(tmp_path: Path) -> None:
    made_up.sweep(tmp_path / "s")
    metrics = tmp_path / "s" / "trials" / "p001_s0" / "distilled" / "metrics.jsonl"
    metrics.write_text(metrics.read_text() + '{"epoch": 2, "val/AP": 0.21}\n')
    row = load(tmp_path / "s").trials.set_index("trial").loc["p001_s0"]
    assert (row["AP"], row["epochs"]) == (0.21, 2)


@pytest.mark.parametrize(
    "content", ["{", "[]", '{"name": "x"}', '{"name": "x", "role": "king", "point": 0, "seed": 0}']
)
def test_a_damaged_record_is_named_and_the_others_are_read(tmp_path: Path, content: str) -> None:
    made_up.sweep(tmp_path / "s")
    (tmp_path / "s" / "trials" / "p001_s0" / "trial.json").write_text(content)
    report = load(tmp_path / "s")
    assert len(report.trials) == 9
    (note,) = report.notes
    assert "p001_s0/trial.json: must be the record of a trial" in note
    assert "the trial is left out" in as_text(report)


def test_a_damaged_recipe_or_result_is_named_and_the_trial_is_read(tmp_path: Path) -> None:
    made_up.sweep(tmp_path / "s")
    (tmp_path / "s" / "trials" / "p000_s0" / "recipe.yaml").write_text("a: [")
    (tmp_path / "s" / "trials" / "p000_s1" / "distilled" / "result.json").write_text("{")
    report = load(tmp_path / "s")
    assert report.trials.set_index("trial")["AP"][["p000_s0", "p000_s1"]].tolist() == [0.38, 0.42]
    assert ["recipe.yaml" in report.notes[0], "result.json" in report.notes[1]] == [True, True]


def test_a_sweep_without_trials_has_a_report_that_says_so(tmp_path: Path) -> None:
    made_up.begin(tmp_path / "s", teacher=None)
    report = write_report(tmp_path / "s")
    assert report.trials.empty and report.summary.empty and report.effects.empty and report.epochs.empty
    assert "no trial was begun yet" in as_text(report)
    assert "teacher is missing" in (tmp_path / "s" / "report" / "report.html").read_text()


def test_a_sweep_of_failures_only_has_a_report_that_says_why(tmp_path: Path) -> None:
    made_up.begin(tmp_path / "s")
    made_up.trial(
        tmp_path / "s", "p0", "searched", 0, 0, {"methods.tar.feature.weight": 2.0}, [], "failed", "no memory"
    )
    report = write_report(tmp_path / "s")
    assert "p0: no memory" in as_text(report)
    assert "No searched trial has a score yet" in as_text(report)
    assert not (tmp_path / "s" / "report" / "best.yaml").exists()


def test_a_sweep_of_one_trial_without_controls_has_no_gains(tmp_path: Path) -> None:
    made_up.begin(tmp_path / "s", seeds=[0])
    made_up.trial(tmp_path / "s", "p0", "searched", 0, 0, {"methods.tar.feature.weight": 2.0}, [0.1, 0.3])
    report = write_report(tmp_path / "s")
    assert report.trials["gain_over_baseline"].isna().all()
    assert report.trials["gain_over_teacher"].tolist() == pytest.approx([-0.2])
    assert any("no finished baseline control" in note for note in report.notes)


def test_a_trial_that_was_never_evaluated_has_losses_only(tmp_path: Path) -> None:
    made_up.begin(tmp_path / "s")
    directory = made_up.trial(tmp_path / "s", "p0", "searched", 0, 0, {}, [0.3], "unfinished")
    directory.run.metrics.write_text('{"epoch": 1, "train/total": 2.0, "train/detection/total": 2.0}\n')
    report = write_report(tmp_path / "s")
    assert report.trials["AP"].isna().all()
    assert list(report.epochs.query("trial == 'p0'")["value"]) == [2.0, 2.0]
    assert any("nothing was evaluated yet" in note for note in report.notes)


def test_an_unfinished_control_or_teacher_is_not_compared_with(tmp_path: Path) -> None:
    made_up.begin(tmp_path / "s")
    (tmp_path / "s" / "teacher" / "result.json").unlink()
    made_up.trial(tmp_path / "s", "b", "baseline", -1, 0, {}, [0.1], "unfinished")
    made_up.trial(tmp_path / "s", "p0", "searched", 0, 0, {}, [0.3])
    row = load(tmp_path / "s").trials.set_index("trial").loc["p0"]
    assert math.isnan(row["gain_over_baseline"]) and math.isnan(row["gain_over_teacher"])


def test_a_run_has_a_row_per_stage_with_gains_within_it(tmp_path: Path) -> None:
    made_up.run(tmp_path / "r", {"teacher": 0.5, "baseline": 0.4, "distilled": 0.43})
    table = load(tmp_path / "r").trials.set_index("stage")
    assert list(table.index) == ["teacher", "baseline", "distilled"]
    assert table["gain_over_baseline"]["distilled"] == pytest.approx(0.03)
    assert table["gain_over_teacher"]["distilled"] == pytest.approx(-0.07)
    assert math.isnan(table["gain_over_baseline"]["baseline"])
    assert table["best_epoch"]["distilled"] == 3


def test_an_unfinished_run_shows_what_there_is(tmp_path: Path) -> None:
    made_up.stage_directory(tmp_path / "r" / "teacher", "teacher", [0.1, 0.2], finished=False)
    text = as_text(load(tmp_path / "r"))
    assert "1 unfinished" in text
    assert "20.0 (1)" in text


def test_runs_are_joined_by_what_differs_between_them_and_averaged_over_seeds(tmp_path: Path) -> None:
    for seed, (weight, gain) in enumerate([(1.0, 0.10), (1.0, 0.12), (3.0, 0.05)]):
        scores = {"baseline": 0.3, "distilled": 0.3 + gain}
        made_up.run(tmp_path / f"run{seed}", scores, f"methods.tar.feature.weight={weight}", f"seed={seed}")
    report = load(*(tmp_path / f"run{seed}" for seed in range(3)))
    assert report.settings == ("methods.tar.feature.weight",)
    assert list(report.trials["trial"][:2]) == ["run0/baseline", "run0/distilled"]
    rows = report.summary[report.summary["stage"] == "distilled"].set_index("methods.tar.feature.weight")
    assert list(rows["n"]) == [2, 1]
    assert rows["gain_over_baseline"][1.0] == pytest.approx(0.11)
    assert rows["gain_over_baseline"][3.0] == pytest.approx(0.05)


def test_sweeps_are_joined_and_paired_within_each(tmp_path: Path) -> None:
    first, second = made_up.sweep(tmp_path / "a"), made_up.sweep(tmp_path / "b")
    result = second / "trials" / "baseline_1" / "baseline" / "result.json"
    result.write_text(result.read_text().replace('"AP": 0.32', '"AP": 0.22'))
    report = load(first, second)
    assert len(report.trials) == 20 and len(report.summary) == 10
    assert set(report.trials["sweep"]) == {"a", "b"}
    assert report.trials.set_index("trial")["gain_over_baseline"]["b/p000_s1"] == pytest.approx(0.20)
    assert set(report.teachers) == {"a/teacher", "b/teacher"}


def test_what_is_neither_run_nor_sweep_is_refused_with_what_to_do(tmp_path: Path) -> None:
    run = made_up.run(tmp_path / "r", {"baseline": 0.4})
    sweep = made_up.sweep(tmp_path / "s")
    (tmp_path / "empty").mkdir()
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "sweep.yaml").write_text("nothing")
    for directories, message in [
        ([tmp_path / "gone"], "no such directory"),
        ([tmp_path / "empty"], "holds neither sweep.yaml nor a stage"),
        ([run / "baseline"], f"one stage of a run; name {run}"),
        ([tmp_path / "damaged"], "must hold 'sweep' and 'config'"),
        ([run, sweep], "all runs or all sweeps"),
        ([run, run], "the same directory"),
        ([], "at least one directory"),
    ]:
        with pytest.raises(UserError, match=message):
            load(*directories)


@pytest.mark.parametrize("score", ["null", '"0.5"', "1" + "0" * 400, "[0.5]", "NaN", "true", ""])
def test_a_damaged_score_is_a_note_and_the_curves_are_shown(score: str, tmp_path: Path) -> None:
    made_up.run(tmp_path / "r", {"teacher": 0.5, "baseline": 0.3, "distilled": 0.4})
    result = tmp_path / "r" / "distilled" / "result.json"
    result.write_text(f'{{"epochs": 4, "parameters": 9, "AP": {score}}}')
    report = write_report(tmp_path / "r", pictures=False)
    (note,) = [note for note in report.notes if "result.json" in note]
    assert "must be the result of a stage" in note and len(note) < 300
    assert report.trials.set_index("stage")["AP"]["distilled"] == pytest.approx(0.4)
    assert note in as_text(report)


def test_damaged_metrics_are_counted_in_a_note_and_the_rest_is_shown(tmp_path: Path) -> None:
    made_up.run(tmp_path / "r", {"baseline": 0.3, "distilled": 0.4})
    metrics = tmp_path / "r" / "distilled" / "metrics.jsonl"
    odd = (
        b'{"epoch": 1180591620717411303424}\n\xff\xfe\n'
        + bytes(30)
        + b'\n{"epoch": 9, "val/AP": {"a": 1}, "b": 1'
        + b"0" * 400
    )
    metrics.write_bytes(metrics.read_bytes() + odd + b"}\n[1]\n")
    report = write_report(tmp_path / "r", pictures=False)
    (note,) = [note for note in report.notes if "metrics.jsonl" in note]
    assert "left out 4 lines that cannot be read" in note
    assert report.trials.set_index("stage")["AP"]["distilled"] == pytest.approx(0.4)


ALIASES = "a0: &a0 [1, 1]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 9))
ODD_FILES: dict[str, tuple[Callable[[Path], object], str]] = {
    "a FIFO": (os.mkfifo, "a named pipe (FIFO) where a regular file must be"),
    "a device": (lambda path: path.symlink_to("/dev/zero"), "a device where a regular file must be"),
    "10 MB": (lambda path: path.write_text("a: [" + "1, " * 3_500_000 + "]"), "more than the 4 MB"),
    "a list of 300,000": (lambda path: path.write_text("a: [" + "1, " * 300_000 + "]"), "more than 100000 values"),
    "aliases of aliases": (lambda path: path.write_text(ALIASES), "more than 100000 values, aliases written out"),
    "a value that holds itself": (lambda path: path.write_text("a: &a [*a]"), "a value that holds itself"),
    "a key twice": (lambda path: path.write_text("seed: 1\nseed: 2"), "key 'seed' is given twice"),
    "code": (
        lambda path: path.write_text("a: !!python/object/apply:os.getcwd []"),
        "could not determine a constructor",
    ),
}


@pytest.mark.parametrize("kind", ODD_FILES)
def test_settings_that_never_end_are_a_note_of_the_report(tmp_path: Path, kind: str) -> None:
    run = made_up.run(tmp_path / "r", {"baseline": 0.4})
    make, said = ODD_FILES[kind]
    (run / "baseline" / "config.yaml").unlink()
    make(run / "baseline" / "config.yaml")
    report = load(run)
    assert any("config.yaml: cannot be read" in note and said in note for note in report.notes), report.notes
    assert report.summary["mean"].tolist() == [0.4]
