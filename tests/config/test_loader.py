import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from raydistill.config import Config, dump, load_config, parse_overrides
from raydistill.config.loader import setting_names, settings_of_folder
from raydistill.config.sections import defaults
from raydistill.config.words import WORDS_OF_OTHERS
from raydistill.errors import UserError


def load(*overrides: str) -> Config:
    return load_config("quickstart", overrides)


def problems(*overrides: str, recipe: str = "quickstart") -> list[str]:
    """Return the problems that loading names."""
    with pytest.raises(UserError) as caught:
        load_config(recipe, overrides)
    headline, *listed = str(caught.value).split("\n  - ")
    count = len(listed)
    assert headline.endswith(f"({count} problem{'s' if count != 1 else ''}):")
    return listed


@pytest.fixture
def written(tmp_path):
    """Return a function that writes a YAML file and gives its path."""

    def write(text: str) -> str:
        path = tmp_path / "mine.yaml"
        path.write_text(text)
        return str(path)

    return write


# ------------------------------------------------------------------------------------------------------------ overrides
def test_that_overrides_change_settings_in_order():
    config = load("training.epochs=2", "methods.tar.feature.weight=0.3", "training.epochs=7")
    assert (config.training.epochs, config.methods.tar.feature.weight) == (7, 0.3)
    assert config.training.batch_size == load().training.batch_size


@pytest.mark.parametrize("text", ["1e-3", "1E-3", "+1e-3", "0.1e-2", ".1e-2", "1.e-3", "0.001"])
def test_that_scientific_notation_is_a_number(text):
    assert load(f"training.optimizer.learning_rate={text}").training.optimizer.learning_rate == 0.001


def test_that_an_override_can_hold_an_equals_sign():
    assert parse_overrides(["output=runs/a=b"]) == [("output", "runs/a=b")]


def test_that_all_overrides_that_cannot_be_read_are_named_at_once():
    with pytest.raises(UserError) as caught:
        load("seed", "seed={", "=3", "1.2=3", "seed=? [a]", "seed=1")
    message = str(caught.value)
    assert "(5 problems)" in message
    assert "'seed': must have the form section.key=value" in message
    assert "'seed={': the value is not YAML" in message
    assert "a key must be a name" in message


# ------------------------------------------------------------------------------------------------------------- messages
def test_that_a_misspelt_key_names_the_one_that_was_meant():
    assert problems("student.fpn_chanels=64") == [
        "student.fpn_chanels: no such setting; did you mean student.fpn_channels?"
    ]


def test_that_a_misspelt_section_names_the_one_that_was_meant():
    assert problems("trainning.epochs=3") == ["trainning: no such setting; did you mean training?"]


def test_that_a_key_like_no_other_has_no_suggestion():
    assert problems("training.schedule.milestones=[0.5]") == ["training.schedule.milestones: no such setting"]


def test_that_a_wrong_value_is_named_with_its_path_and_range():
    assert problems("augmentation.horizontal_flip=2") == [
        "augmentation.horizontal_flip: must be less than or equal to 1, got 2"
    ]


def test_that_a_missing_kind_is_named():
    assert problems("decay.rate=3") == ["decay.shape: must be given"]
    assert problems("decay.shap=linear") == ["decay.shap: no such setting; did you mean decay.shape?"]
    assert problems("decay.foo=linear") == ["decay.foo: no such setting"]


@pytest.mark.parametrize(
    ("override", "hint"),
    [
        ("epochs=2", "teacher.epochs or training.epochs"),
        ("learning_rate=1e-3", "teacher.learning_rate or training.optimizer.learning_rate"),
        ("learnin_rate=1e-3", "teacher.learning_rate or training.optimizer.learning_rate"),
        ("optimizer.name=adamw", "training.optimizer"),
        ("tar.feature.weight=2", "methods.tar"),
        ("lr=1e-3", "training.optimizer.learning_rate"),
        ("imgsz=640", "input.min_size"),
        ("batch=8", "training.batch_size"),
    ],
)
def test_a_setting_is_found_by_its_end_or_by_what_other_tools_call_it(override: str, hint: str) -> None:
    section = override.partition("=")[0].partition(".")[0]
    assert problems(override) == [f"{section}: no such setting; did you mean {hint}?"]


@pytest.mark.parametrize("override", ["foo=2", "training.foo=2", "x=1", "training.name=sgd"])
def test_what_is_like_no_setting_or_like_many_gets_no_hint(override: str) -> None:
    assert problems(override) == [f"{override.partition('=')[0]}: no such setting"]


def test_words_of_other_tools_lead_to_settings_that_exist() -> None:
    assert set(WORDS_OF_OTHERS.values()) <= set(setting_names())


def test_that_an_unknown_kind_names_the_kinds_there_are():
    (problem,) = problems("decay.shape=quadratic")
    assert problem.startswith("decay.shape: must be one of 'linear', 'cosine'")
    assert problem.endswith("got 'quadratic'")


def test_that_a_missing_setting_is_named():
    assert problems("data.format=coco") == ["data.root: must be given"]


def test_that_everything_wrong_is_named_at_once_conflicts_between_sections_included():
    found = problems(
        "training.epochs=0",
        "methods.tar.feature.wieght=1",
        "decay.shape=wave",
        "methods.tar.classification.temperature=2",
        "training.batch_size=5",
        "scaling.num_workers=2",
        "teacher.anchor_aspect_ratios=[1]",
    )
    starts = [problem.partition(":")[0] for problem in found]
    assert sorted(starts) == [
        "decay.shape",
        "methods.tar.classification.temperature",
        "methods.tar.feature.wieght",
        "methods.tar.rpn.weight",
        "training.batch_size",
        "training.epochs",
    ]


def test_that_a_wrong_value_does_not_also_conflict_through_its_default():
    assert problems("teacher.anchor_sizes=5") == ["teacher.anchor_sizes: must be a valid tuple, got 5"]


def test_that_a_recipe_that_does_not_exist_names_those_that_do():
    with pytest.raises(UserError, match=r"quickstrat: must be a recipe or a YAML file.* did you mean 'quickstart'"):
        load_config("quickstrat")


# ------------------------------------------------------------------------------------------------- settings in conflict
@pytest.mark.parametrize(
    ("overrides", "start"),
    [
        (["methods.tar.classification.temperature=2"], "methods.tar.classification.temperature: has no effect"),
        (
            ["methods.tar.feature.mask=box", "methods.tar.feature.sigma_squared=1"],
            "methods.tar.feature.sigma_squared: has no effect",
        ),
        (
            ["methods.tar.feature.mask=full", "methods.tar.feature.levels=assigned"],
            "methods.tar.feature.levels: 'assigned' has no effect",
        ),
        (
            ["methods.tar.feature.mask=full", "methods.tar.feature.background_weight=1"],
            "methods.tar.feature.background_weight: has no effect",
        ),
        (["training.optimizer.name=adamw", "training.optimizer.momentum=0.5"], "training.optimizer.momentum: has no"),
        (["scaling.use_gpu=false", "scaling.gpus_per_worker=2"], "scaling.gpus_per_worker: has no effect"),
        (["decay.shape=linear", "decay.power=2"], "decay.power: no such setting"),
        (["loader.num_workers=0", "loader.prefetch=4"], "loader.prefetch: has no effect with num_workers 0"),
    ],
)
def test_that_a_setting_without_effect_is_an_error(overrides, start):
    (problem,) = problems(*overrides)
    assert problem.startswith(start)


@pytest.mark.parametrize(
    ("overrides", "start"),
    [
        (
            ["methods.tar.feature.adapter=identity", "student.fpn_channels=16"],
            "methods.tar.feature.adapter: 'identity' needs equal channels",
        ),
        (["training.batch_size=6", "training.accumulation=4"], "training.batch_size: must be a multiple of"),
        (["training.precision=fp16", "scaling.use_gpu=false"], "training.precision: fp16 needs a GPU"),
        (
            ["distillation.teacher_engine=onnxruntime", "distillation.teacher_precision=bf16"],
            "distillation.teacher_precision: must be fp32 with distillation.teacher_engine=onnxruntime, got bf16",
        ),
        (
            ["distillation.teacher_engine=openvino", "distillation.teacher_precision=fp16"],
            "distillation.teacher_precision: must be fp32 or bf16 with distillation.teacher_engine=openvino, got fp16",
        ),
        (
            ["distillation.teacher_engine=openvino", "distillation.compile_teacher=true"],
            "distillation.compile_teacher: must be false with distillation.teacher_engine=openvino, got true",
        ),
        (
            ["distillation.teacher_engine=openvino", "scaling.use_gpu=true"],
            "scaling.use_gpu: must not be true with distillation.teacher_engine=openvino",
        ),
        (
            ["student.anchor_aspect_ratios=[1]"],
            "methods.tar.rpn.weight: teacher and student must have the same anchors",
        ),
        (["student.weights=coco"], "student.weights: 'coco' exist in torchvision for resnet50 and mobilenet_v3_large"),
        (["student.norm=frozen"], "student.norm: must be 'batch' or 'group' with random weights"),
        (["student.trainable_layers=3"], "student.trainable_layers: must be 6 with random weights"),
        (["teacher.train=false"], "teacher.train: must be true with weights 'random'"),
        (["student.anchor_sizes=[[8]]"], "student.anchor_sizes: must hold one list per pyramid level, 4"),
        (["input.max_size=50"], "input.max_size: must be at least min_size"),
        (["augmentation.scale_jitter=[2, 1]"], "augmentation.scale_jitter: must be [low, high]"),
        (["augmentation.horizontal_flip=0", "augmentation.draws=2"], "augmentation.draws: has no effect where"),
        (["decay.shape=step", "decay.milestones=[0.7, 0.5]"], "decay.milestones: must be ascending"),
    ],
)
def test_that_settings_that_do_not_fit_together_are_an_error(overrides, start):
    (problem,) = problems(*overrides)
    assert problem.startswith(start)


def test_that_other_anchors_are_allowed_where_the_rpn_is_not_distilled():
    assert load("student.anchor_aspect_ratios=[1]", "methods.tar.rpn.weight=0").student.anchor_aspect_ratios == (1.0,)


# ---------------------------------------------------------------------------------------------------------------- kinds
def test_that_another_shape_of_decay_drops_the_settings_of_the_old_one():
    config = load("decay.shape=exponential", "decay.rate=3", "decay.shape=polynomial")
    assert config.decay.model_dump() == {"shape": "polynomial", "power": 2.0}


def test_that_another_format_of_data_drops_the_settings_of_the_old_one():
    data = load("data.format=voc", "data.root=/somewhere").data
    assert data.format == "voc"
    assert not hasattr(data, "num_train")


def test_that_the_same_kind_again_keeps_its_settings():
    data = load("data.format=shapes").data
    assert data.num_train == load().data.num_train


def test_that_another_schedule_drops_the_settings_of_the_old_one():
    assert load("training.schedule.shape=step").training.schedule.warmup_steps == 500


# ---------------------------------------------------------------------------------------------------------------- files
def test_that_a_file_can_be_based_on_a_recipe(written):
    config = load_config(written("base: quickstart\ntraining: {epochs: 9}\n"))
    assert config.training.epochs == 9
    assert config.training.batch_size == load().training.batch_size
    assert Path(config.output).parts[-2:] == ("runs", "mine")


def test_that_a_base_that_is_no_recipe_is_a_users_error(written):
    with pytest.raises(UserError, match=r"base: must be one of coco_r101_r50, .* got 'nothing'"):
        load_config(written("base: nothing\n"))


def test_that_a_key_given_twice_is_an_error(written):
    with pytest.raises(UserError, match="key 'epochs' is given twice"):
        load_config(written("base: quickstart\ntraining:\n  epochs: 3\n  batch_size: 4\n  epochs: 5\n"))


def test_that_yamls_own_anchors_and_merges_work(written):
    small = "&small {backbone: resnet18, weights: random, fpn_channels: 8}"
    config = load_config(
        written(f"data: {{format: shapes}}\nteacher: {small}\nstudent:\n  <<: *small\n  box_head_size: 16\n")
    )
    assert (config.student.fpn_channels, config.student.box_head_size) == (8, 16)


@pytest.mark.parametrize(
    "text",
    ["", "5", "- a", "a: [", "\t", "\x00", "? [a]\n: 1", "? {a: 1}\n: 1", "x: !!python/object:os.system y", "[" * 3000],
)
def test_that_a_file_that_is_not_a_mapping_in_yaml_is_a_users_error(written, text):
    with pytest.raises(UserError, match=r"mine\.yaml: must "):
        load_config(written(text))


def test_that_a_binary_file_is_a_users_error(tmp_path):
    (tmp_path / "binary.yaml").write_bytes(b"\xff\xfe\x00\x01\x80")
    with pytest.raises(UserError, match="cannot be read as text"):
        load_config(str(tmp_path / "binary.yaml"))


def test_that_relative_paths_become_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/someone")
    config = load("data.format=coco", "data.root=my/data", "student.weights=runs/best.pt", "output=~/out")
    assert config.data.root == str(tmp_path / "my" / "data")
    assert config.student.weights == str(tmp_path / "runs" / "best.pt")
    assert config.output == "/home/someone/out"
    assert config.teacher.weights == "random"


@pytest.mark.parametrize("setting", ["loader.cache", "downloads.folder"])
@pytest.mark.parametrize(("given", "absolute"), [("kept", "{here}/kept"), ("~/kept", "/home/someone/kept")])
def test_that_a_folder_of_each_machine_becomes_absolute(setting, given, absolute, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/someone")
    section, name = setting.split(".")
    assert getattr(getattr(load(f"{setting}={given}"), section), name) == absolute.format(here=tmp_path)


def test_that_the_image_cache_is_no_object_store():
    (problem,) = problems("loader.cache=s3://bucket/kept")
    assert problem.startswith("loader.cache: must be a folder of the machine, got s3://bucket/kept")


@pytest.mark.parametrize("uri", ["s3://bucket/runs/a", "gs://bucket/runs/a/", "s3://bucket"])
def test_that_an_output_on_an_object_store_stays_as_it_is_given(uri):
    assert load(f"output={uri}").output == uri


@pytest.mark.parametrize(
    ("uri", "what"),
    [
        (
            "hdfs://host/runs",
            "must be on an object store (s3://, gs://, gcs://) and name a bucket, got 'hdfs://host/runs'",
        ),
        ("s3:///runs", "must be on an object store"),
        ("s3://key:hidden@bucket/runs", "must name a bucket and a path only, got more"),
        ("s3://bucket/runs?endpoint_override=hidden", "must name a bucket and a path only, got more"),
        ("s3://bucket/../runs", "must have no part that begins with a dot"),
    ],
)
def test_that_an_output_on_what_is_no_object_store_is_refused(uri, what):
    (problem,) = problems(f"output={uri}")
    assert problem.startswith(f"output: {what}")
    assert "hidden" not in problem


def test_that_the_folder_of_downloads_is_no_object_store():
    (problem,) = problems("downloads.folder=s3://bucket/kept")
    assert problem.startswith("downloads.folder: must be a folder of each machine, got s3://bucket/kept")


def test_that_data_and_weights_on_an_object_store_keep_their_address():
    given = ("data.root=s3://bucket//coco", "student.weights=gs://bucket/best.pt", "teacher.weights=s3://bucket/run")
    config = load("data.format=coco", *given)
    assert (config.data.root, config.student.weights) == ("s3://bucket//coco", "gs://bucket/best.pt")
    assert (config.teacher.weights, config.teacher.train) == ("s3://bucket/run", False)
    assert yaml.safe_load(dump(config))["data"]["root"] == "s3://bucket//coco"


def test_that_other_addresses_are_refused():
    found = problems("data.format=coco", "data.root=http://host/coco", "student.weights=s3://key:secret@bucket/a")
    assert [problem.partition(",")[0] for problem in found] == [
        "data.root: must be on an object store (s3://",
        "student.weights: must name a bucket and a path only",
    ]


def test_that_a_teacher_from_a_file_is_not_trained():
    assert not load("teacher.weights=runs/best.pt").teacher.train
    assert load().teacher.train


# ----------------------------------------------------------------------------------------------------------- round trip
def test_that_names_that_look_like_numbers_survive_the_round_trip(written):
    config = load("data.format=voc", "data.root=x", 'data.classes=["1e3", "12", "yes", "null", "Übung"]')
    assert config.data.classes == ("1e3", "12", "yes", "null", "Übung")
    assert load_config(written(dump(config))) == config


def test_that_every_changed_setting_survives_the_round_trip(written):
    config = load(
        "decay.shape=step",
        "decay.milestones=[0.25]",
        "methods.tar.feature.weight=1e-05",
        "training.clip_grad_norm=10",
        "teacher.weights=runs/best.pt",
        "scaling.use_gpu=true",
        "augmentation.scale_jitter=[0.5, 2]",
    )
    assert load_config(written(dump(config))) == config


# --------------------------------------------------------------------------------------------------------- weird values
SETTINGS = sorted(set(setting_names()))


def test_that_the_names_of_the_settings_are_known():
    assert {"decay.rate", "data.root", "training.optimizer.learning_rate", "teacher.train"} <= set(SETTINGS)


@settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(
    name=st.sampled_from(SETTINGS),
    value=st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
        max_leaves=4,
    ),
)
def test_that_a_weird_value_is_a_setting_or_a_users_error_and_nothing_else(name, value):
    text = yaml.safe_dump(value, default_flow_style=True, width=10**6).removesuffix("\n...\n").strip()
    try:
        config = load(f"{name}={text}")
    except UserError as error:
        assert str(error)
    else:
        assert isinstance(config, Config)


@pytest.mark.parametrize("value", ["null", "[]", "[[1]]", "{a: {b: 1}}", "''", ".nan", "-1", "2020-01-01"])
@pytest.mark.parametrize("section", ["data", "teacher", "training", "training.schedule", "decay"])
def test_that_a_section_that_is_something_else_is_a_users_error(section, value):
    assert problems(f"{section}={value}")


def test_that_the_environment_is_left_alone():
    before = dict(os.environ)
    load()
    assert dict(os.environ) == before


# ---------------------------------------------------------------------------------------------------------- strictness
@pytest.mark.parametrize("value", ["true", "'5'", "1.5", ".inf", "2020-01-01"])
@pytest.mark.parametrize("name", ["training.epochs", "seed", "data.size", "student.fpn_channels"])
def test_that_only_whole_numbers_are_whole_numbers(name, value):
    (problem,) = problems(f"{name}={value}")
    assert problem.startswith(f"{name}: must be a valid integer, got ")


@pytest.mark.parametrize("value", ["true", "'0.5'", "[0.5]"])
@pytest.mark.parametrize("name", ["methods.tar.feature.weight", "training.optimizer.learning_rate", "data.difficulty"])
def test_that_only_numbers_are_numbers(name, value):
    (problem,) = problems(f"{name}={value}")
    assert problem.startswith(f"{name}: must be a valid number, got ")


def test_that_a_whole_number_may_be_written_in_floating_point():
    config = load("training.batch_size=1e2", "seed=3.0")
    assert (config.training.batch_size, config.seed) == (100, 3)
    assert isinstance(config.training.batch_size, int)


def test_that_the_other_branch_of_a_union_is_still_there():
    assert load("scaling.cpus_per_worker=auto").scaling.cpus_per_worker == "auto"
    assert problems("scaling.cpus_per_worker=true") == [
        "scaling.cpus_per_worker: must be a valid integer or 'auto', got True"
    ]


def test_that_aliases_are_counted_as_if_they_were_written_out(written):
    doubling = "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 30))
    with pytest.raises(UserError, match="more than 100000 values, aliases written out"):
        load_config(written(doubling))


def test_that_a_setting_that_is_new_has_its_default_in_older_runs():
    data = defaults()["data"]
    new = {"on_bad_image": "error", "test_images": None, "test_annotations": None, "test_split": None, "num_test": 0}
    assert {name: data[name] for name in new} == new
    assert not {"format", "root"} & data.keys()  # must be given


@pytest.mark.parametrize("text", ["out #1", "123", "2024-01-01", "1e3", "a: b", "true", "{a: 1}"])
@pytest.mark.parametrize("name", ["output", "data.root", "data.val_images", "teacher.weights", "loader.cache"])
def test_a_path_on_the_command_line_is_the_text_that_was_typed(name: str, text: str) -> None:
    config = load_config("finetune", ["data.root=here", f"{name}={text}"]).model_dump()
    section, _, key = name.rpartition(".")
    value = (config[section] if section else config)[key]
    assert value == text or value == str(Path(text).resolve())


def test_a_path_from_python_is_a_text_or_a_path() -> None:
    wrong: Any = 123
    with pytest.raises(UserError, match=r"^output: must be a path, as a text or a pathlib\.Path, got 123"):
        load_config("finetune", {"data.root": "here"}, wrong)
    with pytest.raises(UserError, match=r"data\.root: must be a valid string, got 2012; put it in quotes"):
        load_config("finetune", {"data": {"root": 2012}})


def test_that_a_folder_takes_the_place_of_a_recipes_data_and_is_recognised(tmp_path):
    for recipe in ("quickstart", "finetune", "voc_r101_r50"):
        data = load_config(recipe, settings_of_folder(recipe, "pets")).data
        assert (data.format, data.root) == ("auto", str(Path("pets").resolve()))
    kept = load_config("coco_r101_r50", settings_of_folder("coco_r101_r50", "pets")).data
    assert (kept.format, kept.skip_images_without_objects) == ("auto", True)
    (tmp_path / "mine.yaml").write_text("base: finetune\ndata: {format: voc, root: old, val_split: test}\n")
    mine = load_config(str(tmp_path / "mine.yaml"), settings_of_folder(str(tmp_path / "mine.yaml"), "pets")).data
    assert (mine.format, mine.root, mine.val_split) == ("voc", str(Path("pets").resolve()), "test")


def test_that_settings_which_name_files_of_one_format_say_which_it_is():
    assert load_config("finetune", ["data.root=x", "data.train_annotations=a.json"]).data.format == "coco"
    assert load_config("finetune", ["data.root=x", "data.val_split=test"]).data.format == "voc"
    assert load_config("quickstart", ["data.root=x"]).data.format == "auto"
    assert load_config("finetune", ["data.root=x", "data.format=voc"]).data.root == str(Path("x").resolve())
