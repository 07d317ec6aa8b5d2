"""What a report leaves on disk: tables, pictures, page and recipe, and the command that writes them."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
import pytest

from raydistill.config import load_config
from raydistill.errors import UserError, printable
from raydistill.report import main
from raydistill.reports import load, write_report
from raydistill.reports.build import Report
from raydistill.reports.pictures import draw
from raydistill.reports.pictures_of_training import compared_trials
from raydistill.reports.screen import as_text
from raydistill.reports.write import _csv, _epochs_csv, without_formulas
from raydistill.runs.reporter import FileReporter
from raydistill.runs.worker import Worker
from raydistill.training.stages import run_stages
from tests.outputs import output_of
from tests.reports import made_up
from tests.small import Listener, run_python, small_run

PICTURES = ["decay.png", "effects.png", "losses.png", "scores.png"]


def test_all_files_are_there_and_none_is_left_over(written: Path) -> None:
    tables = [f"{name}.{kind}" for name in ("effects", "epochs", "summary", "trials") for kind in ("csv", "parquet")]
    assert sorted(file.name for file in written.iterdir()) == sorted([*tables, *PICTURES, "best.yaml", "report.html"])


@pytest.mark.parametrize("name", ["trials", "epochs", "summary", "effects"])
def test_tables_read_back_as_they_were_computed(written: Path, name: str) -> None:
    table = getattr(load(written.parent), name)
    pd.testing.assert_frame_equal(pd.read_parquet(written / f"{name}.parquet"), table)
    from_csv = pd.read_csv(written / f"{name}.csv")
    assert list(from_csv.columns) == list(table.columns) and len(from_csv) == len(table)
    numbers = table.select_dtypes("number").columns
    pd.testing.assert_frame_equal(from_csv[numbers].astype(float), table[numbers].astype(float))


@pytest.mark.parametrize("name", PICTURES)
def test_pictures_are_png_files_with_something_on_them(written: Path, name: str) -> None:
    content = (written / name).read_bytes()
    assert content.startswith(b"\x89PNG") and len(content) > 8000


def test_the_page_escapes_what_users_wrote(written: Path) -> None:
    page = (written / "report.html").read_text()
    assert page.count("<script>") == 1  # its own
    assert page.count("$\\frac$ &lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt; &amp;") >= 3  # reason, setting, effect
    assert "<b>s&s" not in page
    assert "\x1b" not in page


def test_the_page_needs_nothing_else(written: Path) -> None:
    page = (written / "report.html").read_text()
    assert page.count("data:image/png;base64,") == len(PICTURES)
    assert not re.findall(r"""(?:src|href)=["']?(?:https?:|//)""", page)
    assert "default-src 'none'" in page
    assert "p000_s0" in page and "train/total" not in page  # trials, but not their epochs


def test_the_page_leads_with_the_best_point_and_its_gains(written: Path) -> None:
    page = (written / "report.html").read_text()
    head = page[page.index("<main>") : page.index("<table>")]
    for text in ("40.0 <small>± 2.8", "+9.0 <small>± 1.4", "+5.0 <small>± 1.4", "-10.0 <small>± 2.8"):
        assert text in head


@pytest.mark.parametrize("kind", ["run", "sweep"])
def test_scores_that_do_not_exist_are_shown_as_none_and_are_empty_in_csv(tmp_path: Path, kind: str) -> None:
    """As old runs have them that were scored on a split in which nothing counts."""
    output = tmp_path / "s"
    if kind == "run":
        made_up.run(output, {"teacher": 0.5, "baseline": 0.3, "distilled": 0.4})
    else:
        made_up.sweep(output)
    for file in [*output.rglob("metrics.jsonl"), *output.rglob("result.json")]:
        absent = re.sub(r'"((?:val/)?A[PR]\w*|val/class/\w+)": -?[\d.]+', r'"\1": -1.0', file.read_text())
        file.write_text(absent)
    written = write_report(output, pictures=False)
    trials = pd.read_csv(output / "report" / "trials.csv")
    scores = trials[[name for name in trials if re.search("^(AP|AR|last_AP|class/|gain)", name)]]
    assert scores.shape[1] > 8
    assert scores.isna().all(axis=None)
    assert set(trials["best_epoch"].dropna()) <= {2.0, 3.0, 4.0}
    shown = as_text(written) + (output / "report" / "report.html").read_text()
    assert not re.search(r"-1\d\d\.\d|\bnan\b", shown)


def test_later_reports_remove_what_they_do_not_write(tmp_path: Path) -> None:
    sweep = made_up.sweep(tmp_path / "s")
    write_report(sweep, pictures=False)
    (sweep / "report" / "scores.png").write_bytes(b"an earlier one")
    assert (sweep / "report" / "best.yaml").exists()
    for directory in (sweep / "trials").glob("p*"):
        (directory / "trial.json").unlink()
    write_report(sweep, pictures=False)
    assert not list((sweep / "report").glob("*.png"))
    assert not (sweep / "report" / "best.yaml").exists()


def test_the_best_recipe_can_be_trained_as_it_is(written: Path) -> None:
    sweep = written.parent
    config = load_config(str(written / "best.yaml"))
    assert (config.methods.tar.feature.weight, config.decay.shape, config.seed) == (2.0, "linear", 0)
    assert config.distillation.baseline
    assert (config.teacher.weights, config.teacher.train) == (str(sweep / "teacher"), False)
    assert (config.teacher.epochs, config.teacher.learning_rate) == (None, None)
    assert config.output == str(Path("runs/best").resolve())
    first, _, third, *_ = (written / "best.yaml").read_text().splitlines()
    doubt = "it is not shown to be better than the student alone"
    assert first == f"# point 0, the highest of 4 points; {doubt}, in {sweep}"
    assert third.startswith("# Highest AP: point 0 (methods.tar.feature.weight=2, decay.shape=linear")


def test_the_best_recipe_trains_its_own_teacher_when_the_sweeps_is_not_finished(tmp_path: Path) -> None:
    sweep = made_up.sweep(tmp_path / "s")
    (sweep / "teacher" / "result.json").unlink()
    write_report(sweep, pictures=False)
    teacher = load_config(str(sweep / "report" / "best.yaml")).teacher
    assert teacher == load_config("quickstart").teacher


def test_a_point_that_finished_on_every_seed_is_preferred_to_a_better_one_that_did_not(tmp_path: Path) -> None:
    sweep = made_up.sweep(tmp_path / "s")
    made_up.trial(sweep, "p9_s0", "searched", 9, 0, {"methods.tar.feature.weight": 1.0}, [0.6])  # seed 1 was not begun
    report = load(sweep)
    assert report.summary["mean"].idxmax() == report.summary.index[report.summary["point"] == 9][0]
    assert report.best is not None and report.best.row["point"] == 0 and report.best.complete


def test_without_such_a_point_the_best_of_all_is_named_and_the_screen_says_so(tmp_path: Path) -> None:
    made_up.begin(tmp_path / "s")
    made_up.trial(tmp_path / "s", "p0", "searched", 0, 0, {"methods.tar.feature.weight": 2.0}, [0.3], "stopped")
    report = write_report(tmp_path / "s", pictures=False)
    assert report.best is not None and not report.best.complete
    assert "No point has finished on every seed yet" in as_text(report)
    first = (tmp_path / "s" / "report" / "best.yaml").read_text().splitlines()[0]
    assert "no point has finished on every seed" in first


def test_the_screen_shows_points_of_100_with_spread_and_sign(report: Report) -> None:
    lines = as_text(report).splitlines()
    assert lines[0] == "made_up: 10 trials, 6 finished, 2 stopped, 1 failed, 1 unfinished; the teacher answered in fp32"
    assert lines[1] == (
        "Highest AP: point 0 (methods.tar.feature.weight=2, decay.shape=linear): AP 40.0 ± 2.8 (2 trials), "
        "+9.0 ± 1.4 over the student alone (95% interval -3.7 to +21.7, 2 pairs), "
        "+5.0 ± 1.4 over the constant weight (2 pairs), -10.0 ± 2.8 against the teacher."
    )
    assert lines[2] == "It is not called better than the student alone: that takes 3 pairs, and there are 2."
    assert lines[3] == "It is the highest of 3 points."
    rows = [re.split(r"\s{2,}", line) for line in lines[6:11]]
    incomplete = [f"point {number} (incomplete)" for number in (2, 1)]
    assert [row[0] for row in rows] == ["point 0", *incomplete, "constant weight", "student alone"]
    assert rows[0][1:5] == ["40.0 ± 2.8 (2)", "+9.0 ± 1.4 (2)", "+5.0 ± 1.4 (2)", "-10.0 ± 2.8"]
    assert rows[1][-2:] == ["1 failed, 1 unfinished", "methods.tar.feature.weight=8, decay.shape=linear"]
    assert "  p002_s0: RuntimeError: out of memory" in lines


def test_the_best_trial_is_compared_with_the_constant_weight_of_its_seed(report: Report) -> None:
    assert list(compared_trials(report)) == ["p000_s1", "constant_1"]


@pytest.mark.filterwarnings("error")
def test_pictures_are_drawn_of_anything_without_a_warning(tmp_path: Path) -> None:
    made_up.begin(tmp_path / "s")
    assert list(draw(load(tmp_path / "s"))) == ["scores"]  # the teacher's line
    run = made_up.run(tmp_path / "r", {"baseline": 0.3})
    assert list(draw(load(run))) == ["scores", "losses"]


def test_the_command_reports_on_a_real_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = tmp_path / "run"
    settings = ("distillation.baseline=false", "distillation.preflight=warn", "data.num_train=4", "data.num_val=2")
    config = small_run(run, *settings, "training.epochs=1")
    run_stages(config, output_of(config), Worker(), lambda stage: FileReporter(stage, Worker(), Listener()))
    assert main([str(run)]) == 0
    screen = capsys.readouterr().out
    assert "student distilled" in screen and f"Report: {run / 'report' / 'report.html'}" in screen
    table = pd.read_parquet(run / "report" / "trials.parquet")
    assert list(table["stage"]) == ["teacher", "distilled"]
    assert list(table["epochs"]) == [1, 1]


def test_the_command_joins_several_directories_where_it_is_told_to(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = [str(made_up.run(tmp_path / name, {"baseline": 0.3, "distilled": 0.4})) for name in ("a", "b")]
    with pytest.raises(SystemExit) as error:
        main(runs)
    assert error.value.code == 2
    assert main([*runs, "--output", str(tmp_path / "both"), "--no-pictures"]) == 0
    assert (tmp_path / "both" / "report.html").is_file() and not list((tmp_path / "both").glob("*.png"))
    assert "40.0 ± 0.0 (2)" in capsys.readouterr().out


def test_the_command_refuses_in_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "gone")]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "no such directory" in error


def test_the_command_can_be_interrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*directories: object, output: object, pictures: bool) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("raydistill.reports.write_report", interrupted)
    assert main([str(tmp_path)]) == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_a_place_that_cannot_be_written_to_is_a_sentence(tmp_path: Path) -> None:
    run = made_up.run(tmp_path / "r", {"baseline": 0.3})
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        write_report(run, output=tmp_path / "file")


def test_the_package_is_imported_without_pandas() -> None:
    code = "import sys, raydistill.reports, raydistill.report; print({'pandas', 'torch'} & set(sys.modules))"
    assert run_python("-c", code).stdout == "set()\n"


FORMULAS = [
    "=cmd|' /C calc'!A0",
    "+1+cmd",
    "-2+3",
    "@SUM(1)",
    "\t=1",
    "\r=1",
    "\n=1",
    "\uff1d1+1",
    "'=1",
    "'",
    "=",
    "--",
]


def test_no_text_of_a_csv_file_is_a_formula_and_each_reads_back(tmp_path: Path) -> None:
    texts = [*FORMULAS, "cat", "-", "-0.5", "1e3", None]
    numbers = [-1.5, *range(len(texts) - 1)]
    table = pd.DataFrame({"=name": texts, "n": numbers, "c": pd.Series(texts, dtype="str")})
    for write_csv in (_csv, _epochs_csv):
        with (tmp_path / "a.csv").open("wb") as file:
            write_csv(table)(file)
        read = pd.read_csv(tmp_path / "a.csv", keep_default_na=False, dtype={"'=name": str, "c": str})
        assert read["n"].tolist() == numbers
        for column in ("'=name", "c"):
            cells = read[column].tolist()
            assert cells[len(FORMULAS) :] == ["cat", "-", "-0.5", "1e3", ""]
            assert all(cell.startswith("'") for cell in cells[: len(FORMULAS)])
            assert [cell.removeprefix("'") for cell in cells[: len(FORMULAS)]] == FORMULAS


def test_a_table_without_formulas_is_written_as_it_is() -> None:
    table = pd.DataFrame({"a": ["x", None], "b": pd.Series([True, None], dtype="boolean"), "c": [1.5, -2]})
    pd.testing.assert_frame_equal(without_formulas(table), table)


def test_what_hides_or_turns_is_escaped_on_the_page_and_on_the_screen(tmp_path: Path) -> None:
    hidden = "ca\u200bt \u202eevil\u2028"
    sweep = made_up.sweep(tmp_path / "sweep\u202e", reason=f"broken {hidden}\x1b[2J")
    report = write_report(sweep)
    page, screen = (report.output / "report.html").read_text(), as_text(report)
    for text in (page, printable(screen, lines=True)):
        assert r"ca\u200bt \u202eevil" in text
        assert r"sweep\u202e" in text
        assert not set("\u200b\u202e\u2028\x1b") & set(text)
