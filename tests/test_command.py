"""How every command ends."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from raydistill.command import run_command
from raydistill.errors import UserError
from raydistill.runs.stopping import Stopped


def _raising(error: BaseException) -> Callable[[], int]:
    def work() -> int:
        raise error

    return work


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (UserError("seed: must be another, got 3"), 2, "seed: must be another, got 3\n"),
        (UserError("a\x1b[2J\u202e.png: gone\nnow"), 2, "a\\x1b[2J\\u202e.png: gone\\nnow\n"),
        (Stopped(), 130, "stopped; go on\n"),
        (KeyboardInterrupt(), 130, "interrupted; go on\n"),
    ],
)
def test_what_its_user_caused_is_a_sentence_and_an_exit_code(
    error: BaseException, code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command(_raising(error), "stopped; go on", "interrupted; go on") == code
    assert capsys.readouterr() == ("", said)


def test_the_code_of_work_that_ends_well_is_its_own() -> None:
    assert [run_command(lambda: 0), run_command(lambda: 1)] == [0, 1]


@pytest.mark.parametrize("error", [ZeroDivisionError(), SystemExit(3)])
def test_anything_else_goes_its_way(error: BaseException, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(type(error)):
        run_command(_raising(error))
    assert capsys.readouterr() == ("", "")
