"""The ``raydistill`` command: verbs, what the package comes with, and what it says of a verb that is none."""

from __future__ import annotations

import pytest

from raydistill import __main__, __version__
from raydistill.config import RECIPES, SWEEPS
from raydistill.config.methods import Methods
from tests.small import run_python


def test_no_verb_and_a_question_for_help_show_every_verb(capsys: pytest.CaptureFixture[str]) -> None:
    assert [__main__.main(words) for words in (["--help"], ["-h"], ["help"], [])] == [0, 0, 0, 2]
    captured = capsys.readouterr()
    for verb in ("train", "tune", "check", "evaluate", "predict", "export", "report", "list", "help"):
        assert [text.count(f"\n  {verb} ") for text in (captured.out, captured.err)] == [3, 1]


@pytest.mark.parametrize("words", ["{verb} --help", "help {verb}"])
@pytest.mark.parametrize("verb", __main__.COMMANDS)
def test_every_command_is_a_module_with_help(words: str, verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        __main__.main(words.format(verb=verb).split())
    assert caught.value.code == 0
    assert f"usage: python -m raydistill.{verb}" in capsys.readouterr().out


@pytest.mark.parametrize("verb", ["", *__main__.COMMANDS])
def test_every_command_says_its_version(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    try:
        code: object = __main__.main([*verb.split(), "--version"])
    except SystemExit as ended:
        code = ended.code
    assert (code, capsys.readouterr().out) == (0, f"raydistill {__version__}\n")


def test_the_exit_code_of_the_verb_is_that_of_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert __main__.main(["train", "nowhere"]) == 2
    assert "nowhere" in capsys.readouterr().err


def test_an_unknown_verb_is_one_sentence_that_names_the_one_that_was_meant(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert __main__.main(["tran"]) == 2
    assert capsys.readouterr().err == (
        f"tran: must be a verb of raydistill; did you mean 'train'? the verbs are {', '.join(__main__.VERBS)}\n"
    )


def test_the_list_holds_every_recipe_and_sweep_with_the_first_sentence_of_its_comment(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert __main__.main(["list"]) == 0
    recipes, sweeps, methods, detectors = capsys.readouterr().out.split("\n\n")
    assert [line.split()[0] for line in methods.splitlines()] == ["methods:", *Methods.model_fields, "module:class"]
    assert detectors.startswith("detectors: teacher and student\n")
    assert "Faster R-CNN      A Faster R-CNN with FPN" in detectors and "mobilenet_v3_small" in detectors
    assert [line.split()[0] for line in recipes.splitlines()] == ["recipes:", *RECIPES]
    assert [line.split()[0] for line in sweeps.splitlines()] == ["sweeps:", *SWEEPS]
    said = "Faster R-CNN + FPN on PASCAL VOC, ResNet-101 teacher, ResNet-50 student."
    assert f"  voc_r101_r50      {said}" in recipes.splitlines()
    assert "  sharing           Whose proposed regions should carry the terms of the heads" in sweeps
    assert [line for line in (recipes + sweeps).splitlines() if len(line) > 125] == []


def test_the_list_needs_neither_torch_nor_ray() -> None:
    code = (
        "import sys, raydistill.__main__; raydistill.__main__.main(['list']); "
        "print([name for name in ('torch', 'ray', 'pandas', 'optuna') if name in sys.modules])"
    )
    assert run_python("-c", code).stdout.splitlines()[-1] == "[]"


def test_the_list_takes_no_arguments(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        __main__.main(["list", "sweeps"])
    assert caught.value.code == 2
    assert "raydistill list: error: unrecognized arguments: sweeps" in capsys.readouterr().err
