"""The layout of DESIGN.md as data: a module imports from the layers above it (smaller numbers) or from its own."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "raydistill"

USES_RAY = (
    *("ray_session", "ray_waiting", "ray_losses", "ray_node", "ray_shipping", "ray_watch"),
    *("launch", "population", "trial_workers", "sweep_launch", "sweep_callbacks"),
)

# A package stands for the modules in it that are not named themselves. No arrow points to a higher number, and those
# within a layer make no circle.
LAYERS: dict[str, int] = {
    # values and small functions
    **dict.fromkeys(
        ("raydistill", "errors", "structures", "events", "board", "boxes", "losses.reduction", "losses.precision"), 0
    ),
    **dict.fromkeys(
        ("files", "stopping", "object_store", "object_cache", "remote_path", "mirror", "lease", "shipped"), 0
    ),
    # settings, losses, files, data
    **dict.fromkeys(("config", "schedules", "losses", "detectors.base", "data", "checkpoint", "runtime", "memory"), 1),
    "sweep_directory": 1,
    # nets, one forward pass, scores, what is shown
    **dict.fromkeys(("detectors", "distiller", "evaluation", "coco_files", "optimization", "progress", "report"), 2),
    **dict.fromkeys(("search_space", "sweep_display", "trackers"), 2),
    **dict.fromkeys(("masks", "teacher", "columns", "scoring", "quality"), 2),
    # training one stage, then all of them
    **dict.fromkeys(("run_settings", "training_state", "engine", "diagnosis", "preflight", "stages"), 3),
    # which trials a sweep has, and one of them
    **dict.fromkeys(("suggestions", "sweep_plan", "trial"), 3),
    # what is measured of all that
    "bench": 4,
    # the command lines, and Ray
    **dict.fromkeys(USES_RAY, 4),
    **dict.fromkeys(("train", "evaluate", "tune", "__main__"), 5),
}
COMMANDS = {"__main__", "train", "evaluate", "tune", "report.__main__", "bench.__main__"}


def _name(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__") or "raydistill"


SOURCES = {_name(path): path.read_text(encoding="utf-8") for path in sorted(PACKAGE.rglob("*.py"))}


def _layer(module: str) -> int | None:
    """Return the layer of a module: its own entry, else that of the package it lies in."""
    parts = module.split(".")
    entries = (".".join(parts[:end]) for end in range(len(parts), 0, -1))
    return next((LAYERS[entry] for entry in entries if entry in LAYERS), None)


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
    own = _layer(module)
    assert own is not None
    imported = ((name, _layer(name)) for name in _imported(source) if name in SOURCES)
    return [name for name, layer in imported if layer is None or layer > own]


def _reachable(module: str) -> set[str]:
    """Return every module of ours that ``module`` imports, directly or not."""
    reached: set[str] = set()
    front = {module}
    while front:
        front = {name for here in front for name in _imported(SOURCES[here]) if name in SOURCES} - reached
        reached |= front
    return reached


def test_the_package_is_found() -> None:
    assert len(SOURCES) > 30
    assert {"engine", "losses.feature", "config.sections", "raydistill"} <= SOURCES.keys()


@pytest.mark.parametrize("module", SOURCES)
def test_every_module_has_a_layer(module: str) -> None:
    assert _layer(module) is not None, f"{module}: name it in LAYERS"


@pytest.mark.parametrize("entry", LAYERS)
def test_the_table_names_no_module_that_is_gone(entry: str) -> None:
    assert entry in SOURCES


@pytest.mark.parametrize("module", SOURCES)
def test_no_import_points_to_a_higher_layer(module: str) -> None:
    assert _upward(module, SOURCES[module]) == []


@pytest.mark.parametrize("module", SOURCES)
def test_no_module_needs_itself_by_way_of_others(module: str) -> None:
    if module not in ("config", "raydistill"):  # packages that hand on names of their modules
        assert module not in _reachable(module)


@pytest.mark.parametrize(
    "source",
    [
        "from raydistill.engine import fit",
        "from raydistill import engine",
        "import raydistill.engine",
        "def later():\n    from raydistill.engine import fit",
    ],
)
def test_the_walk_sees_every_way_to_import(source: str) -> None:
    assert _upward("boxes", source) == ["engine"]


@pytest.mark.parametrize("module", SOURCES)
def test_ray_is_imported_by_its_adapter_only(module: str) -> None:
    imports_ray = any(name.partition(".")[0] == "ray" for name in _imported(SOURCES[module]))
    assert imports_ray == (module in USES_RAY)


def test_training_one_stage_never_reaches_ray() -> None:
    for module in ("engine", "stages", "evaluate"):
        assert not _reachable(module).intersection(USES_RAY)


@pytest.mark.parametrize("module", sorted(name for name in SOURCES if name not in COMMANDS))
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


LOSSES = sorted(name for name in SOURCES if name.startswith("losses."))


@pytest.mark.parametrize("module", LOSSES)
def test_only_reduction_divides_by_what_was_counted(module: str) -> None:
    divisions = _divisions(SOURCES[module])
    assert bool(divisions) == (module == "losses.reduction"), divisions


@pytest.mark.parametrize("source", ["a / n", "a /= n", "a.mean()", "f(a, reduction='mean')", "a.mean(dim=0)"])
def test_the_walk_sees_every_way_to_divide(source: str) -> None:
    assert _divisions(source)
