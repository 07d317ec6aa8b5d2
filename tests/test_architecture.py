"""The rooms of the package as data, in their order: a module imports from the rooms below its own, never from above."""

from __future__ import annotations

import ast
import functools
import re
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "raydistill"

COMMANDS = ("__main__", "train", "tune", "check", "evaluate", "predict", "export", "cache", "report")
"""The modules at the top that are command lines: only they write to stdout and end the process."""
BETWEEN = "runs.streams"
"""Stands between the commands and their streams."""
ROOMS = (
    *("command", "api", "results", "reports", "driver", "runner", "on_ray", "sweeps", "training", "methods"),
    *("inference", "detectors", "data", "runs", "config", "storage", "structures", "errors"),
)
"""From the top floor down; a module of one file is a room too."""
FACADE = "raydistill"
"""The package itself: it holds the version, so it lies below all, and hands on what others offer when asked for it."""
NEVER_IMPORTED = {
    "training": ("reports",),
    "methods": ("training", "storage", "runs"),
    "detectors.two_stage": ("detectors.one_stage", "detectors.query"),
    "detectors.one_stage": ("detectors.two_stage", "detectors.query"),
    "detectors.query": ("detectors.two_stage", "detectors.one_stage"),
}
"""What a room must not import beyond that."""


def _name(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__") or "raydistill"


SOURCES = {_name(path): path.read_text(encoding="utf-8") for path in sorted(PACKAGE.rglob("*.py"))}


def _floor(module: str) -> int:
    """Return how far down a module lies; the package itself, which holds the version, lies below all."""
    room = module.partition(".")[0]
    if module in COMMANDS:
        return -1
    return len(ROOMS) if room == FACADE else ROOMS.index(room)


def _in_room(module: str, room: str) -> bool:
    return module == room or module.startswith(f"{room}.")


@functools.cache
def _imported(source: str) -> set[str]:
    """Return the modules that ``source`` imports anywhere, functions included; our own without ``raydistill.``."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            assert node.level == 0, "imports are absolute"
            inner = {f"{module}.{alias.name}" for alias in node.names}
            ours = {name for name in inner if name.removeprefix("raydistill.") in SOURCES}
            names |= ours or {module}
    return {name.removeprefix("raydistill.") for name in names}


def _upward(module: str, source: str) -> list[str]:
    return [name for name in sorted(_imported(source)) if name in SOURCES and _floor(name) < _floor(module)]


def _reachable(module: str) -> set[str]:
    """Return every module of ours that ``module`` imports, directly or not."""
    reached: set[str] = set()
    front = {module}
    while front:
        front = {name for here in front - {FACADE} for name in _imported(SOURCES[here]) if name in SOURCES} - reached
        reached |= front
    return reached


def test_the_package_is_found() -> None:
    assert len(SOURCES) > 30
    assert {"training.loop", "methods.losses.feature", "config.sections", "raydistill"} <= SOURCES.keys()


@pytest.mark.parametrize("module", SOURCES)
def test_every_module_lies_in_a_room(module: str) -> None:
    assert module.partition(".")[0] in {*COMMANDS, *ROOMS, FACADE}, f"{module}: name its room in ROOMS"


@pytest.mark.parametrize("room", ROOMS)
def test_no_room_is_empty(room: str) -> None:
    assert any(_in_room(module, room) for module in SOURCES)


@pytest.mark.parametrize("module", [name for name in SOURCES if name != FACADE])
def test_no_import_points_to_a_room_above(module: str) -> None:
    assert _upward(module, SOURCES[module]) == []


def test_the_package_itself_imports_nothing_of_ours_before_it_is_asked() -> None:
    body = [node for node in ast.parse(SOURCES[FACADE]).body if not isinstance(node, ast.If)]
    assert not [name for name in _imported(ast.unparse(ast.Module(body, []))) if name in SOURCES]


@pytest.mark.parametrize("module", SOURCES)
def test_rooms_that_must_not_know_each_other_do_not(module: str) -> None:
    barred = [other for room, others in NEVER_IMPORTED.items() if _in_room(module, room) for other in others]
    assert [name for name in _imported(SOURCES[module]) for room in barred if _in_room(name, room)] == []


@pytest.mark.parametrize("module", SOURCES)
def test_no_module_needs_itself_by_way_of_others(module: str) -> None:
    if module != "config":  # a package that hands on names of its modules
        assert module not in _reachable(module)


@pytest.mark.parametrize(
    "source",
    [
        "from raydistill.training.loop import fit",
        "from raydistill.training import loop",
        "import raydistill.training.loop",
        "def later():\n    from raydistill.training.loop import fit",
    ],
)
def test_the_walk_sees_every_way_to_import(source: str) -> None:
    assert _upward("methods.boxes", source) == ["training.loop"]


@pytest.mark.parametrize("module", SOURCES)
def test_ray_is_imported_in_one_room_only(module: str) -> None:
    imports_ray = any(name.partition(".")[0] == "ray" for name in _imported(SOURCES[module]))
    assert not imports_ray or _in_room(module, "on_ray")


def test_training_one_stage_never_reaches_ray() -> None:
    for module in ("training.loop", "training.stages", "training.local", "sweeps.local", "evaluate"):
        assert not any(_in_room(reached, "on_ray") for reached in _reachable(module))


@pytest.mark.parametrize("module", sorted(name for name in SOURCES if name not in (*COMMANDS, BETWEEN)))
def test_only_commands_write_to_stdout_or_end_the_process(module: str) -> None:
    for node in ast.walk(ast.parse(SOURCES[module])):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "sys":
            assert node.attr not in ("stdout", "exit")
        assert not (isinstance(node, ast.Name) and node.id in ("print", "exit", "quit"))


def _loads_of_code(source: str) -> list[str]:
    """Return the calls of ``source`` that may run code which lies in a file."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            checked = "weights_only=True" in [ast.unparse(keyword) for keyword in node.keywords]
            unsafe = called.split(".")[0] in ("pickle", "marshal", "shelve", "cloudpickle", "joblib", "dill")
            if (unsafe and re.search("load|open|Unpickler", called)) or (called == "torch.load" and not checked):
                found.append(ast.unparse(node))
    return found


@pytest.mark.parametrize("module", SOURCES)
def test_no_file_is_loaded_that_could_run_code(module: str) -> None:
    assert _loads_of_code(SOURCES[module]) == []


@pytest.mark.parametrize(
    "source", ["pickle.load(file)", "torch.load(path)", "torch.load(path, weights_only=False)", "pickle.Unpickler(f)"]
)
def test_the_walk_sees_loads_of_code(source: str) -> None:
    assert _loads_of_code(source)


# What may be divided by outside reduction.py: numbers written there, and the temperature of a softened distribution.
ALLOWED_DIVISORS = {"temperature"}
NORMALIZING = {"mean", "div", "true_divide", "nanmean"}


def _divisions(source: str) -> list[str]:
    """Return divisions of ``source`` that normalise: by something counted, or a mean over regions or cells."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.BinOp | ast.AugAssign) and isinstance(node.op, ast.Div | ast.FloorDiv):
            divisor = node.right if isinstance(node, ast.BinOp) else node.value
            named = isinstance(divisor, ast.Name) and divisor.id in ALLOWED_DIVISORS
            if not (named or isinstance(divisor, ast.Constant)):
                found.append(ast.unparse(node))
        if isinstance(node, ast.Call):
            over_channels = [ast.unparse(keyword) for keyword in node.keywords] == ["dim=1"] and not node.args
            if isinstance(node.func, ast.Attribute) and node.func.attr in NORMALIZING and not over_channels:
                found.append(ast.unparse(node))
            reductions = {ast.unparse(keyword.value) for keyword in node.keywords if keyword.arg == "reduction"}
            if reductions - {"'none'"}:
                found.append(ast.unparse(node))
    return found


LOSSES = sorted(name for name in SOURCES if name.startswith("methods.losses."))


@pytest.mark.parametrize("module", LOSSES)
def test_only_reduction_divides_by_what_was_counted(module: str) -> None:
    divisions = _divisions(SOURCES[module])
    assert bool(divisions) == (module == "methods.losses.reduction"), divisions


@pytest.mark.parametrize("source", ["a / n", "a /= n", "a.mean()", "f(a, reduction='mean')", "a.mean(dim=0)"])
def test_the_walk_sees_every_way_to_divide(source: str) -> None:
    assert _divisions(source)
