"""What is built and installed: the wheel's contents, and both commands, from an empty folder without the checkout."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import venv
import zipfile
from email.message import Message
from email.parser import Parser
from pathlib import Path

import pytest

from raydistill import __main__, __version__
from tests.small import PATIENCE, REPOSITORY, SMALL_RUN

SOURCES = ["pyproject.toml", "setup.py", "MANIFEST.in", "README.md", "LICENSE", "raydistill", "tune_configs"]
TINY = [
    *SMALL_RUN,
    "training.epochs=1",
    "data.num_train=4",
    "data.num_val=2",
    "distillation.preflight=warn",
    "logging.tensorboard=false",
]
APACHE_2_0 = "cfc7749b96f63bd31c3c42b5c471bf756814053e847c10f3eb003417bc523d30"
"""SHA-256 of the text as the Apache foundation publishes it."""


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what is built, with tests beside it: nothing is written into the repository."""
    folder = tmp_path_factory.mktemp("checkout")
    for source in SOURCES:
        copied = REPOSITORY / source
        if copied.is_dir():
            shutil.copytree(copied, folder / source, ignore=shutil.ignore_patterns("__pycache__", ".*"))
        else:
            shutil.copyfile(copied, folder / source)
    (folder / "tests").mkdir()
    (folder / "tests" / "test_nothing.py").touch()
    return folder


@pytest.fixture(scope="module")
def wheel(checkout: Path) -> Path:
    """The wheel, built of the source distribution, without the network."""
    _run([sys.executable, "-c", "from setuptools import build_meta; build_meta.build_sdist('dist')"], checkout)
    (sdist,) = (checkout / "dist").iterdir()
    offline = ["--no-index", "--no-deps", "--no-build-isolation"]
    _run([sys.executable, "-m", "pip", "wheel", *offline, "--wheel-dir", "wheels", str(sdist)], checkout)
    (wheel,) = (checkout / "wheels").iterdir()
    return wheel


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The ``bin`` of an environment that holds the wheel, and sees what is installed here; no editable install."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, symlinks=True)
    (packages,) = folder.glob("lib/python*/site-packages")
    seen = [entry for entry in sys.path if entry.endswith(("site-packages", "dist-packages"))]
    (packages / "seen.pth").write_text("\n".join(seen))
    python = folder / "bin" / "python"
    _run(
        [sys.executable, "-m", "pip", "--python", str(python), "install", "--no-index", "--no-deps", str(wheel)], folder
    )
    return folder / "bin"


def _run(command: list[str], folder: Path) -> str:
    """Run ``command`` in ``folder`` as one would in a shell of one's own, and return what it says on stdout."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    home = folder.with_name(f"{folder.name}-home")
    home.mkdir(exist_ok=True)
    ran = subprocess.run(
        command,
        cwd=folder,
        env=environment | {"OMP_NUM_THREADS": "1", "HOME": str(home)},  # pip writes there
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert ran.returncode == 0, f"{command}\n{ran.stdout}\n{ran.stderr}"
    return ran.stdout


def _metadata(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        return Parser().parsestr(archive.read(f"raydistill-{__version__}.dist-info/METADATA").decode())


# What is in it --------------------------------------------------------------------------------------------------------
def test_the_wheel_holds_every_file_of_the_package_every_sweep_and_nothing_else(checkout: Path, wheel: Path) -> None:
    files = {
        path.relative_to(checkout / "raydistill") for path in (checkout / "raydistill").rglob("*") if path.is_file()
    }
    sweeps = {path.relative_to(checkout) for path in (checkout / "tune_configs").iterdir()}
    assert {path.suffix for path in files} >= {".py", ".typed", ".yaml", ".html", ".js"}
    packed = {Path(name) for name in zipfile.ZipFile(wheel).namelist()}
    in_the_package = {path for path in packed if not path.parts[0].endswith(".dist-info")}
    assert in_the_package == {"raydistill" / path for path in files | sweeps}


def test_the_wheel_says_what_it_is(wheel: Path) -> None:
    metadata = _metadata(wheel)
    assert [metadata[field] for field in ("Name", "Version", "Requires-Python")] == [
        "raydistill",
        __version__,
        ">=3.11",
    ]
    assert [metadata[field] for field in ("Project-URL", "Home-page", "Author")] == [None, None, None]
    classifiers = metadata.get_all("Classifier", [])
    assert {"Typing :: Typed", "Programming Language :: Python :: 3.11"} <= set(classifiers)
    assert str(metadata.get_payload()).startswith("# raydistill\n")


def test_the_licence_is_apache_2_0_word_for_word_and_lies_in_the_wheel(wheel: Path) -> None:
    metadata = _metadata(wheel)
    assert (metadata["License-Expression"], metadata.get_all("License-File")) == ("Apache-2.0", ["LICENSE"])
    assert not [text for text in metadata.get_all("Classifier", []) if text.startswith("License")]
    with zipfile.ZipFile(wheel) as archive:
        licence = archive.read(f"raydistill-{__version__}.dist-info/licenses/LICENSE")
    assert hashlib.sha256(licence).hexdigest() == APACHE_2_0


# What it does ---------------------------------------------------------------------------------------------------------
def test_the_installed_command_lists_what_it_comes_with(installed: Path, tmp_path: Path) -> None:
    assert _run([str(installed / "raydistill"), "list"], tmp_path) == __main__.bundled_as_text()


@pytest.fixture(scope="module")
def ran(installed: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A recipe and a sweep run by their names, one after the other in one process: its empty folder, what it said."""
    folder = tmp_path_factory.mktemp("empty")
    one_point = ["seeds=1", "space={decay.shape: {grid: [linear]}}"]
    both = [["train", "quickstart", *TINY, "--local"], ["tune", "quickstart", *TINY, *one_point, "--local"]]
    code = f"import sys; from raydistill.__main__ import main; sys.exit(any(main(line) for line in {both!r}))"
    return folder, _run([str(installed / "python"), "-c", code], folder)


def test_train_runs_a_recipe_by_name_from_an_empty_folder(ran: tuple[Path, str]) -> None:
    folder, said = ran
    assert "student distilled" in said
    assert f"Report: {folder / 'runs' / 'quickstart' / 'report' / 'report.html'}\n" in said
    assert [path.name for path in folder.iterdir()] == ["runs"]


def test_tune_runs_a_sweep_by_name_from_an_empty_folder(ran: tuple[Path, str]) -> None:
    folder, said = ran
    assert "quickstart: 3 trials, 3 finished" in said
    page = folder / "runs" / "tune" / "quickstart" / "report" / "report.html"
    assert f"Report: {page}\n" in said
    assert "<script>" in page.read_text(encoding="utf-8")
