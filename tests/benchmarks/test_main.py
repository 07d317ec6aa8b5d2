"""The command that lists the benchmarks."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.benchmarks.__main__ import VERBS, main
from tests.small import REPOSITORY


def test_the_command_lists_its_verbs(capsys: pytest.CaptureFixture[str]) -> None:
    assert (main(["--help"]), main([]), main(["bench"])) == (0, 2, 2)
    printed = capsys.readouterr()
    assert all(f"  {verb} " in printed.out and printed.err.count(f"  {verb} ") == 2 for verb in VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main([verb, "--help"])
    assert caught.value.code == 0
    assert f"usage: python -m tests.benchmarks {verb} " in capsys.readouterr().out


def test_a_wrong_setting_ends_in_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["step", "quickstart", "methods.tar.feature.weight=-1"]) == 2
    assert "  - methods.tar.feature.weight: must be greater" in capsys.readouterr().err


def _imports_the_tests(source: Path) -> bool:
    for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        if any(name.split(".")[0] == "tests" for name in names):
            return True
    return False


def test_that_the_package_needs_nothing_of_the_tests() -> None:
    sources = [*(REPOSITORY / "raydistill").rglob("*.py")]
    assert len(sources) > 30
    assert not [source for source in sources if _imports_the_tests(source)]
    assert _imports_the_tests(Path(__file__))
