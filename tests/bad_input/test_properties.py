"""Whatever comes in, what comes out is a valid object or one of our errors."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from raydistill.config import CocoData, Config, VocData, load_config
from raydistill.config.loader import setting_names
from raydistill.data.build import build_datasets
from raydistill.data.dataset import DetectionDataset
from raydistill.data.formats.coco_results import read_detections, read_ground_truth
from raydistill.sweeps.file import LoadedSweep, load_sweep
from raydistill.sweeps.file.sections import Sweep
from tests.data.conftest import CocoFolder
from tests.data.formats.test_voc import SIZE, thing, write_image

from .anything import NASTY, VALUES, mutations, outcome, tried
from .detections import BOX, truth


@pytest.fixture(scope="module")
def coco(tmp_path_factory: pytest.TempPathFactory) -> CocoFolder:
    return CocoFolder(tmp_path_factory.mktemp("coco"))


@pytest.fixture(scope="module")
def voc(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("voc")
    write_image(folder, "a", SIZE + thing("cat", (5, 5, 9, 9)))
    write_image(folder, "b", SIZE)
    return folder


def sound(dataset: DetectionDataset) -> None:
    """Assert what training relies on."""
    assert len(dataset) > 0
    assert len(set(dataset.classes)) == len(dataset.classes) == len(dataset.category_ids)
    for record in dataset.records:
        boxes, labels = record.boxes, record.labels
        assert ((labels >= 1) & (labels <= len(dataset.classes))).all()
        assert (boxes[:, 2:] > boxes[:, :2]).all()
        assert (boxes >= 0).all()
        assert (boxes[:, 2] <= record.width).all()
        assert (boxes[:, 3] <= record.height).all()
    for found in dataset.ground_truth["annotations"]:
        assert found["area"] >= 0


def read_coco_text(coco: CocoFolder, text: str | bytes, rule: str) -> None:
    coco.annotations.write_bytes(text if isinstance(text, bytes) else text.encode())
    paths = {"train_images": "val", "train_annotations": "annotations/val.json", "on_bad_image": rule}
    data = CocoData(format="coco", root=str(coco.images.parent), **paths)
    both = outcome(lambda: build_datasets(data))
    for split in both or ():
        sound(split)


RULES = st.sampled_from(["error", "skip"])


@tried(25)
@given(text=st.binary(max_size=40) | VALUES.map(json.dumps), rule=RULES)
def test_any_text_is_annotations_or_a_users_error(coco: CocoFolder, text: str | bytes, rule: str) -> None:
    read_coco_text(coco, text, rule)


@tried(25)
@given(
    sections=st.fixed_dictionaries(
        {key: VALUES | st.lists(VALUES, max_size=3) for key in ("images", "annotations", "categories")}
    )
)
def test_any_content_of_the_sections_is_annotations_or_a_users_error(
    coco: CocoFolder, sections: dict[str, Any]
) -> None:
    read_coco_text(coco, json.dumps(sections), "error")


@tried(80)
@given(data=st.data(), rule=RULES)
def test_annotations_with_one_change_are_sound_or_a_users_error(
    coco: CocoFolder, data: st.DataObject, rule: str
) -> None:
    read_coco_text(
        coco,
        json.dumps(
            data.draw(mutations({**coco.content, "annotations": [{**coco.content["annotations"][0], "area": 5}]}))
        ),
        rule,
    )


def with_all_keys(content: dict[str, Any]) -> None:
    content["annotations"][0] |= {"iscrowd": 0, "area": 600}


@tried(60)
@given(data=st.data())
def test_files_to_be_scored_with_one_change_are_sound_or_a_users_error(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    folder = Path(tempfile.mkdtemp(dir=tmp_path_factory.getbasetemp()))
    (folder / "truth.json").write_text(json.dumps(data.draw(mutations(truth(with_all_keys)))))
    (folder / "found.json").write_text(json.dumps(data.draw(mutations([{**BOX, "score": 0.5}]))))
    content = outcome(lambda: read_ground_truth(folder / "truth.json"))
    if content is not None:
        assert all(found["area"] >= 0 and found["iscrowd"] in (0, 1) for found in content["annotations"])
        outcome(lambda: read_detections(folder / "found.json", content))


CONTENT = f"<annotation>{SIZE}{thing('cat', (5, 5, 9, 9))}</annotation>"
PIECES = [
    "",
    "<",
    ">",
    "</object>",
    "<object>",
    "&",
    "&amp;",
    "<!DOCTYPE a>",
    "nan",
    "-1",
    "1e999",
    "\0",
    "\ud800",
    "cat",
]


@tried(50)
@given(
    start=st.integers(0, len(CONTENT)),
    length=st.integers(0, 20),
    piece=st.sampled_from(PIECES) | st.text(max_size=3),
    rule=RULES,
)
def test_an_xml_file_with_one_change_is_sound_or_a_users_error(
    voc: Path, start: int, length: int, piece: str, rule: str
) -> None:
    text = CONTENT[:start] + piece + CONTENT[start + length :]
    (voc / "Annotations" / "a.xml").write_bytes(text.encode("utf-8", "surrogatepass"))
    data = VocData(format="voc", root=str(voc), val_split="train", on_bad_image=rule)
    for split in outcome(lambda: build_datasets(data)) or ():
        sound(split)


@tried(20)
@given(names=st.binary(max_size=12))
def test_any_list_of_images_is_one_or_a_users_error(voc: Path, names: bytes) -> None:
    (voc / "ImageSets" / "Main" / "val.txt").write_bytes(names)
    outcome(lambda: build_datasets(VocData(format="voc", root=str(voc), train_split="val", classes=("cat",))))


def yaml_of(value: Any) -> bytes:
    return yaml.safe_dump(value, default_flow_style=True).encode("utf-8", "surrogatepass")


FILE = {
    "base": "quickstart",
    "seed": 3,
    "output": "out",
    "data": {"format": "shapes", "object_sizes": [0.1, 0.5]},
    "teacher": {"backbone": "resnet18", "anchor_sizes": [[8], [16], [32], [64]], "weights": "random"},
    "training": {"epochs": 2, "schedule": {"shape": "step", "milestones": [0.5]}, "optimizer": {"name": "sgd"}},
    "scaling": {"use_gpu": "auto", "num_workers": 1},
    "logging": {"mlflow": None},
}
TAGS = [
    "!!int",
    "!!float",
    "!!bool",
    "!!timestamp",
    "!!binary",
    "!!set",
    "!!omap",
    "!!python/name:os.system",
    "&a",
    "*a",
]


@tried(30)
@given(data=st.data())
def test_a_settings_file_with_one_change_is_a_config_or_a_users_error(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = Path(tempfile.mkdtemp(dir=tmp_path_factory.getbasetemp())) / "mine.yaml"
    path.write_bytes(yaml_of(data.draw(mutations(FILE))))
    assert isinstance(outcome(lambda: load_config(str(path))), Config | None)


@tried(30)
@given(
    tag=st.sampled_from(TAGS),
    text=st.text("abc019.-:[]{},&*!'\" \n\tT", max_size=8),
    key=st.sampled_from(["seed", "data"]),
)
def test_any_yaml_is_a_config_or_a_users_error(
    tmp_path_factory: pytest.TempPathFactory, tag: str, text: str, key: str
) -> None:
    path = Path(tempfile.mkdtemp(dir=tmp_path_factory.getbasetemp())) / "mine.yaml"
    path.write_text(f"base: quickstart\n{key}: {tag} {text}")
    assert isinstance(outcome(lambda: load_config(str(path))), Config | None)


NAMES = sorted(set(setting_names()))


@tried(30)
@given(name=st.sampled_from(NAMES) | st.text("ab._=", max_size=8), text=st.text(max_size=6) | VALUES.map(repr))
def test_any_override_is_a_setting_or_a_users_error(name: str, text: str) -> None:
    assert isinstance(outcome(lambda: load_config("quickstart", [f"{name}={text}"])), Config | None)


SWEEP: dict[str, Any] = {
    "base": "quickstart",
    "settings": {"training.epochs": 4, "data": {"num_train": 8}},
    "seeds": 2,
    "search": {"method": "random", "seed": 1},
    "num_trials": 3,
    "scheduler": {"name": "asha", "grace_period": 1},
    "resources": {"num_workers": 1, "gpus_per_worker": 0.5},
    "space": {
        "decay.shape": {"choice": ["linear", "exponential"]},
        "decay.rate": {"loguniform": [1, 10], "when": {"decay.shape": "exponential"}},
        "methods.tar.feature.weight": {"uniform": [0.1, 3]},
    },
}


@tried(25)
@given(data=st.data())
def test_a_sweep_with_one_change_is_a_sweep_or_a_users_error(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = Path(tempfile.mkdtemp(dir=tmp_path_factory.getbasetemp())) / "mine.yaml"
    path.write_bytes(yaml_of(data.draw(mutations(SWEEP))))
    assert isinstance(outcome(lambda: load_sweep(str(path))), LoadedSweep | None)


@tried(25)
@given(
    key=st.sampled_from(
        [*Sweep.model_fields, "space.methods.tar.feature.weight", "space.decay.rate.when", "settings.seed"]
    ),
    value=NASTY | VALUES,
)
def test_any_override_of_a_sweep_is_one_or_a_users_error(
    tmp_path_factory: pytest.TempPathFactory, key: str, value: Any
) -> None:
    path = tmp_path_factory.getbasetemp() / "sound.yaml"
    path.write_bytes(yaml_of(SWEEP))
    text = yaml_of(value).decode("utf-8", "surrogatepass").removesuffix("\n...\n").strip()
    assert isinstance(outcome(lambda: load_sweep(str(path), [f"{key}={text}"])), LoadedSweep | None)
