"""The guides that ``raydistill help TOPIC`` shows: every command in them is run, every setting in them exists."""

from __future__ import annotations

import importlib
import re
import shlex
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from PIL import Image

import raydistill.reports
from raydistill import __main__, train, tune
from raydistill.config import load_config
from raydistill.config.bundled import GUIDES
from raydistill.config.data import Data
from raydistill.config.reference import entries, names
from raydistill.inference.export import export
from raydistill.sweeps.file import load_sweep
from tests.small import REPOSITORY, SMALL_RUN, plain_report

BLOCKS = {name: re.findall(r"```(\w+)\n(.*?)```", GUIDES.read(name), flags=re.DOTALL) for name in GUIDES.names}
COMMANDS = {
    name: [line for kind, text in blocks if kind == "sh" for line in text.splitlines()]
    for name, blocks in BLOCKS.items()
}
TINY = [*SMALL_RUN, "data.num_train=4", "data.num_val=2", "training.epochs=1", "distillation.preflight=warn", "--local"]
NEEDS_NOTHING = ("sweeps", "methods", "own-parts", "speed")  # guides whose commands train on generated images


def blocks(name: str, kind: str) -> list[str]:
    return [text for found, text in BLOCKS[name] if found == kind]


def carry_out(command: str, *more: str) -> None:
    """Run a guide's command in this process, made small."""
    program, option, module, *arguments = shlex.split(command)
    assert (program, option) == ("python", "-m")
    tiny = TINY if module in ("raydistill.train", "raydistill.tune") else []
    if module == "raydistill.tune":
        tiny = [*tiny, "space={decay.shape: {grid: [linear]}}", "evaluation.every=1"]
    assert importlib.import_module(module).main([*arguments, *tiny, *more]) == 0, command


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to work in; reports are written without pictures."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RAYDISTILL_CACHE", str(tmp_path / "cache"))
    monkeypatch.syspath_prepend(str(tmp_path))  # as ``python -m`` does
    monkeypatch.setattr(raydistill.reports, "write_report", plain_report)
    return tmp_path


def test_every_guide_begins_with_what_it_is_about_and_is_short() -> None:
    assert {"cluster", "data", "deploy", "methods", "own-parts", "reports", "speed", "sweeps"} <= set(GUIDES.names)
    for name in GUIDES.names:
        first, *lines = GUIDES.read(name).splitlines()
        assert re.fullmatch(r"# [A-Z].{10,90}", first), name
        assert len(lines) < 120, name
        assert max(map(len, lines)) <= 160, name


def _with_few_seeds(command: str) -> str:
    """Return a command that trains under one seed, a sweep that grows under two: more say no more of it."""
    if "raydistill.tune" not in command:
        return command.replace("seeds=3", "seeds=1")
    grown = command.replace("seeds=3", "seeds=2").replace("--confirm 5", "--confirm 1")
    return grown if "seeds=" in grown else f"{grown} seeds=1"


@pytest.mark.parametrize("name", NEEDS_NOTHING)
def test_every_command_of_a_guide_does_what_it_says(name: str, here: Path) -> None:
    for text in blocks(name, "py"):
        (here / "my_losses.py").write_text(text)
    assert COMMANDS[name]
    for command in COMMANDS[name]:
        carry_out(_with_few_seeds(command))


def test_the_commands_of_the_guide_to_reports_write_what_its_table_names(here: Path) -> None:
    for output in ("runs/quickstart", "runs/cosine"):
        shape = ["decay.shape=cosine"] if output == "runs/cosine" else []
        assert train.main(["quickstart", *TINY, *shape, "--output", output]) == 0
    for command in COMMANDS["reports"]:
        carry_out(command)
    files = {file.name for file in here.glob("runs/**/report/*")} | {file.name for file in here.glob("runs/compared/*")}
    assert {"report.html", "trials.csv", "trials.parquet", "epochs.csv", "summary.csv"} <= files


def test_the_student_of_the_guide_to_deploying_is_used_in_every_way(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnxruntime")
    assert train.main(["quickstart", *TINY, "student.box_score_thresh=0"]) == 0
    (here / "photos").mkdir()
    noise = torch.randint(0, 256, (64, 80, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    Image.fromarray(noise.numpy()).save(here / "photos" / "1.jpg")
    monkeypatch.setattr(export, "LEAST_PAIRED", 0)  # the net has hardly been trained
    monkeypatch.setattr(export, "MOST_AP_DIFFERENCE", 1)
    for command in COMMANDS["deploy"]:
        carry_out(command)
    assert {file.name for file in (here / "found").iterdir()} == {"annotations.json", "detections.json", "pictures"}
    made: dict[str, Any] = {}
    for text in blocks("deploy", "python"):
        exec(text, made)
    assert (here / "boxes.png").is_file()
    assert list(made["table"].columns) == ["image", "class", "score", "x1", "y1", "x2", "y2"]
    assert made["classes"] == list(made["student"].classes)
    assert len(made["boxes"]) == len(made["class_ids"]) == len(made["scores"])


def test_the_commands_of_the_guide_to_data_are_run_as_the_readmes() -> None:
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8").splitlines()
    assert COMMANDS["data"]
    assert [command for command in COMMANDS["data"] if command not in readme] == []


def test_the_formats_of_the_guide_to_data_are_all_there_are() -> None:
    kinds = get_args(get_args(Data)[0])
    formats = {get_args(kind.model_fields["format"].annotation)[0] for kind in kinds}
    assert set(re.findall(r"^\| `(\w+)` \|", GUIDES.read("data"), flags=re.MULTILINE)) == formats - {"auto"}


def test_the_jobs_of_the_guide_to_clusters_are_commands_of_ours(here: Path) -> None:
    mains = {"raydistill.tune": (tune.main, "--print-plan"), "raydistill.train": (train.main, "--print-config")}
    (command,) = COMMANDS["cluster"]
    words = shlex.split(command)
    program, option, module, *arguments = words[words.index("--") + 1 :]
    assert (*words[:3], program, option) == ("ray", "job", "submit", "python", "-m")
    main, check = mains[module]
    assert main([*arguments, check]) == 0


def test_the_sweep_file_of_the_guide_is_one(here: Path) -> None:
    text, *_ = blocks("sweeps", "yaml")
    (here / "mine.yaml").write_text(text)
    assert load_sweep("mine.yaml").sweep.num_trials == 40


def test_the_data_of_ones_own_are_read(here: Path) -> None:
    (text,) = blocks("own-parts", "python")
    made: dict[str, object] = {}
    exec(text, made)
    dataset = made["read"]("train", {"folder": "mine"})  # type: ignore[operator]
    assert (dataset.classes, len(dataset.images)) == (["gear"], 2)


@pytest.mark.parametrize("name", GUIDES.names)
def test_settings_topics_and_verbs_that_a_guide_names_exist(name: str) -> None:
    text = GUIDES.read(name)
    sections = {entry.name.partition(".")[0] for entry in entries()}
    dotted = set(re.findall(r"`((?:\w+\.)+\w+)(?:=[^`]*)?`", text))
    ours = {found for found in dotted if found.partition(".")[0] in sections and not found.endswith(".yaml")}
    assert ours <= names() | {found for found in ours if found.startswith("methods.mine")}
    for topic in re.findall(r"raydistill help ([\w.-]+)", text):
        assert topic in names() | set(__main__.VERBS) | set(GUIDES.names) | {"settings", "sweep-keys", "TOPIC"}, topic
    for verb in re.findall(r"`raydistill (\w+)", text):
        assert verb in __main__.VERBS, verb


@pytest.mark.parametrize("topic", [*GUIDES.names, "settings", "sweep-keys", "training.optimizer", "decay.rate"])
def test_every_topic_is_shown(topic: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert __main__.main(["help", topic]) == 0
    shown = capsys.readouterr().out
    assert shown == GUIDES.read(topic) if topic in GUIDES.names else shown.count("\n") >= 1


def test_the_settings_are_those_that_a_recipe_has(capsys: pytest.CaptureFixture[str]) -> None:
    assert __main__.main(["help", "settings"]) == 0
    shown = capsys.readouterr().out
    assert "\ntraining.accumulation: a whole number" in shown
    assert "    Parts that a batch is worked off in" in shown
    assert "\ndata (format: coco)\n" in shown and "\ndecay (shape: exponential)\n" in shown
    for name in ("evaluation.best_metric: AP, AP50 or AP75; default AP", "seed: a whole number, at least 0; default 0"):
        assert f"\n{name}\n" in shown
    flat = load_config("quickstart").model_dump(mode="json")
    assert set(flat) == {name for name in names() if "." not in name}


@pytest.mark.parametrize(
    ("topic", "hint"),
    [
        ("trainin", "did you mean training?"),
        ("swep", "did you mean sweeps?"),
        ("epochs", "training.epochs"),
        ("nothing_like", "verbs and guides are"),
    ],
)
def test_an_unknown_topic_is_one_sentence(topic: str, hint: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert __main__.main(["help", topic]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"{topic}: must be a verb, a guide or a setting")
    assert hint in said and said.count("\n") == 1
