"""Settings and sweep files that are broken, through ``load_config`` and ``load_sweep``."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from pathlib import Path
from typing import Any

from raydistill.config import load_config
from raydistill.sweeps.file import load_sweep
from tests.sweeps.file.written import write

from .cases import Case, right

Run = Callable[[Path], Any]


def given(*overrides: str, recipe: str = "quickstart") -> Run:
    """Load a recipe with overrides; what comes back is what a right case looks at."""

    def run(_folder: Path) -> Any:
        config = load_config(recipe, overrides)
        return config.seed, config.training.batch_size

    return run


def file(text: str | bytes) -> Run:
    def run(folder: Path) -> Any:
        path = folder / "mine.yaml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))
        config = load_config(str(path))
        return config.seed, config.training.batch_size

    return run


def mine(text: str) -> Run:
    """Load a file of the quickstart with more in it."""
    return file(f"base: quickstart\n{text}")


def sweep(*overrides: str, **changes: Any) -> Run:
    def run(folder: Path) -> Any:
        return len(load_sweep(write(folder, changes), overrides).points or ())

    return run


def sweep_file(text: str) -> Run:
    def run(folder: Path) -> Any:
        (folder / "sweep.yaml").write_text(text)
        return load_sweep(str(folder / "sweep.yaml"))

    return run


def space(**dimensions: Any) -> Run:
    return sweep(space={name.replace("__", "."): written for name, written in dimensions.items()})


LAUGHS = "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 40))
DEEP = "a." * 3000 + "b"

CONFIGS = [
    Case(
        "a recipe that is none", given(recipe="quickstrat"), "must be a recipe or a YAML file.* did you mean 'quickst"
    ),
    Case("a file that is not there", given(recipe="gone.yaml"), r"gone\.yaml: must be a recipe or a YAML file"),
    Case("an empty name", given(recipe=""), "must be a recipe or a YAML file, got neither"),
    Case("an endless name", given(recipe="x" * 5000), "must be a recipe or a YAML file, got neither"),
    Case("a name with a NUL", given(recipe="a\0b"), "must be a recipe or a YAML file, got neither"),
    Case(
        "a home nobody knows", given(recipe="~nobody-has-this-name/a.yaml"), "a home that nobody knows; write the path"
    ),
    Case("a folder", lambda folder: load_config(str(folder)), "must be a recipe or a YAML file, got neither"),
    Case("an empty file", file(""), "must hold sections with settings, got NoneType"),
    Case("a list", file("- a\n"), "must hold sections with settings, got list"),
    Case("bytes that are no text", file(b"\xff\xfe\x00\x01"), "cannot be read as text"),
    Case("a tab", file("a:\t- b"), "must be YAML .*found character"),
    Case("a bracket left open", file("a: [1"), "must be YAML"),
    Case("two documents", file("a: 1\n---\nb: 1"), "must be YAML .*expected a single document"),
    Case("a key twice", mine("seed: 1\nseed: 2"), "key 'seed' is given twice"),
    Case("a Python object", mine("seed: !!python/object/apply:os.getcwd []"), "could not determine a constructor"),
    Case("aliases that grow to billions", file(LAUGHS), "must be YAML .more than 100000 values, aliases written out"),
    Case("a list that holds itself", file("a: &a [*a]"), "must be YAML .a value that holds itself"),
    Case("a mapping merged into itself", file("a: &a {<<: *a}"), "must be YAML .a value that holds itself"),
    Case("a merge of no mapping", file("<<: 5"), "expected a mapping or list of mappings for merging"),
    Case("nested 3000 deep", file("a: " + "[" * 3000), "must be YAML .lists and mappings nested too deeply"),
    Case("a tag on another kind", mine("seed: !!int ''"), "a value that is not of the kind its tag says"),
    Case("a truth that is none", mine("seed: !!bool maybe"), "a value that is not of the kind its tag says"),
    Case("the 45th of the 13th month", mine("seed: 2020-13-45"), "must be YAML .month must be in 1..12"),
    Case("5000 digits", mine(f"seed: {'9' * 5000}"), "must be YAML .Exceeds the limit"),
    Case("a null as key", mine("null: 1"), "None: must have texts as keys, got None"),
    Case("a number as key", mine("training: {5: 1}"), "training.5: must have texts as keys, got 5"),
    Case("half a letter as key", mine('"\\ud800": 1'), r"a key: must be a valid string, .*got '\\ud800'"),
    Case("half a letter as value", mine('output: "\\ud800"'), r"output: must be a valid string"),
    Case("a base that is none", file("base: nothing"), "base: must be one of .* got 'nothing'"),
    Case("a base that is a list", file("base: [quickstart]"), r"base: must be one of .* got \['quickstart'\]"),
    Case("an unknown section", given("trainning.epochs=3"), "trainning: no such setting; did you mean training"),
    Case("an unknown key", given("training.epoch=3"), "training.epoch: no such setting; did you mean training.epochs"),
    Case("a setting of another kind", given("decay.shape=linear", "decay.rate=2"), "decay.rate: no such setting"),
    Case("a kind that is none", given("decay.shape=wave"), "decay.shape: must be one of 'linear', .* got 'wave'"),
    Case("a kind that is a list", given("decay.shape=[linear]"), r"decay.shape: must be one of .*, got \['linear'\]"),
    Case("a section that is a list", given("teacher=[1]"), "teacher: must be a valid dictionary"),
    Case("a section that is null", given("data=null"), "data: must be a valid dictionary"),
    Case("no equals sign", given("seed"), "'seed': must have the form section.key=value"),
    Case("an override that is no YAML", given("seed=["), "'seed=\\[': the value is not YAML"),
    Case("an endless name of a setting", given(f"{DEEP}=1"), "must have the form section.key=value"),
    Case("true for a whole number", given("training.epochs=true"), "epochs: must be a valid integer, got True"),
    Case("a text for a whole number", given("training.epochs='5'"), "epochs: must be a valid integer, got '5'"),
    Case("a fraction for a whole number", given("seed=1.5"), "seed: must be a valid integer, got 1.5"),
    Case("a date for a whole number", given("seed=2020-01-01"), "seed: must be a valid integer, got datetime.date"),
    Case("infinity for a whole number", given("seed=.inf"), "seed: must be a valid integer, got inf"),
    Case("a seed beyond 64 bits", given(f"seed={2**70}"), "seed: must be less than or equal to 9223372036854775807"),
    Case("a negative seed", given("seed=-1"), "seed: must be greater than or equal to 0, got -1"),
    Case("no epochs", given("training.epochs=0"), "training.epochs: must be greater than or equal to 1, got 0"),
    Case(
        "true for a number",
        given("methods.tar.feature.weight=true"),
        "methods.tar.feature.weight: must be a valid number, got True",
    ),
    Case(
        "a text for a number",
        given("methods.tar.feature.weight='1'"),
        "methods.tar.feature.weight: must be a valid number, got '1'",
    ),
    Case(
        "NaN", given("methods.tar.feature.weight=.nan"), "methods.tar.feature.weight: must be a finite number, got nan"
    ),
    Case("infinity", given("training.optimizer.learning_rate=.inf"), "learning_rate: must be a finite number, got inf"),
    Case("a share above 1", given("augmentation.horizontal_flip=1.1"), "must be less than or equal to 1, got 1.1"),
    Case("a true share", given("augmentation.horizontal_flip=true"), "must be a valid number, got True"),
    Case("maybe for a truth", given("distillation.baseline=maybe"), "must be a valid boolean"),
    Case(
        "a number for a text",
        given("logging.wandb={project: 5}"),
        "project: must be a valid string, got 5; put it in quotes",
    ),
    Case("an empty text", given("data.format=coco", "data.root=''"), "data.root: .*at least 1 character"),
    Case(
        "a class without a name", given("data.format=voc", "data.root=x", "data.classes=['']"), "at least 1 character"
    ),
    Case("a class twice", given("data.format=voc", "data.root=x", "data.classes=[a, a]"), "data.classes: must name at"),
    Case("a long value", given(f"seed=[{'x' * 9999}]"), r"(?s)^.{,400}$"),
    Case(
        "a NUL in a path",
        mine('output: "a\\0b"'),
        r"output: must be a path, got 'a\\x00b' .embedded null byte.; correct",
    ),
    Case(
        "a home nobody knows in a path", given("loader.cache=~nobody-has-this-name/x"), "loader.cache: must be a path"
    ),
    Case("a place that is no object store", given("output=ftp://host/run"), "output: must be on an object store .s3"),
    Case("on_bad_image of generated images", given("data.on_bad_image=skip"), "data.on_bad_image: no such setting"),
    Case(
        "an on_bad_image that is none",
        given("data={format: coco, root: x, on_bad_image: ignore}"),
        "must be 'error' or",
    ),
    Case(
        "as many workers at least as at most",
        given("scaling.num_workers=2", "training.batch_size=4", "scaling.min_workers=2"),
        "scaling.min_workers: must be below num_workers = 2, got 2",
    ),
    Case(
        "workers that nobody may lose",
        given("scaling.num_workers=2", "training.batch_size=4", "scaling.min_workers=1", "scaling.max_failures=0"),
        "scaling.min_workers: has no effect with max_failures 0",
    ),
    Case(
        "a wait of an elastic run that is none",
        given("scaling.elastic_wait_seconds=60"),
        "scaling.elastic_wait_seconds: has no effect without min_workers",
    ),
    *(
        Case(f"no machine's {name}", given(f"{name}={value}"), rf"{name}.*: must be (less|greater) than or equal to")
        for name, value in {
            "training.epochs": 10**18,
            "teacher.epochs": 10**9,
            "training.batch_size": 10**12,
            "training.schedule.warmup_steps": 10**30,
            "loader.num_workers": 10**9,
            "loader.prefetch": 10**9,
            "data.num_train": 10**12,
            "data.num_test": 10**12,
            "data.max_objects": 10**9,
            "input.max_size": 10**9,
            "augmentation.scale_jitter": "[1.0e-9, 1.0e+9]",
            "scaling.num_workers": 10**9,
            "scaling.wait_seconds": 10**12,
            "checkpoint.keep": 10**9,
            "evaluation.batch_size": 10**9,
            "student.fpn_channels": 10**12,
            "student.rpn_pre_nms_top_n_train": 10**12,
            "downloads.max_gb": 10**12,
            "seed": 2**63,
        }.items()
    ),
    Case("a batch that cannot be divided", given("training.batch_size=5"), "must be a multiple of scaling.num_workers"),
    Case(
        "channels that do not fit",
        given("methods.tar.feature.adapter=identity", "student.fpn_channels=8"),
        "needs equal channels",
    ),
    Case("anchors that do not fit", given("student.anchor_aspect_ratios=[1]"), "must have the same anchors"),
    Case("prefetch without processes", given("loader.prefetch=2"), "loader.prefetch: has no effect with num_workers 0"),
    Case("a teacher that knows nothing", given("teacher.train=false"), "teacher.train: must be true with weights"),
    right("a whole number in floating point", given("seed=3.0", "training.batch_size=1e2"), (3, 100)),
    right("a byte order mark", file("\ufeffbase: quickstart\nseed: 4"), (4, 8)),
]
SWEEPS = [
    Case(
        "no file", lambda folder: load_sweep(str(folder / "gone.yaml")), r"gone\.yaml: must be a sweep or a YAML file"
    ),
    Case("a folder", lambda folder: load_sweep(str(folder)), "must be a sweep or a YAML file, got neither"),
    Case("an endless name", lambda _: load_sweep("x" * 5000), "must be a sweep or a YAML file"),
    Case("a home nobody knows", lambda _: load_sweep("~nobody-has-this-name/a.yaml"), "a home that nobody knows"),
    Case("an empty file", sweep_file(""), "must hold sections with settings, got NoneType"),
    Case("no YAML", sweep_file("space: {"), "must be YAML"),
    Case("aliases that grow to billions", sweep_file(LAUGHS), "more than 100000 values"),
    Case("an unknown key", sweep(schedulr="asha"), "schedulr: no such setting; did you mean scheduler"),
    Case("a null as key", sweep_file("base: quickstart\nnull: 1"), "None: must have texts as keys"),
    Case("no base", sweep(base=None), "base: must be given: a recipe or a YAML file"),
    Case(
        "a base that is none", sweep(base="quickstat"), "base: quickstat: must be a recipe .*did you mean 'quickstart'"
    ),
    Case("a base that is a number", sweep(base=5), "base: must be given: a recipe or a YAML file, got 5"),
    Case("an endless base", sweep(base="x" * 5000), "base: x+: must be a recipe or a YAML file"),
    Case("a base in a home nobody knows", sweep(base="~nobody-has-this-name/a"), "base: .*a home that nobody knows"),
    Case("no space to draw from", sweep(space=None, search="random", num_trials=2), "space: must hold at least one"),
    Case(
        "an empty space to draw from", sweep(space={}, search="optuna", num_trials=2), "space: must hold at least one"
    ),
    Case("a space that is a list", sweep(space=[1]), "space: must hold settings to search, or be left out, got"),
    Case(
        "an unknown setting",
        space(feature__wieght={"grid": [1]}),
        "methods.tar.feature.wieght: no such setting; did you mean",
    ),
    Case("a number as setting", sweep(space={5: {"grid": [1]}}), "space.5: must be the dotted name of a setting"),
    Case("an endless setting", sweep(space={DEEP: {"grid": [1]}}), "must be the dotted name of a setting"),
    Case("a dimension that is a number", space(feature__weight=5), "must be a mapping such as .* got 5"),
    Case("no values", space(feature__weight={"grid": []}), r"grid must be a list of at least one value, got \[\]"),
    Case("a value twice", space(feature__weight={"grid": [1, 1.0]}), "grid must not hold a value twice"),
    Case("two kinds", space(feature__weight={"grid": [1], "choice": [2]}), "must hold one of .* got .* and"),
    Case(
        "a kind that is none", space(feature__weight={"normal": [0, 1]}), "must hold one of choice, grid, .* got normal"
    ),
    Case(
        "a true value",
        space(feature__weight={"grid": [True]}),
        "methods.tar.feature.weight: must be a valid number, got True",
    ),
    Case(
        "NaN",
        space(feature__weight={"grid": [float("nan")]}),
        "methods.tar.feature.weight: must be a finite number, got nan",
    ),
    Case(
        "a date", space(feature__weight={"grid": [datetime.date(2020, 1, 1)]}), "must be a valid number, got datetime"
    ),
    Case(
        "a true end", space(feature__weight={"uniform": [False, True]}), r"uniform must be \[low, high\], two numbers"
    ),
    Case(
        "an end of 401 digits", space(training__epochs={"int": [1, 10**400]}), r"int must be \[low, high\], two whole"
    ),
    Case("ends exchanged", space(feature__weight={"uniform": [2, 1]}), "low < high, got"),
    Case("a logarithm of 0", space(feature__weight={"loguniform": [0, 1]}), "loguniform must lie above 0"),
    Case("a range in a grid", space(feature__weight={"uniform": [1, 2]}), "must be grid or choice with search grid"),
    Case(
        "a condition on itself",
        space(feature__weight={"grid": [1], "when": {"methods.tar.feature.weight": 1}}),
        "in a circle",
    ),
    Case(
        "a condition on nothing",
        space(feature__weight={"grid": [1], "when": {"methods.tar.rpn.gate": 1}}),
        "must be searched too",
    ),
    Case(
        "a condition that is a list", space(feature__weight={"grid": [1], "when": [1]}), "when must be a mapping such"
    ),
    Case("data searched", space(data__num_train={"grid": [1, 2]}), "cannot be searched: trials on other images"),
    Case("a wrong metric", sweep(metric="mAP"), "metric: must be 'AP', .* got 'mAP'"),
    Case("a wrong mode", sweep(mode="maximum"), "mode: must be 'max' or 'min', got 'maximum'"),
    Case("no seeds", sweep(seeds=0), "seeds: must be 1 to 1000 of them, got 0"),
    Case(
        "a seed that is a text",
        sweep(seeds=["1"]),
        r"sweep that cannot be run \(1 problem\):\n  - seeds.0: must be a valid",
    ),
    Case("a seed twice", sweep(seeds=[1, 1]), "seeds: must all differ"),
    Case("no trials", sweep(search="random"), "num_trials: must be given with search random"),
    Case("trials as text", sweep(search="random", num_trials="5"), "num_trials: must be a valid integer, got '5'"),
    Case("a search that is none", sweep(search="bayes"), "search.method: must be one of .* got 'bayes'"),
    Case("a search that is a number", sweep(search=5), "search: must be a valid dictionary"),
    Case("a true GPU", sweep(resources={"gpus_per_worker": True}), "must be a valid number or 'auto', got True"),
    Case(
        "a setting twice", sweep(settings={"seed": 1, "training.epochs": 2, "training": {"epochs": 3}}), "given twice"
    ),
    Case("an endless fixed setting", sweep(settings={DEEP: 1}), r"settings.a\..*: no such setting"),
    Case("fixed settings that are a list", sweep(settings=[1]), r"settings: must hold settings of the base, got \[1\]"),
    Case("a NUL in the output", sweep(output="a\0"), r"output: must be a path, got 'a\\x00'"),
    Case("an override of nothing", sweep("sedes=2"), "sedes: neither a key of the sweep nor .* did you mean seeds"),
    right("trials in floating point", sweep(search="random", num_trials=2.0), 2),
]
CASES = CONFIGS + [Case(f"sweep: {c.name}", c.run, c.expected, c.outcome, c.result) for c in SWEEPS]
