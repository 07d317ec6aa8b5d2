"""``python -m raydistill.evaluate``: files against files, and weights on data."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, get_args

import pytest
import torch

from raydistill.config.training import Backend, Evaluation
from raydistill.data.formats.coco_results import read_detections, read_ground_truth
from raydistill.data.loading.loaders import evaluation_loader
from raydistill.evaluate import as_text, command_line, main
from raydistill.inference import scoring
from raydistill.inference.evaluation import found_on
from raydistill.inference.scoring import Scores, score
from raydistill.runs import weights_file
from raydistill.training.state import export
from tests.small import REPOSITORY, Stage, run_python, small_run

REFERENCE = REPOSITORY.parent / "shared" / "references" / "coco_val2014_fake100"
KEYS = [
    *("AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large"),
    *("AR1", "AR10", "AR100", "AR_small", "AR_medium", "AR_large"),
]


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """Annotations of one image, and detections that fit them perfectly."""
    truth, found = tmp_path / "truth.json", tmp_path / "found.json"
    box = [10, 10, 50, 50]
    content = {
        "images": [{"id": 1, "width": 100, "height": 100}],
        "categories": [{"id": 4, "name": "cat"}],
        "annotations": [{"id": 0, "image_id": 1, "category_id": 4, "bbox": box, "iscrowd": 0, "ignore": None}],
    }
    truth.write_text(json.dumps(content))
    found.write_text(json.dumps([{"image_id": 1, "category_id": 4, "bbox": box, "score": 0.5}]))
    return truth, found


def _score_files(files: tuple[Path, Path], *more: str) -> int:
    return main(["--annotations", str(files[0]), "--detections", str(files[1]), *more])


@pytest.mark.parametrize("backend", get_args(Backend))
def test_the_published_numbers_of_coco_are_reproduced(tmp_path: Path, backend: Backend) -> None:
    pytest.importorskip(backend)
    if not REFERENCE.is_dir():
        pytest.skip(f"needs {REFERENCE}")
    expected = json.loads((REFERENCE / "expected.json").read_text())["bbox"]
    given = (REFERENCE / "instances_val2014_100.json", REFERENCE / expected["dt"])
    assert _score_files(given, "--json", str(tmp_path / "out.json"), "--backend", backend) == 0
    numbers = json.loads((tmp_path / "out.json").read_text())
    for key, value in zip(KEYS, expected["faster_coco_eval_test_full_digits"], strict=True):
        assert abs(numbers[key] - value) < 1e-9, key
    assert len(numbers["per_class"]) == 80


def test_perfect_detections_of_annotation_zero_score_one(files: tuple[Path, Path], tmp_path: Path) -> None:
    assert _score_files(files, "--json", str(tmp_path / "deep" / "out.json")) == 0
    numbers = json.loads((tmp_path / "deep" / "out.json").read_text())
    assert numbers["AP"] == pytest.approx(1)
    assert numbers["AP_small"] == -1
    assert numbers["per_class"]["cat"]["AP50"] == pytest.approx(1)


def test_the_table_shows_points_of_100_per_class_and_over_all(
    files: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    _score_files(files)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["AP", "AP50", "AP75", "AP", "small", "AP", "medium", "AP", "large"]
    assert lines[1].split() == ["cat", "100.0", "100.0", "100.0", "-", "100.0", "-"]
    assert lines[2].split() == ["all", "100.0", "100.0", "100.0", "-", "100.0", "-"]


@pytest.mark.parametrize(
    ("names", "overall"),
    [
        (["cat"], "all"),
        (["all"], "(all)"),
        (["all", "(all)"], "((all))"),
        (["cat", "all", "dog"], "(all)"),
        (["ALL", "All"], "all"),
        (["AP", "AP50", "AP small"], "all"),
        (["nan", "None", "1", "-1", "True"], "all"),
        (["x" * 200, "per_class", "..."], "all"),
        ([f"class {number}" for number in range(1203)], "all"),
    ],
)
def test_every_class_has_its_row_whatever_it_is_called(names: list[str], overall: str) -> None:
    columns = ("AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large")
    per_class = {name: dict.fromkeys(columns, number / 1000) for number, name in enumerate(names)}
    lines = as_text(Scores({**dict.fromkeys(columns, 0.5), "AR1": 0.25}, per_class)).splitlines()
    rows = [line.rpartition("    ")[0][:200].strip() or line for line in lines[1 : len(names) + 2]]
    for number, name in enumerate(names):
        assert rows[number].startswith(name[:200])
        assert lines[number + 1].split()[-6:] == [f"{number / 10:.1f}"] * 6
    assert lines[len(names) + 1].split()[0] == overall
    assert lines[-1] == "AR1 25.0"


def test_an_empty_file_of_detections_scores_zero(files: tuple[Path, Path], tmp_path: Path) -> None:
    files[1].write_text("[]")
    assert _score_files(files, "--json", str(tmp_path / "out.json")) == 0
    assert json.loads((tmp_path / "out.json").read_text())["AP"] == 0


def test_a_detection_of_an_unknown_image_ends_with_a_sentence(
    files: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    files[1].write_text('[{"image_id": 5, "category_id": 4, "bbox": [1, 2, 3, 4], "score": 1}]')
    assert _score_files(files) == 2
    captured = capsys.readouterr()
    assert "detection number 1: image_id must be one of the annotations', got 5" in captured.err
    assert captured.out == ""


def test_detections_that_are_cut_off_end_with_a_sentence(
    files: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    files[1].write_text(files[1].read_text()[:-5])
    assert _score_files(files) == 2
    assert "must be complete JSON" in capsys.readouterr().err


def test_a_place_that_cannot_be_written_ends_with_a_sentence(
    files: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert _score_files(files, "--json", str(files[0] / "out.json")) == 2
    assert "cannot be written" in capsys.readouterr().err


@pytest.mark.parametrize("what", ["files", "weights"])
def test_the_backend_that_is_named_computes_the_numbers(
    what: str, files: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    used: list[str] = []
    package = scoring._package
    monkeypatch.setattr(scoring, "_package", lambda backend: (used.append(backend), package("pycocotools"))[1])
    if what == "files":
        assert _score_files(files, "--backend", "faster_coco_eval") == 0
    else:
        assert _evaluate(_Trained(tmp_path), "--backend", "faster_coco_eval") == 0
    assert set(used) == {"faster_coco_eval"}


@pytest.mark.parametrize("arguments", [["weights.pt", "data"], ["--annotations", "a.json", "--detections", "b.json"]])
def test_a_backend_that_is_not_installed_is_a_line_with_what_to_install(
    arguments: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "faster_coco_eval", None)
    assert main([*arguments, "--backend", "faster_coco_eval"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("--backend: faster_coco_eval must be installed")
    assert "pip install 'raydistill[fast-eval]'" in line


def test_the_backends_to_choose_from_are_those_of_the_settings() -> None:
    (action,) = [action for action in command_line()._actions if action.dest == "backend"]
    assert action.choices == list(get_args(Backend))
    assert action.default == Evaluation().backend


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["weights.pt"],
        ["--annotations", "a.json"],
        ["weights.pt", "data", "--annotations", "a.json", "--detections", "b.json"],
        ["weights.pt", "--annotations", "a.json", "--detections", "b.json"],
        ["weights.pt", "data", "--batch-size", "0"],
        ["weights.pt", "data", "--num-workers", "-1"],
        ["weights.pt", "data", "--backend", "abacus"],
    ],
)
def test_arguments_that_say_neither_or_both_are_refused(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "error: " in capsys.readouterr().err


def test_help_needs_no_torch() -> None:
    code = "import sys, raydistill.evaluate as e; e.command_line().format_help(); print('torch' in sys.modules)"
    assert run_python("-c", code).stdout == "False\n"


# Weights on data ------------------------------------------------------------------------------------------------------
class _Trained:
    """A COCO folder of drawn shapes, and a run directory with a net that knows their classes."""

    def __init__(self, folder: Path) -> None:
        from PIL import Image

        self.stage = Stage(small_run(folder / "run", "data.num_val=5", "student.box_score_thresh=0"))
        self.run = self.stage.run.path
        self.detector = self.stage.detector()
        export(self.stage.job, self.detector, self.stage.run.best, epoch=1)
        self.data = folder / "data"
        self.truth = json.loads(json.dumps(self.stage.job.val.ground_truth))
        (self.data / "val").mkdir(parents=True)
        (self.data / "annotations").mkdir()
        for entry in self.truth["images"]:
            image, _ = self.stage.job.val.load(entry["id"] - 1)
            entry |= {"file_name": f"{entry['id']}.png", "width": image.shape[2], "height": image.shape[1]}
            Image.fromarray(image.permute(1, 2, 0).numpy()).save(self.data / "val" / entry["file_name"])
        self.write()

    def write(self) -> None:
        (self.data / "annotations" / "val.json").write_text(json.dumps(self.truth))

    def expected(self) -> Any:
        """Score the net in memory on the drawn images."""
        found: list[dict[str, Any]] = []
        self.detector.eval()
        for images, targets in evaluation_loader(self.stage.job.val, 4, 0, 1, self.stage.config.loader):
            image_ids = [int(target["image_id"]) for target in targets]
            found += found_on(image_ids, self.detector.detect(images), self.stage.job.val.category_ids).as_coco()
        return score(self.stage.job.val.ground_truth, found)


@pytest.fixture
def trained(tmp_path: Path) -> _Trained:
    return _Trained(tmp_path)


def _evaluate(trained: _Trained, *more: str) -> int:
    return main([str(trained.run), str(trained.data), "--num-workers", "0", *more])


def test_weights_on_a_folder_write_detections_that_score_the_same(trained: _Trained, tmp_path: Path) -> None:
    found, numbers = tmp_path / "found.json", tmp_path / "numbers.json"
    assert _evaluate(trained, "--output", str(found), "--json", str(numbers)) == 0
    truth = read_ground_truth(trained.data / "annotations" / "val.json")
    detections = read_detections(found, truth)
    assert len(detections) >= 5
    written = json.loads(numbers.read_text())
    again = score(truth, detections)
    assert {key: written[key] for key in KEYS} == again.summary == trained.expected().summary
    assert written["per_class"] == again.per_class


def test_the_detections_lie_beside_the_weights_unless_named(trained: _Trained) -> None:
    assert _evaluate(trained) == 0
    assert (trained.run / "detections_data.json").is_file()


def test_a_weights_file_means_the_same_as_its_run_directory(trained: _Trained, tmp_path: Path) -> None:
    for name, weights in (("a", trained.run), ("b", trained.run / "best.pt")):
        arguments = [str(weights), str(trained.data / "annotations" / "val.json"), "--num-workers", "0"]
        assert main([*arguments, "--output", str(tmp_path / name)]) == 0
    assert (tmp_path / "a").read_text() == (tmp_path / "b").read_text()


def test_classes_in_another_order_score_the_same(trained: _Trained, tmp_path: Path) -> None:
    """A net with lively heads, so that the order matters: its labels are those of the reversed classes."""
    ids = {category["id"]: 100 - category["id"] for category in trained.truth["categories"]}
    trained.truth["categories"] = [
        {**category, "id": ids[category["id"]]} for category in reversed(trained.truth["categories"])
    ]
    trained.truth["annotations"] = [
        {**annotation, "category_id": ids[annotation["category_id"]]} for annotation in trained.truth["annotations"]
    ]
    trained.write()
    assert _evaluate(trained, "--output", str(tmp_path / "d.json"), "--json", str(tmp_path / "n.json")) == 0
    expected = trained.expected()
    written = json.loads((tmp_path / "n.json").read_text())
    for name, values in expected.per_class.items():
        assert written["per_class"][name] == pytest.approx(values)


def test_data_of_other_classes_is_refused_with_both_lists(
    trained: _Trained, capsys: pytest.CaptureFixture[str]
) -> None:
    trained.truth["categories"][0]["name"] = "unicorn"
    trained.write()
    assert _evaluate(trained) == 2
    error = capsys.readouterr().err
    assert "must know the data's classes" in error
    assert "unicorn" in error


def test_a_state_dict_that_does_not_say_its_net_is_refused(
    trained: _Trained, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save(trained.detector.exported().state_dict(), tmp_path / "plain.pt")
    assert main([str(tmp_path / "plain.pt"), str(trained.data)]) == 2
    assert "must say how its net is built" in capsys.readouterr().err


def test_weights_of_another_versions_settings_are_a_sentence(
    trained: _Trained, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    saved = weights_file.load(trained.run / "best.pt")
    saved["detector"]["wings"] = 2
    weights_file.save(tmp_path / "later.pt", saved)
    assert main([str(tmp_path / "later.pt"), str(trained.data)]) == 2
    assert "wings" in capsys.readouterr().err


@pytest.mark.parametrize("missing", ["weights", "data"])
def test_a_path_that_is_not_there_is_named(
    trained: _Trained, tmp_path: Path, missing: str, capsys: pytest.CaptureFixture[str]
) -> None:
    gone = str(tmp_path / "gone")
    arguments = [gone, str(trained.data)] if missing == "weights" else [str(trained.run), gone]
    assert main(arguments) == 2
    assert gone in capsys.readouterr().err


def test_a_voc_split_that_lacks_a_class_is_scored_with_the_nets_labels(trained: _Trained, tmp_path: Path) -> None:
    from PIL import Image

    root = tmp_path / "voc"
    for folder in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (root / folder).mkdir(parents=True)
    Image.new("RGB", (64, 64)).save(root / "JPEGImages" / "a.jpg")
    (root / "ImageSets" / "Main" / "val.txt").write_text("a\n")
    name = trained.detector.classes[-1]
    box = "<xmin>5</xmin><ymin>5</ymin><xmax>40</xmax><ymax>40</ymax>"
    (root / "Annotations" / "a.xml").write_text(
        "<annotation><filename>a.jpg</filename><size><width>64</width><height>64</height><depth>3</depth></size>"
        f"<object><name>{name}</name><difficult>0</difficult><bndbox>{box}</bndbox></object></annotation>"
    )
    arguments = [str(trained.run), str(root), "--num-workers", "0", "--json", str(tmp_path / "n.json")]
    assert main(arguments) == 0
    per_class = json.loads((tmp_path / "n.json").read_text())["per_class"]
    assert list(per_class) == list(trained.detector.classes)
    assert [name for name, values in per_class.items() if values["AP"] >= 0] == [name]


def test_a_class_name_neither_acts_on_the_terminal_nor_breaks_its_line() -> None:
    per_class = {name: {"AP": 0.5} for name in ("ca\u200bt", "\u202egod", "a\u2028b", "x\x1b[2J", "half\ud800")}
    text = as_text(Scores({"AP": 0.5, "AR1": 0.25}, per_class))
    assert [line.split()[0] for line in text.splitlines()[1:6]] == [
        *(r"ca\u200bt", r"\u202egod", r"a\u2028b", r"x\x1b[2J", r"half\ud800")
    ]
    assert text.replace("\n", "").isprintable()
