"""Tests of the script that completes the command, in the shell that reads it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from raydistill import __main__


@pytest.fixture(scope="module")
def bash(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The script, and a file to complete beside it."""
    folder = tmp_path_factory.mktemp("completion")
    with (folder / "script").open("w") as file, pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.stdout", file)
        assert __main__.main(["completion", "bash"]) == 0
    (folder / "mine.yaml").touch()
    return folder / "script"


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ("raydistill tr", ["train"]),
        ("raydistill train qui", ["quickstart"]),
        ("raydistill train mi", ["mine.yaml"]),
        ("raydistill tune ablat", ["ablation"]),
        ("raydistill train quickstart training.ep", ["training.epochs="]),
        ("raydistill train quickstart seed=1 decay.sh", ["decay.shape="]),
        ("raydistill help own", ["own-parts"]),
        ("raydistill train --print", ["--print-config"]),
        ("raydistill report mi", ["mine.yaml"]),
    ],
)
def test_bash_completes_verbs_names_files_settings_and_options(line: str, found: list[str], bash: Path) -> None:
    words = line.split()
    program = (
        f"source {bash}; COMP_WORDS=({' '.join(words)}); COMP_CWORD={len(words) - 1}; COMP_LINE='{line}'; "
        "COMP_POINT=${#COMP_LINE}; _shtab_raydistill; printf '%s\\n' \"${COMPREPLY[@]}\""
    )
    done = subprocess.run(
        ["bash", "-c", program], cwd=bash.parent, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.stdout.split() == found, done.stderr


def test_bash_reads_the_script_without_a_complaint(bash: Path) -> None:
    done = subprocess.run(["bash", "-n", str(bash)], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")


def test_zsh_gets_a_script_of_its_own(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert __main__.main(["completion", "zsh"]) == 0
    script = capsys.readouterr().out
    assert script.startswith("#compdef raydistill")
    assert "_raydistill_recipe()" in script and "training.epochs=" in script
    zsh = shutil.which("zsh")
    if zsh:
        (tmp_path / "script").write_text(script)
        subprocess.run([zsh, "-n", str(tmp_path / "script")], check=True, timeout=60)


def test_another_shell_is_refused_with_those_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        __main__.main(["completion", "cmd"])
    assert caught.value.code == 2
    assert "invalid choice: 'cmd' (choose from 'bash', 'zsh')" in capsys.readouterr().err
