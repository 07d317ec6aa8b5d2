import copy
import os
import pickle
from urllib.error import URLError

import pytest
import torch
from torch import nn
from torchvision.models import mobilenet_v3_large, resnet18
from torchvision.models.detection import (
    FasterRCNN_MobileNet_V3_Large_FPN_Weights,
    FasterRCNN_ResNet50_FPN_Weights,
    fasterrcnn_mobilenet_v3_large_fpn,
    fasterrcnn_resnet50_fpn,
)

from raydistill.config import Config, load_config
from raydistill.detectors.downloads import refuse_weights_out_of_reach
from raydistill.detectors.two_stage.build import build_faster_rcnn
from raydistill.detectors.weights import load_file, load_into
from raydistill.errors import UserError
from raydistill.runs.weights_file import save_weights
from tests.nets import CLASSES, mixed_batch, small_config, small_detector

COCO = FasterRCNN_ResNet50_FPN_Weights.COCO_V1
FILES = {
    "resnet18": "resnet18-f37072fd.pth",
    "mobilenet_v3_large": "mobilenet_v3_large-8738ca79.pth",
    "coco resnet50": "fasterrcnn_resnet50_fpn_coco-258fb6c6.pth",
    "coco mobilenet_v3_large": "fasterrcnn_mobilenet_v3_large_fpn-fb6a3cc7.pth",
}


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    """A torch hub folder with random files under the names of torchvision's."""
    folder = tmp_path_factory.mktemp("hub")
    (folder / "checkpoints").mkdir()
    before = torch.hub.get_dir()
    torch.hub.set_dir(str(folder))
    yield folder / "checkpoints"
    torch.hub.set_dir(before)


def put(hub, name: str, model: nn.Module) -> dict[str, torch.Tensor]:
    state = model.state_dict()
    torch.save(state, hub / FILES[name])
    return state


def frozen(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")}


def detector_for(config: Config, classes=CLASSES):
    return build_faster_rcnn(config.student, config.input, classes)


# -------------------------------------------------------------------------------------------------- random and imagenet
def test_that_random_weights_are_those_the_net_was_built_with():
    config = small_config()
    detector = small_detector(config.student, config)
    before = copy.deepcopy(detector.model.state_dict())
    report = load_into(detector, config.student, "student")
    assert all(torch.equal(value, before[key]) for key, value in detector.model.state_dict().items())
    assert (report.num_loaded, report.num_total) == (0, len(before))
    assert str(report) == f"random weights ({len(before)} tensors)"


@pytest.mark.parametrize("norm", ["frozen", "batch"])
def test_that_imagenet_weights_fill_the_body_of_a_resnet(hub, norm):
    state = put(hub, "resnet18", resnet18(weights=None))
    config = small_config("student.weights=imagenet", f"student.norm={norm}", "student.trainable_layers=3")
    detector = detector_for(config)
    neck = detector.model.backbone.fpn.inner_blocks[0][0].weight.clone()
    report = load_into(detector, config.student, "student")
    body = detector.model.backbone.body.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in body.items())
    assert torch.equal(detector.model.backbone.fpn.inner_blocks[0][0].weight, neck)
    assert report.num_loaded == len(frozen(body))
    assert not any(name.startswith("backbone.body") for name in report.fresh)
    assert "backbone.fpn.inner_blocks.0.0.weight" in report.fresh
    assert "ResNet18_Weights.IMAGENET1K_V1" in str(report)


def test_that_imagenet_weights_fill_the_body_of_a_mobilenet(hub):
    state = put(hub, "mobilenet_v3_large", mobilenet_v3_large(weights=None))
    config = small_config(
        "methods.tar.rpn.weight=0",
        "student.backbone=mobilenet_v3_large",
        "student.weights=imagenet",
        "student.norm=frozen",
        "student.anchor_sizes=[[16], [32], [64]]",
    )
    detector = detector_for(config)
    load_into(detector, config.student, "student")
    for key, value in detector.model.backbone.body.state_dict().items():
        assert torch.equal(value, state[f"features.{key}"]), key


# ----------------------------------------------------------------------------------------------------------------- coco
@pytest.fixture(scope="module")
def coco_model(hub):
    """torchvision's own detector from the file of random weights, running with eps = 0 as torchvision does."""
    torch.manual_seed(0)
    model = fasterrcnn_resnet50_fpn(weights=None, weights_backbone=None)
    with torch.no_grad():
        for name, value in model.state_dict().items():
            if name.endswith("running_var"):
                value.uniform_(1e-3, 2e-3)  # small enough that an eps of 1e-5 shows
                value[0] = 1e-6  # smaller than the eps itself
            elif name.startswith("backbone.body") and value.ndim == 1 and name.endswith(".weight"):
                value.fill_(0.01 if "bn3" in name else 0.03)  # of the norms: keeps the activations near 1
                value[0] = 0.001
        model.roi_heads.box_predictor.cls_score.weight.mul_(50)
    put(hub, "coco resnet50", model)
    own = fasterrcnn_resnet50_fpn(
        weights=COCO, weights_backbone=None, min_size=96, max_size=96, box_detections_per_img=5, box_score_thresh=0.0
    )
    return own.eval()


def coco_config(*overrides: str) -> Config:
    return load_config(
        "coco_r101_r50",
        [
            "student.weights=coco",
            "input.min_size=96",
            "input.max_size=96",
            "student.box_detections_per_img=5",
            "student.box_score_thresh=0",
            *overrides,
        ],
    )


def test_that_coco_weights_give_torchvisions_detections(coco_model):
    config = coco_config()
    known = tuple(name for name in COCO.meta["categories"][1:])
    named = tuple(name if name != "N/A" else f"gap {number}" for number, name in enumerate(known))
    detector = detector_for(config, named).eval()
    report = load_into(detector, config.student, "student")
    # rows of the gaps in COCO's numbering stay random; give them torchvision's for the comparison
    for mine, theirs in zip(
        detector.model.roi_heads.box_predictor.parameters(),
        coco_model.roi_heads.box_predictor.parameters(),
        strict=True,
    ):
        gaps = [row for row, name in enumerate(COCO.meta["categories"]) if name == "N/A"]
        per_class = len(mine) // 91
        for gap in gaps:
            rows = slice(gap * per_class, (gap + 1) * per_class)
            mine.data[rows] = theirs.data[rows]
    images = mixed_batch()[0][:1]
    with torch.no_grad():
        expected = coco_model(images)[0]
    found = detector.detect(images)[0]
    assert len(expected["boxes"]) == 5
    assert found["labels"].tolist() == expected["labels"].tolist()
    torch.testing.assert_close(found["scores"], expected["scores"], atol=1e-4, rtol=0)
    torch.testing.assert_close(found["boxes"], expected["boxes"], atol=1e-2, rtol=0)
    assert "80 of 90 classes known" in str(report)


def test_that_coco_rows_are_copied_by_class_name_and_new_classes_stay_random(coco_model):
    config = coco_config()
    detector = detector_for(config, ("dog", "unicorn", "person"))
    predictor = detector.model.roi_heads.box_predictor
    random = copy.deepcopy(predictor.state_dict())
    report = load_into(detector, config.student, "student")
    theirs = coco_model.roi_heads.box_predictor
    names = COCO.meta["categories"]
    for row, their_row in ((0, 0), (1, names.index("dog")), (3, names.index("person"))):
        assert torch.equal(predictor.cls_score.weight[row], theirs.cls_score.weight[their_row])
        assert torch.equal(predictor.cls_score.bias[row], theirs.cls_score.bias[their_row])
        deltas = slice(4 * row, 4 * row + 4), slice(4 * their_row, 4 * their_row + 4)
        assert torch.equal(predictor.bbox_pred.weight[deltas[0]], theirs.bbox_pred.weight[deltas[1]])
    assert torch.equal(predictor.cls_score.weight[2], random["cls_score.weight"][2])
    assert torch.equal(predictor.bbox_pred.weight[8:12], random["bbox_pred.weight"][8:12])
    assert "2 of 3 classes known" in str(report)
    assert report.num_loaded == report.num_total - 4
    assert report.fresh == tuple(
        f"roi_heads.box_predictor.{name}"
        for name in ("cls_score.weight", "cls_score.bias", "bbox_pred.weight", "bbox_pred.bias")
    )


def test_that_a_coco_detector_whose_classes_are_all_known_is_loaded_whole(coco_model):
    config = coco_config()
    report = load_into(detector_for(config, ("dog", "cat")), config.student, "student")
    assert report.num_loaded == report.num_total
    assert report.fresh == ()


def test_that_coco_weights_of_a_net_of_another_shape_are_a_users_error(coco_model):
    with pytest.raises(UserError, match=r"student\.fpn_channels: must be torchvision's with weights 'coco'"):
        coco_config("student.fpn_channels=64")
    with pytest.raises(UserError, match=r"student\.anchor_sizes: must be torchvision's with weights 'coco'"):
        coco_config("student.anchor_sizes=[[8],[16],[32],[64],[128]]")


def test_that_the_coco_mobilenet_gives_torchvisions_features(hub):
    theirs = fasterrcnn_mobilenet_v3_large_fpn(weights=None, weights_backbone=None)
    put(hub, "coco mobilenet_v3_large", theirs)
    own = fasterrcnn_mobilenet_v3_large_fpn(weights=FasterRCNN_MobileNet_V3_Large_FPN_Weights.COCO_V1).eval()
    config = coco_config("student.backbone=mobilenet_v3_large", "methods.tar.rpn.weight=0")
    detector = detector_for(config, ("dog", "cat")).eval()
    load_into(detector, config.student, "student")
    images = torch.rand(1, 3, 64, 64)
    for level, expected in own.backbone(images).items():
        assert torch.equal(detector.model.backbone(images)[level], expected)


def test_that_a_failing_download_is_an_error_that_names_file_and_folder(tmp_path, hub, monkeypatch):
    def offline(*args, **kwargs):
        raise URLError("no network here")

    monkeypatch.setattr("torch.hub.urlopen", offline)
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path))
    config = small_config("student.weights=imagenet", "student.norm=frozen", "student.trainable_layers=3")
    with pytest.raises(UserError) as caught:
        load_into(detector_for(config), config.student, "student")
    message = str(caught.value)
    assert message.startswith("student.weights: ")
    assert "no network here" in message
    assert f"put the file {FILES['resnet18']} into {tmp_path}/checkpoints" in message
    assert "\n" not in message


def test_that_a_damaged_file_in_the_cache_is_a_users_error(tmp_path, hub, monkeypatch):
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / FILES["resnet18"]).write_bytes(b"half a download")
    config = small_config("student.weights=imagenet", "student.norm=frozen", "student.trainable_layers=3")
    with pytest.raises(UserError, match=f"put the file {FILES['resnet18']} into"):
        load_into(detector_for(config), config.student, "student")


# -------------------------------------------------------------------------------------------------------- files of ours
@pytest.fixture
def config():
    return small_config("student.norm=batch")


@pytest.fixture
def trained(config):
    return small_detector(config.student, config, seed=5)


def save_ours(path, detector, config: Config, classes=CLASSES, drop=()):
    state = {key: value for key, value in detector.exported().state_dict().items() if key not in drop}
    save_weights(path, state, classes, config.student.model_dump(mode="json"), config.input.model_dump(mode="json"))
    return path


def test_that_a_file_of_ours_fills_everything(tmp_path, config, trained):
    detector = small_detector(config.student, config)
    report = load_file(detector, save_ours(tmp_path / "best.pt", trained, config), "student.weights")
    expected = trained.model.state_dict()
    assert all(torch.equal(value, expected[key]) for key, value in detector.model.state_dict().items())
    assert report.num_loaded == report.num_total
    assert str(report) == f"{report.num_total} of {report.num_total} tensors from {tmp_path / 'best.pt'}"


def test_that_weights_can_name_a_run_directory(tmp_path, config, trained):
    save_ours(tmp_path / "teacher" / "best.pt", trained, config)
    named = small_config("student.norm=batch", f"student.weights={tmp_path / 'teacher'}")
    detector = small_detector(config.student, config)
    load_into(detector, named.student, "student")
    assert torch.equal(detector.model.rpn.head.cls_logits.weight, trained.model.rpn.head.cls_logits.weight)


def test_that_the_output_of_several_runs_is_a_users_error(tmp_path, config, trained):
    save_ours(tmp_path / "teacher" / "best.pt", trained, config)
    save_ours(tmp_path / "student" / "best.pt", trained, config)
    with pytest.raises(UserError, match="name one of student, teacher"):
        load_file(small_detector(config.student, config), tmp_path, "student.weights")


def test_that_a_bare_state_dict_is_taken_in_the_datas_order_and_says_so(tmp_path, config, trained):
    torch.save(trained.exported().state_dict(), tmp_path / "bare.pt")
    report = load_file(small_detector(config.student, config), tmp_path / "bare.pt", "student.weights")
    assert "does not name its classes: taken in the data's order" in str(report)


def test_that_other_classes_are_a_users_error_that_names_them(tmp_path, config, trained):
    path = save_ours(tmp_path / "best.pt", trained, config, classes=("disc", "square", "cat", "dog"))
    with pytest.raises(UserError) as caught:
        load_file(small_detector(config.student, config), path, "teacher.weights")
    assert str(caught.value) == (
        f"teacher.weights: {path}: must have the data's 3 classes, got 4; not in the data: cat, dog; "
        "not in the file: star"
    )


def test_that_the_same_classes_in_another_order_are_a_users_error(tmp_path, config, trained):
    path = save_ours(tmp_path / "best.pt", trained, config, classes=("disc", "star", "square"))
    with pytest.raises(UserError, match="same order, got 'star' instead of 'square' at label 2"):
        load_file(small_detector(config.student, config), path, "student.weights")


def test_that_missing_tensors_are_a_users_error_and_nothing_is_loaded(tmp_path, config, trained):
    key = "rpn.head.cls_logits.weight"
    path = save_ours(tmp_path / "best.pt", trained, config, drop=[key])
    detector = small_detector(config.student, config)
    before = detector.model.rpn.head.cls_logits.bias.clone()
    with pytest.raises(
        UserError, match=rf"must fit the net that the settings describe, got tensors 1 missing \({key}\)"
    ):
        load_file(detector, path, "student.weights")
    assert torch.equal(detector.model.rpn.head.cls_logits.bias, before)


def test_that_tensors_of_other_shapes_are_a_users_error_that_names_some(tmp_path, config, trained):
    path = save_ours(tmp_path / "best.pt", trained, config)
    wider = small_config("student.norm=batch", "student.box_head_size=64")
    with pytest.raises(
        UserError, match=r"of another shape \(roi_heads\.box_head\.fc6\.weight \[32, 784\] instead of \[64, "
    ):
        load_file(small_detector(wider.student, wider), path, "student.weights")


def test_that_other_anchors_than_those_of_training_are_a_users_error(tmp_path, config, trained):
    path = save_ours(tmp_path / "best.pt", trained, config)
    other = small_config(
        "student.norm=batch", "student.anchor_sizes=[[16],[32],[64],[128],[256]]", "methods.tar.rpn.weight=0"
    )
    with pytest.raises(UserError, match=r"was trained with anchor_sizes \[\[8\.0\], .* got \[\[16\.0\], "):
        load_file(small_detector(other.student, other), path, "student.weights")


def test_that_a_net_trained_with_batch_norm_can_be_frozen(tmp_path, config, trained):
    trained.model.backbone.body.bn1.running_mean.fill_(3)
    path = save_ours(tmp_path / "best.pt", trained, config)
    still = small_config("student.norm=frozen", f"student.weights={path}")
    detector = detector_for(still)
    load_into(detector, still.student, "student")
    assert detector.model.backbone.body.bn1.running_mean[0].item() == 3


def test_that_a_net_trained_with_frozen_norm_can_be_unfrozen(tmp_path, config):
    still = small_config("student.norm=frozen", "student.weights=x")
    path = save_ours(tmp_path / "best.pt", detector_for(still), still)
    load_file(small_detector(config.student, config), path, "student.weights")


def test_that_a_file_that_is_no_checkpoint_is_a_users_error(tmp_path, config):
    (tmp_path / "best.pt").write_text("hello")
    with pytest.raises(UserError, match=r"best\.pt: must be a checkpoint"):
        load_file(small_detector(config.student, config), tmp_path / "best.pt", "student.weights")


# ------------------------------------------------------------------------------------------- what lies in torch's cache
class RunsCode:
    """A pickle that writes a file when it is loaded as such."""

    def __init__(self, path: str):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.parametrize(
    "content",
    [b"", b"<html>", pickle.dumps([1]), pickle.dumps({"a": 1}), {"a": 1}, [torch.zeros(1)], "code"],
    ids=["empty", "a page", "a pickled list", "a pickle", "no tensors", "a list", "code"],
)
def test_that_a_file_in_torchs_cache_that_is_something_else_is_a_users_error(hub, tmp_path, content):
    path = hub / FILES["resnet18"]
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(RunsCode(str(tmp_path / "ran")) if content == "code" else content, path)
    config = small_config("student.weights=imagenet", "student.norm=frozen", "student.trainable_layers=3")
    with pytest.raises(UserError, match=r"student\.weights: ResNet18_Weights.* cannot be had .*; put the file"):
        load_into(detector_for(config), config.student, "student")
    assert not (tmp_path / "ran").exists()


@pytest.fixture
def coco_file(hub, coco_model):
    """A function that changes an entry of the file of torchvision's detector; afterwards it is as it was."""
    state = coco_model.state_dict()

    def change(**entries: torch.Tensor) -> None:
        renamed = {f"roi_heads.box_predictor.{key.replace('__', '.')}": value for key, value in entries.items()}
        torch.save({**state, **renamed}, hub / FILES["coco resnet50"])

    yield change
    torch.save(state, hub / FILES["coco resnet50"])


def test_that_coco_weights_with_fewer_rows_are_a_users_error(coco_file):
    coco_file(cls_score__bias=torch.zeros(40))
    config = coco_config()
    with pytest.raises(UserError, match=r"1 of another shape \(roi_heads\.box_predictor\.cls_score\.bias \[40\]"):
        load_into(detector_for(config, ("dog",)), config.student, "student")


def test_that_entries_of_coco_weights_that_no_net_of_ours_has_are_left(coco_file):
    coco_file(mask__bias=torch.zeros(40))
    config = coco_config()
    assert load_into(detector_for(config, ("dog",)), config.student, "student").fresh == ()


# ----------------------------------------------------------------------------- what tensors of the right shape may hide
def _with(changes, tmp_path, **image):
    """Write a small net's weights with changed tensors and another image size; return the config and the file."""
    config = small_config("student.norm=batch")
    detector = detector_for(config)
    model = {key: value.clone() for key, value in detector.model.state_dict().items()}
    for key in [key for key in model if key.endswith("running_var")][:1]:
        changes(model[key])
    described, size = config.student.model_dump(mode="json"), config.input.model_dump(mode="json") | image
    save_weights(tmp_path / "net.pt", model, CLASSES, described, size)
    return config, tmp_path / "net.pt"


@pytest.mark.parametrize("value", [-1.1e-5, -0.5, float("-1e30")])
def test_a_variance_of_nothing_or_below_is_a_sentence(value, tmp_path):
    config, path = _with(lambda variance: variance[0].fill_(value), tmp_path)
    with pytest.raises(UserError, match=r"must have variances above 0, got 1 tensors with 0 or less \(backbone"):
        load_file(detector_for(config), path, "teacher.weights")


def test_a_variance_of_a_dead_channel_is_fine_where_the_norm_adds_something(tmp_path):
    config, path = _with(lambda variance: variance.zero_(), tmp_path)
    load_file(detector_for(config), path, "teacher.weights")
    detector = detector_for(config)
    for module in detector.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eps = 0.0
    with pytest.raises(UserError, match="must have variances above 0"):
        load_file(detector, path, "teacher.weights")


@pytest.mark.parametrize(
    ("image", "told"), [({}, 0), ({"min_size": 32}, 1), ({"max_size": 999}, 1), ({"min_size": None}, 0)]
)
def test_weights_made_for_another_input_size_are_taken_with_a_warning(image, told, tmp_path, caplog):
    config, path = _with(lambda _: None, tmp_path, **image)
    load_file(detector_for(config), path, "teacher.weights")
    assert len(caplog.messages) == told
    assert all("net.pt: was trained on images of input.min_size=" in message for message in caplog.messages)


def test_that_all_weights_that_cannot_be_downloaded_are_told_at_once(tmp_path, monkeypatch):
    def offline(request, timeout):
        raise URLError(f"no way to {request.host}")

    monkeypatch.setattr("raydistill.detectors.downloads.urlopen", offline)
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path))
    config = coco_config("student.backbone=mobilenet_v3_large", "methods.tar.rpn.weight=0")
    nets = {"teacher": config.teacher, "student": config.student}
    with pytest.raises(UserError) as caught:
        refuse_weights_out_of_reach(nets)
    lines = str(caught.value).splitlines()
    assert f"put each file into {tmp_path}/checkpoints" in lines[0]
    assert "the recipe scratch needs none" in lines[0]
    assert [line.split()[1] for line in lines[1:]] == ["teacher.weights:", "student.weights:"]
    assert all("no way to download.pytorch.org" in line for line in lines[1:])


def test_that_weights_in_the_cache_and_random_ones_need_no_server(tmp_path, monkeypatch):
    monkeypatch.setattr("raydistill.detectors.downloads.urlopen", None)  # asking would fail
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path))
    config = small_config("student.weights=imagenet", "student.norm=frozen", "student.trainable_layers=3")
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / FILES["resnet18"]).write_bytes(b"")
    assert config.student.backbone == "resnet18"
    refuse_weights_out_of_reach({"teacher": small_config().teacher, "student": config.student})
