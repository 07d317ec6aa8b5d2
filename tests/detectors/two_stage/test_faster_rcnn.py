import pytest
import torch
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.resnet import resnet18
from torchvision.ops import MultiScaleRoIAlign, box_iou

from raydistill.detectors.two_stage.build import build_faster_rcnn
from raydistill.detectors.values import Regions
from tests.nets import (
    CLASSES,
    batch_without_objects,
    gradients,
    mixed_batch,
    nothing,
    small_config,
    small_detector,
    torchvision_twin,
)


@pytest.fixture
def detector():
    config = small_config("student.norm=batch")
    return small_detector(config.student, config)


def losses_by_stages(detector, images, targets):
    batch = detector.prepare(images, targets)
    return detector.train_step(batch, detector.extract_features(batch)).losses


@pytest.mark.parametrize("batch", [mixed_batch, batch_without_objects])
def test_that_the_stages_give_the_losses_gradients_and_random_state_of_torchvision_bit_for_bit(detector, batch):
    twin = torchvision_twin(detector)
    torch.manual_seed(7)
    ours = losses_by_stages(detector, *batch())
    state = torch.get_rng_state()
    torch.manual_seed(7)
    theirs = {name.removeprefix("loss_"): loss for name, loss in twin(*batch()).items()}
    assert torch.equal(torch.get_rng_state(), state)
    assert {name: loss.item() for name, loss in ours.items()} == {name: loss.item() for name, loss in theirs.items()}
    torch.stack(list(ours.values())).sum().backward()
    sum(theirs.values()).backward()
    expected = gradients(twin)
    assert all(gradient is not None for gradient in expected.values())
    for name, gradient in gradients(detector.model).items():
        assert torch.equal(gradient, expected[name]), name
    for name, value in detector.model.state_dict().items():
        assert torch.equal(value, twin.state_dict()[name]), name  # running statistics too


def test_that_uint8_images_are_read_as_fractions_of_255(detector):
    images, targets = mixed_batch()
    bytes_ = [(image * 255).round().to(torch.uint8) for image in images]
    batch = detector.prepare(bytes_, targets)
    expected = detector.prepare([image / 255 for image in bytes_], targets)
    torch.testing.assert_close(batch.images, expected.images)


def test_that_prepare_resizes_boxes_with_their_image_and_leaves_the_callers_alone():
    config = small_config("input.min_size=96", "input.max_size=200")
    detector = small_detector(config.student, config)
    targets = [{"boxes": torch.tensor([[0.0, 0, 24, 48]]), "labels": torch.tensor([1])}]
    batch = detector.prepare([torch.rand(3, 48, 64)], targets)
    assert batch.image_sizes == [(96, 128)]
    assert batch.targets[0]["boxes"].tolist() == [[0, 0, 48, 96]]
    assert targets[0]["boxes"].tolist() == [[0, 0, 24, 48]]


def test_that_the_feature_levels_are_those_that_come_out(detector):
    features = detector.extract_features(detector.prepare(*mixed_batch()))
    assert tuple(features) == detector.feature_levels
    assert {level.shape[1] for level in features.values()} == {detector.feature_channels}


def test_that_the_anchor_sample_is_the_foreground_of_the_rpns_own_sampler(detector):
    batch = detector.prepare(*mixed_batch())
    outputs = detector.score_anchors(batch, detector.extract_features(batch))
    _, sample = detector.anchor_losses(batch, outputs)
    picked = []
    for image, (anchors, target) in enumerate(zip(outputs.anchors, batch.targets, strict=True)):
        offset = image * len(anchors)
        inside = (sample.indices >= offset) & (sample.indices < offset + len(anchors))
        picked.append(int(inside.sum()))
        if picked[-1]:
            overlap = box_iou(sample.anchors[inside], target["boxes"])
            assert torch.equal(sample.anchors[inside], anchors[sample.indices[inside] - offset])
            assert torch.equal(target["boxes"][overlap.argmax(dim=1)], sample.gt_boxes[inside])
    assert picked[0] >= 2
    assert picked[1] >= 1
    assert picked[2] == 0


def test_that_the_sampled_regions_carry_the_object_they_overlap(detector):
    batch = detector.prepare(*mixed_batch())
    near = torch.tensor([[11.0, 12, 40, 44], [0, 70, 20, 90]])
    regions = detector.sample_regions(batch, [near, torch.zeros(0, 4), near])
    assert regions.counts == [4, 1, 2]  # proposals and the objects themselves
    rows = {tuple(box): label for box, label in zip(regions.boxes[0].tolist(), regions.labels.tolist(), strict=False)}
    assert rows == {(11, 12, 40, 44): 1, (0, 70, 20, 90): 0, (10, 12, 40, 44): 1, (50, 50, 90, 92): 2}
    overlap = torch.cat(regions.boxes)[regions.foreground] - regions.gt_boxes[regions.foreground]
    assert overlap.abs().max().item() == 1
    assert regions.labels[-2:].tolist() == [0, 0]


def test_that_proposals_carry_no_gradient(detector):
    batch = detector.prepare(*mixed_batch())
    proposals = detector.propose(batch, detector.score_anchors(batch, detector.extract_features(batch)))
    assert not any(boxes.requires_grad for boxes in proposals)


def test_that_the_head_answers_no_regions_with_no_rows(detector):
    batch = detector.prepare([torch.rand(3, 96, 96)], [nothing()])
    none = Regions([torch.zeros(0, 4)], torch.zeros(0, dtype=torch.int64), torch.zeros(0, 4))
    outputs = detector.answer(batch, detector.extract_features(batch), none)
    assert outputs.class_logits.shape == (0, 4)
    assert outputs.box_deltas.shape == (0, 4, 4)


def test_that_levels_are_assigned_as_the_pooling_assigns_them(detector):
    batch = detector.prepare(*mixed_batch())
    features = detector.extract_features(batch)
    region = Regions([torch.tensor([[0.0, 0, 9, 9]])] + [torch.zeros(0, 4)] * 2, torch.ones(1).long(), torch.ones(1, 4))
    detector.answer(batch, features, region)
    # floor(4 + log2(sqrt(area) / 224)), at least 2, where 2 is the finest
    boxes = torch.tensor([[0.0, 0, 30, 30], [0, 0, 113, 113], [0, 0, 225, 225], [0, 0, 500, 500]])
    assert detector.assign_levels(boxes).tolist() == [0, 1, 2, 3]


def test_that_detections_are_those_of_the_plain_model(detector):
    images, _ = mixed_batch()
    detector.eval()
    twin = torchvision_twin(detector).eval()
    with torch.no_grad():
        expected = twin(images)
    for ours, theirs in zip(detector.detect(images), expected, strict=True):
        assert all(torch.equal(ours[key], theirs[key]) for key in ("boxes", "labels", "scores"))
        assert not ours["boxes"].requires_grad


def test_that_the_exported_student_runs_in_plain_torchvision(tmp_path):
    config = small_config("student.norm=batch", "student.box_score_thresh=0.05")
    detector = small_detector(config.student, config).eval()
    torch.save(detector.exported().state_dict(), tmp_path / "student.pt")

    # From here on: torchvision only.
    body = resnet18(weights=None)
    layers = {"layer1": "0", "layer2": "1", "layer3": "2", "layer4": "3"}
    backbone = BackboneWithFPN(body, layers, in_channels_list=[64, 128, 256, 512], out_channels=16)
    model = FasterRCNN(
        backbone,
        min_size=96,
        max_size=96,
        rpn_anchor_generator=AnchorGenerator(((8,), (16,), (32,), (64,), (128,)), ((0.5, 1.0, 2.0),) * 5),
        rpn_pre_nms_top_n_test=300,
        rpn_post_nms_top_n_test=200,
        box_roi_pool=MultiScaleRoIAlign(["0", "1", "2", "3"], output_size=7, sampling_ratio=2),
        box_head=TwoMLPHead(16 * 7 * 7, 32),
        box_predictor=FastRCNNPredictor(32, num_classes=4),
        box_score_thresh=0.05,
    )
    model.load_state_dict(torch.load(tmp_path / "student.pt", weights_only=True))
    model.eval()

    images, _ = mixed_batch()
    with torch.no_grad():
        expected = model(images)
    assert sum(len(found["boxes"]) for found in expected) > 5
    for ours, theirs in zip(detector.detect(images), expected, strict=True):
        assert all(torch.equal(ours[key], theirs[key]) for key in ("boxes", "labels", "scores"))


def test_that_the_settings_reach_torchvisions_model():
    config = small_config(
        "student.box_score_thresh=0.3", "student.box_nms_thresh=0.4", "student.box_detections_per_img=7"
    )
    model = build_faster_rcnn(config.student, config.input, CLASSES).model
    heads = model.roi_heads
    assert (heads.score_thresh, heads.nms_thresh, heads.detections_per_img) == (0.3, 0.4, 7)
    assert heads.fg_bg_sampler.batch_size_per_image == 16
    assert (model.rpn._pre_nms_top_n, model.rpn._post_nms_top_n) == (
        {"training": 300, "testing": 300},
        {"training": 200, "testing": 200},
    )
    assert (model.transform.min_size, model.transform.max_size) == ((96,), 96)


def test_that_the_exported_student_holds_nothing_of_the_training_and_can_be_scripted(detector):
    batch = detector.prepare(*mixed_batch())
    detector.train_step(batch, detector.extract_features(batch)).losses["objectness"].backward()
    exported = detector.exported().eval()
    modules = {type(module).__module__.partition(".")[0] for module in exported.modules()}
    assert "raydistill" not in modules
    assert type(exported.rpn.fg_bg_sampler).__module__.startswith("torchvision")
    images, _ = mixed_batch()
    _, scripted = torch.jit.script(exported)(images[:1])
    assert torch.equal(scripted[0]["boxes"], exported(images[:1])[0]["boxes"])
