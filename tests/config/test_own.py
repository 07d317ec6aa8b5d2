"""What the user has written: named in settings, found again, and taken along to other processes."""

from __future__ import annotations

import functools
import pickle
import subprocess
import sys
from collections import OrderedDict
from typing import Any

import pytest

from raydistill.config import load_config
from raydistill.config.from_python import plain
from raydistill.config.own import Carried, find, name_of
from raydistill.errors import UserError
from tests.small import REPOSITORY, run_python

NAMED = {"data": {"format": "own", "dataset": "mine:read"}, "student": {"detector": "mine:Net"}}


def read(split: str, settings: dict[str, Any]) -> str:
    return split


class _Callable:
    def __init__(self, answer: int) -> None:
        self.answer = answer

    def __call__(self) -> int:
        return self.answer


@pytest.mark.parametrize("given", [OrderedDict, read, pytest.raises])
def test_what_can_be_imported_is_its_name_and_takes_nothing_along(given: Any) -> None:
    name = name_of(given)
    assert find(name, "here") is given
    assert Carried.named_in({"a": [name]}) == Carried(())


def test_what_was_written_in_a_function_and_an_object_are_found_under_their_names() -> None:
    def inner() -> int:
        return 3

    partial = functools.partial(read, "val")
    settings = plain({"a": inner, "b": [_Callable(7), partial]})
    assert find(settings["a"], "a")() == 3
    assert find(settings["b"][0], "b")() == 7
    assert find(settings["b"][1], "b")({}) == "val"
    assert set(Carried.named_in(settings).names) == {settings["a"], *settings["b"]}


def test_a_config_takes_along_to_another_process_what_only_this_one_has() -> None:
    factor = 5

    def build(settings: Any, image: Any, classes: Any) -> int:
        return factor * len(classes)

    config = load_config("quickstart", {**NAMED, "student": {"detector": build}})
    code = (
        "import pickle, sys; config = pickle.load(sys.stdin.buffer); from raydistill.config.own import find; "
        "print(find(config.student.detector, 'student.detector')({}, None, 'abc'))"
    )
    process = subprocess.run(
        [sys.executable, "-c", code], input=pickle.dumps(config), cwd=REPOSITORY, capture_output=True, check=True
    )
    assert process.stdout == b"15\n"
    assert pickle.loads(pickle.dumps(config)) == config


def test_a_script_gives_its_own_functions(tmp_path: Any) -> None:
    """They are of ``__main__``, which is another module in each process."""
    script = tmp_path / "script.py"
    script.write_text(
        "import multiprocessing, raydistill.config as c, raydistill.config.own as own\n"
        "def read(split, settings): return split * 2\n"
        "if __name__ == '__main__':\n"
        "    config = c.load_config('quickstart', {'data': {'format': 'own', 'dataset': read}})\n"
        "    print(config.data.dataset, own.Carried.named_in(config.model_dump()).names)\n"
    )
    assert run_python(str(script)).stdout == "__main__:read ('__main__:read',)\n"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nowhere", "must be module:name, got 'nowhere'"),
        (":f", "must be module:name, got ':f'"),
        ("os:", "must be module:name, got 'os:'"),
        ("no_such_module:f", "No module named 'no_such_module'"),
        ("os:no_such_function", "has no attribute 'no_such_function'"),
        ("os:sep", "sep is a str"),
        ("..:f", r"got \.\.:f"),
        ("__main__:gone", "one that is written in a notebook is given as the object itself"),
    ],
)
def test_what_cannot_be_found_is_a_sentence(name: str, said: str) -> None:
    with pytest.raises(UserError, match=rf"^student\.detector: .*{said}"):
        find(name, "student.detector")


# Settings -------------------------------------------------------------------------------------------------------------
def test_a_detector_and_data_of_ones_own_replace_those_of_the_recipe() -> None:
    config = load_config("quickstart", [*("data.format=own", "data.dataset=mine:read", "student.detector=mine:Net")])
    assert config.student.model_dump() == {"detector": "mine:Net", "weights": "random", "settings": {}}
    assert config.data.model_dump()["dataset"] == "mine:read"
    assert config.teacher.model_dump()["backbone"] == "resnet18"  # the other net is as it was
    again = load_config("quickstart", {"student": {"detector": "mine:Net", "settings": {"width": 3}}})
    assert again.student.model_dump()["settings"] == {"width": 3}


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("student={detector: 'mine:Net', backbone: resnet18}", "student.backbone: no such setting"),
        ("student.detecter=mine:Net", "student.detecter: no such setting; did you mean student.detector?"),
        ("student={detector: 'mine:Net', weights: imagenet}", "student.weights: must be 'random' or a file"),
        ("teacher={detector: 'mine:Net', train: maybe}", "teacher.train: must be a valid boolean"),
        ("data={format: own}", "data.dataset: must be given"),
        ("data={format: own, dataset: 'a:b', root: x}", "data.root: no such setting"),
        ("student=5", "student: must be a valid dictionary"),
    ],
)
def test_mistakes_in_such_settings_are_named_where_they_are(override: str, said: str) -> None:
    with pytest.raises(UserError) as caught:
        load_config("quickstart", [override])
    assert f"{said}" in str(caught.value)


def test_a_teacher_of_ones_own_is_trained_unless_it_has_weights() -> None:
    config = load_config("quickstart", ["teacher.detector=mine:Net"])
    assert config.teacher.train
    ready = load_config("quickstart", ["teacher={detector: 'mine:Net', train: false}"])
    assert not ready.teacher.train  # built with weights that detect something
    given = load_config("quickstart", ["teacher={detector: 'mine:Net', weights: runs/teacher}"])
    assert not given.teacher.train
