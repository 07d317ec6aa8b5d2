"""Every command of the README, run in its order on a small copy of the world that it assumes."""

from __future__ import annotations

import functools
import json
import re
import shlex
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import torch
from torchvision.io import write_jpeg
from torchvision.models import resnet18
from torchvision.models.detection import fasterrcnn_mobilenet_v3_large_fpn, fasterrcnn_resnet50_fpn
from torchvision.utils import draw_bounding_boxes

import raydistill.reports
from raydistill import api, check, evaluate, predict, report, train, tune
from raydistill.config.loader import split_overrides
from raydistill.reports import load
from raydistill.sweeps.file import load_sweep
from tests.benchmarks import __main__ as benchmarks
from tests.small import SMALL_RUN, plain_report, run_python

REPOSITORY = Path(__file__).resolve().parents[1]
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", README, flags=re.DOTALL)
SHELL = [line for kind, text in BLOCKS if kind == "sh" for line in text.strip().splitlines()]
COMMANDS = [line for line in SHELL if line.startswith("python -m raydistill.")]
PROGRAMS = [line for line in SHELL if line.startswith("python runs/")]
INSTALLS = [line for line in SHELL if line.startswith("python3 -m venv")]

TINY = [
    *("--local", "training.epochs=1", "training.batch_size=2", "input.min_size=64", "input.max_size=96"),
    *("loader.num_workers=0", "distillation.preflight=warn"),
]
TINY_NETS = [
    f"{role}.{setting}"
    for role in ("teacher", "student")
    for setting in ("box_batch_size_per_image=16", "rpn_post_nms_top_n_train=50", "box_score_thresh=0.05")
]
TINY_HEADS = [f"{role}.{size}" for role in ("teacher", "student") for size in ("fpn_channels=32", "box_head_size=32")]
SMALLER = {
    "train quickstart": ["data.num_train=4", "data.num_val=2", "teacher.epochs=1"],
    "tune quickstart": [
        *("data.num_train=4", "data.num_val=2", "teacher.epochs=1", "seeds=1", "evaluation.every=1"),
        "space={decay.shape: {grid: [linear]}}",
    ],
    "train finetune": TINY_NETS,
    "train voc_r101_r50": [*TINY_NETS, *TINY_HEADS, "teacher.backbone=resnet18", "student.backbone=resnet18"],
}


def test_that_the_readme_is_finished_and_short():
    assert not re.findall(r"[A-Z]+_(?:TABLE|MINUTES|ROWS)|SPEEDTEXT", README)
    assert len(README.splitlines()) < 180


def test_that_ci_installs_and_tests_as_the_readme_says():
    ci = (REPOSITORY / ".ci" / "run").read_text(encoding="utf-8")
    run_line, test_line = INSTALLS
    assert run_line.endswith("pip install . && python -m raydistill.train quickstart")
    *_, install, test = (part.strip() for part in test_line.split("&&"))
    assert [line for line in ci.splitlines() if line.startswith("pip install")] == [
        install.replace("pip install", "pip install --quiet")
    ]
    assert ci.splitlines()[-1] == test == "pytest -n auto"


def test_that_every_command_of_the_readme_does_what_it_says(world, monkeypatch):
    assert len(COMMANDS) >= 4
    monkeypatch.chdir(world)
    (own_method,) = (text for kind, text in BLOCKS if kind == "py")
    (world / "my_losses.py").write_text(own_method)
    monkeypatch.syspath_prepend(str(world))  # as ``python -m`` does
    mains = {
        "check": functools.partial(_look_at, check.main),
        "train": train.main,
        "evaluate": evaluate.main,
        "predict": predict.main,
        "tune": tune.main,
        "report": report.main,
    }
    for command in [INSTALLS[0].split("&&")[-1].strip(), *COMMANDS]:
        _, _, module, *arguments = shlex.split(command)
        verb = module.removeprefix("raydistill.")
        trains = verb in ("train", "tune")
        small = [*TINY, *SMALLER[f"{verb} {arguments[0]}"]] if trains else []
        with monkeypatch.context() as patch:
            if trains:  # the command `report` draws them
                patch.setattr(raydistill.reports, "write_report", plain_report)
            assert mains[verb]([*arguments, *small]) == 0, command
    assert (world / "runs/quickstart/comparison.csv").is_file()
    assert (world / "runs/voc_r101_r50/distilled/best.pt").is_file()
    of_two_methods = json.loads((world / "runs/mine/distilled/metrics.jsonl").read_text().splitlines()[-1])
    assert {"train/weighted/mine", "train/weighted/tar/feature"} <= of_two_methods.keys()
    assert (world / "runs/tune/quickstart/report/report.html").is_file()
    assert [*(world / "runs/tune/quickstart/report").glob("*.png")]
    assert len(load("runs/tune/quickstart").trials) == 3
    assert 0 <= json.loads((world / "scores.json").read_text())["AP"] <= 1
    assert len([*(world / "predictions/pictures").iterdir()]) == 2
    use_student, from_python = (text for kind, text in BLOCKS if kind == "python")
    names: dict[str, Any] = {}
    exec(use_student, names)
    assert len(names["found"]) == 2
    images = [torch.rand(3, 64, 80)]
    (program,) = PROGRAMS
    assert run_python(*program.split()[1:], PYTHONPATH="", folder=world).returncode == 0
    found = _run_in_python(from_python, monkeypatch)
    assert 0 <= found["metrics"]["AP"] <= 1
    assert found["detector"].classes == ("gear",)
    assert list(found["run"].table["model"]) == ["teacher", "student alone", "student distilled"]
    assert found["best"].settings == {"decay.shape": "linear"}
    assert found["run"].student.detect(images)[0].keys() == {"boxes", "labels", "scores"}


def _look_at(main: Any, arguments: list[str]) -> int:
    """Run the command that looks at data; something to look at is no failure."""
    code: int = main([*arguments, "--no-time"])
    return 0 if code == check.LOOK_AT else code


def _run_in_python(snippet: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Run the README's lines with settings that make them small, and return what they made."""
    small = {**dict(split_overrides(SMALL_RUN)[0]), "training.epochs": 1, "data.num_train": 4, "data.num_val": 2}
    small |= {"distillation.preflight": "warn", "student.box_score_thresh": 0}
    one_point = {"space": {"decay.shape": {"grid": ["linear"]}}}
    distill, sweep = api.distill, api.sweep
    monkeypatch.setattr(
        api,
        "distill",
        lambda recipe, changes, local: distill(recipe, changes | small, output="runs/called", local=local),
    )
    monkeypatch.setattr(
        api,
        "sweep",
        lambda file, changes, local: sweep(file, changes | small | one_point, output="runs/swept", local=local),
    )
    names: dict[str, Any] = {}
    exec(snippet, names)
    return names


def test_that_the_benchmark_of_the_readme_prints_what_it_quotes(capsys):
    (command,) = re.findall(r"`python -m tests\.benchmarks ([^`]+)`", README)
    tiny = ["data.num_train=8", "training.batch_size=2", "scaling.num_workers=1", "--rounds", "1"]
    assert benchmarks.main([*command.split(), *tiny]) == 0
    printed = capsys.readouterr().out
    assert re.search(r"^plain +\d\.\d+ +1\.00$", printed, flags=re.MULTILINE)
    assert re.search(r"^all_levels +\d\.\d+ +\d\.\d\d ", printed, flags=re.MULTILINE)
    assert re.search(r"^handwritten +\d\.\d+ +\d\.\d\d ", printed, flags=re.MULTILINE)


def test_that_the_sweep_file_of_the_readme_is_one(tmp_path):
    (text,) = (text for kind, text in BLOCKS if kind == "yaml")
    (tmp_path / "sweep.yaml").write_text(text)
    loaded = load_sweep(str(tmp_path / "sweep.yaml"), ["data.train_annotations=t.json", "data.val_annotations=v.json"])
    assert loaded.sweep.scheduler.name == "asha"
    assert list(loaded.sweep.space) == ["decay.shape", "decay.rate", "methods.tar.feature.weight"]


@pytest.fixture
def world(tmp_path):
    """``path/to/data``, ``path/to/VOC2012``, two COCO files, torchvision's files in a torch hub."""
    _make_coco(tmp_path / "path/to/data")
    _make_voc(tmp_path / "path/to/VOC2012")
    annotations = json.loads((tmp_path / "path/to/data/annotations/val.json").read_text())
    (tmp_path / "annotations.json").write_text(json.dumps(annotations))
    detections = [
        {key: entry[key] for key in ("image_id", "category_id", "bbox")} for entry in annotations["annotations"]
    ]
    (tmp_path / "detections.json").write_text(json.dumps([{**detection, "score": 0.9} for detection in detections]))
    before = torch.hub.get_dir()
    torch.hub.set_dir(str(tmp_path / "hub"))
    _make_hub(tmp_path / "hub" / "checkpoints")
    yield tmp_path
    torch.hub.set_dir(before)


def _image(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    ground = torch.randint(0, 255, (3, 64, 80), dtype=torch.uint8)
    write_jpeg(draw_bounding_boxes(ground, torch.tensor([[10, 10, 50, 40]]), fill=True), str(path))


def _make_coco(root: Path) -> None:
    for split in ("train", "val"):
        for number in (1, 2):
            _image(root / split / f"{number}.jpg")
        content = {
            "images": [{"id": n, "file_name": f"{n}.jpg", "width": 80, "height": 64} for n in (1, 2)],
            "annotations": [
                {"id": n, "image_id": n, "category_id": 7, "bbox": [10, 10, 40, 30], "area": 1200, "iscrowd": 0}
                for n in (1, 2)
            ],
            "categories": [{"id": 7, "name": "gear"}],
        }
        (root / "annotations").mkdir(exist_ok=True)
        (root / "annotations" / f"{split}.json").write_text(json.dumps(content))


def _make_voc(root: Path) -> None:
    for split, number in (("train", 1), ("val", 2)):
        _image(root / "JPEGImages" / f"{number}.jpg")
        (root / "ImageSets/Main").mkdir(parents=True, exist_ok=True)
        (root / "ImageSets/Main" / f"{split}.txt").write_text(f"{number}\n")
        annotation = ElementTree.Element("annotation")
        size = ElementTree.SubElement(annotation, "size")
        for key, value in (("width", 80), ("height", 64), ("depth", 3)):
            ElementTree.SubElement(size, key).text = str(value)
        found = ElementTree.SubElement(annotation, "object")
        ElementTree.SubElement(found, "name").text = "gear"
        box = ElementTree.SubElement(found, "bndbox")
        for key, value in (("xmin", 10), ("ymin", 10), ("xmax", 50), ("ymax", 40)):
            ElementTree.SubElement(box, key).text = str(value)
        (root / "Annotations").mkdir(exist_ok=True)
        ElementTree.ElementTree(annotation).write(root / "Annotations" / f"{number}.xml")


def _make_hub(folder: Path) -> None:
    """Put random weights where torchvision would have put the downloaded ones."""
    folder.mkdir(parents=True)
    frozen = {"weights": None, "weights_backbone": None}
    models = {
        "fasterrcnn_resnet50_fpn_coco-258fb6c6.pth": fasterrcnn_resnet50_fpn(**frozen),
        "fasterrcnn_mobilenet_v3_large_fpn-fb6a3cc7.pth": fasterrcnn_mobilenet_v3_large_fpn(**frozen),
        "resnet18-f37072fd.pth": resnet18(weights=None),
    }
    for name, model in models.items():
        torch.save({key: v for key, v in model.state_dict().items() if "num_batches" not in key}, folder / name)
