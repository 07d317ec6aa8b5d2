import copy
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torchvision.models.detection._utils import BoxCoder

from raydistill.config import Config
from raydistill.detectors.two_stage.faster_rcnn import FasterRCNNDetector
from raydistill.detectors.two_stage.values import HeadAnswers
from raydistill.detectors.values import Regions
from raydistill.errors import UserError
from raydistill.methods.tar.feature import feature_term
from raydistill.methods.tar.heads import compare_boxes, compare_classes
from raydistill.runs.worker import Worker
from raydistill.training.distiller import Distiller
from raydistill.training.resume import in_ddp
from tests.nets import (
    adapters_of,
    batch_without_objects,
    gradients,
    mixed_batch,
    pair,
    small_config,
    small_detector,
    torchvision_twin,
)
from tests.ranks import on_ranks

SOURCES = ("student", "teacher", "both")
HALF = torch.tensor([[0.0, 0, 48, 96]])
TERMS = ("feature", "classification", "regression", "rpn")
NO_WEIGHTS = [f"methods.tar.{term}.weight=0" for term in TERMS]


def only(term: str, *overrides: str) -> Config:
    return small_config(*[f"methods.tar.{other}.weight=0" for other in TERMS if other != term], *overrides)


def step(distiller: Distiller, decay: float = 1.0, batch=mixed_batch, seed: int = 3):
    torch.manual_seed(seed)
    losses = distiller(*batch(), decay)
    losses.total.backward()
    return losses


class Calls:
    """Counts the calls of a detector's stages and keeps the regions its head was shown."""

    def __init__(self, detector: FasterRCNNDetector, monkeypatch) -> None:
        self.regions: list[Regions] = []
        self.features = 0
        self.anchors = 0
        answer, extract, score = detector.answer, detector.extract_features, detector.score_anchors

        def recording_answer(batch, features, regions):
            self.regions.append(regions)
            return answer(batch, features, regions)

        def recording_extract(batch):
            self.features += 1
            return extract(batch)

        def recording_score(batch, features):
            self.anchors += 1
            return score(batch, features)

        monkeypatch.setattr(detector, "answer", recording_answer)
        monkeypatch.setattr(detector, "extract_features", recording_extract)
        monkeypatch.setattr(detector, "score_anchors", recording_score)


# ------------------------------------------------------------------------------------------------ the student by itself
@pytest.mark.parametrize("batch", [mixed_batch, batch_without_objects])
def test_that_without_a_teacher_a_step_is_torchvisions_bit_for_bit(batch):
    config = small_config("student.norm=batch")
    student = small_detector(config.student, config)
    twin = torchvision_twin(student)
    losses = step(Distiller(student, None, config), batch=batch)
    state = torch.get_rng_state()
    torch.manual_seed(3)
    theirs = twin(*batch())
    assert torch.equal(torch.get_rng_state(), state)
    sum(theirs.values()).backward()
    for name, loss in theirs.items():
        assert losses.terms[f"detection/{name.removeprefix('loss_')}"].item() == loss.item()
    assert losses.total.item() == pytest.approx(sum(loss.item() for loss in theirs.values()))
    expected = gradients(twin)
    for name, gradient in gradients(student.model).items():
        assert torch.equal(gradient, expected[name]), name


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize(("overrides", "decay"), [(NO_WEIGHTS, 1.0), ([], 0.0)], ids=["all weights zero", "decay zero"])
def test_that_distillation_switched_off_is_plain_training_bit_for_bit(source, overrides, decay, monkeypatch):
    config = small_config(f"methods.tar.regions.source={source}", *overrides)
    student, teacher = pair(config)
    plain = copy.deepcopy(student)
    calls = Calls(teacher, monkeypatch)
    losses = step(Distiller(student, teacher, config), decay)
    state = torch.get_rng_state()
    expected = step(Distiller(plain, None, config))
    assert torch.equal(torch.get_rng_state(), state)
    assert (calls.features, calls.anchors, calls.regions) == (0, 0, [])
    assert losses.total.item() == expected.total.item()
    assert losses.terms == expected.terms
    wanted = gradients(plain)
    for name, gradient in gradients(student).items():
        assert torch.equal(gradient, wanted[name]), name


@pytest.mark.parametrize("source", SOURCES)
def test_that_the_detection_losses_are_those_of_plain_training_while_distilling(source):
    config = small_config(f"methods.tar.regions.source={source}")
    student, teacher = pair(config)
    plain = step(Distiller(copy.deepcopy(student), None, config)).terms
    distilled = step(Distiller(student, teacher, config)).terms
    for name in plain:
        if name.startswith("detection/"):
            assert distilled[name].item() == plain[name].item()


# ------------------------------------------------------------------------------------------------------ weights, decay
def test_that_the_total_is_detection_plus_decay_times_weight_times_term():
    config = small_config(
        "methods.tar.feature.weight=0.5",
        "methods.tar.classification.weight=2",
        "methods.tar.regression.weight=3",
        "methods.tar.rpn.weight=4",
    )
    terms = step(Distiller(*pair(config), config), decay=0.25).terms
    weights = {"feature": 0.5, "classification": 2, "regression": 3, "rpn": 4}
    assert all(terms[f"distillation/tar/{name}"] > 0 for name in weights)
    for name, weight in weights.items():
        assert terms[f"weighted/tar/{name}"].item() == pytest.approx(
            0.25 * weight * terms[f"distillation/tar/{name}"].item()
        )
    detection = sum(terms[f"detection/{name}"] for name in ("classifier", "box_reg", "objectness", "rpn_box_reg"))
    assert terms["detection/total"].item() == pytest.approx(detection.item())
    total = terms["detection/total"] + sum(terms[f"weighted/tar/{name}"] for name in weights)
    assert terms["total"].item() == pytest.approx(total.item())


@pytest.mark.parametrize("term", TERMS)
def test_that_only_the_terms_with_a_weight_are_computed(term):
    config = only(term)
    losses = step(Distiller(*pair(config), config))
    assert [name for name in losses.terms if name.startswith("distillation/")] == [f"distillation/tar/{term}"]
    assert losses.terms[f"distillation/tar/{term}"] > 0
    gates = {"classification": {"class_open"}, "regression": {"box_open"}, "feature": set()}
    assert set(losses.gates) == gates.get(term, {"rpn_objectness_open", "rpn_box_open"})


@pytest.mark.parametrize("term", TERMS)
def test_that_every_term_changes_the_students_gradient(term):
    config = only(term)
    student, teacher = pair(config)
    plain = copy.deepcopy(student)
    step(Distiller(student, teacher, config))
    step(Distiller(plain, None, config))
    stem = "model.backbone.body.conv1.weight"
    assert not torch.equal(gradients(student)[stem], gradients(plain)[stem])


def test_that_the_reported_terms_carry_no_graph():
    config = small_config()
    losses = step(Distiller(*pair(config), config))
    assert losses.total.requires_grad
    assert not any(value.requires_grad for value in losses.terms.values())


@pytest.mark.parametrize("source", SOURCES)
def test_that_a_batch_without_any_object_distils_nothing_and_breaks_nothing(source):
    config = small_config(f"methods.tar.regions.source={source}")
    student, teacher = pair(config)
    losses = step(Distiller(student, teacher, config), batch=batch_without_objects)
    assert [losses.terms[f"distillation/tar/{name}"].item() for name in TERMS] == [0, 0, 0, 0]
    assert all(gate.total.item() == 0 for gate in losses.gates.values())
    assert all(gradient is not None and gradient.isfinite().all() for gradient in gradients(student).values())


# --------------------------------------------------------------------------------------------------- teacher = student
@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize(
    "gates",
    [
        [],
        [
            "methods.tar.classification.gate=foreground",
            "methods.tar.regression.reference=none",
            "methods.tar.rpn.gate=foreground",
            "methods.tar.rpn.reference=none",
        ],
        [
            "methods.tar.classification.gate=all",
            "methods.tar.classification.divergence=kl",
            "methods.tar.classification.temperature=2",
        ],
    ],
    ids=["default gates", "open gates", "background too"],
)
def test_that_a_teacher_equal_to_the_student_teaches_nothing(source, gates):
    config = small_config(f"methods.tar.regions.source={source}", "methods.tar.feature.adapter=identity", *gates)
    student = small_detector(config.student, config)
    losses = step(Distiller(student, copy.deepcopy(student), config))
    for name in TERMS:
        assert losses.terms[f"distillation/tar/{name}"].item() == pytest.approx(0, abs=1e-6), name


# ---------------------------------------------------------------------------------------------------------- the teacher
def test_that_the_teacher_is_frozen_and_stays_in_eval_mode():
    config = small_config("teacher.norm=batch")
    student, teacher = pair(config)
    distiller = Distiller(student, teacher, config)
    before = copy.deepcopy(teacher.state_dict())
    distiller.train()
    step(distiller)
    assert student.training
    assert not any(module.training for module in teacher.modules())
    assert not any(parameter.requires_grad or parameter.grad is not None for parameter in teacher.parameters())
    for name, value in teacher.state_dict().items():
        assert torch.equal(value, before[name]), name  # batch norm's statistics too


def test_that_the_teacher_is_not_part_of_the_distillers_state_or_parameters():
    config = small_config()
    student, teacher = pair(config)
    distiller = Distiller(student, teacher, config)
    assert {name.split(".")[0] for name in distiller.state_dict()} == {"student", "methods"}
    assert not {id(p) for p in teacher.parameters()} & {id(p) for p in distiller.parameters()}


def test_that_the_teacher_sees_the_students_pixels(monkeypatch):
    config = only("feature")
    student, teacher = pair(config)
    seen: list[Tensor] = []
    for detector in (student, teacher):
        extract = detector.extract_features
        monkeypatch.setattr(
            detector, "extract_features", lambda batch, extract=extract: seen.append(batch.images) or extract(batch)
        )
    step(Distiller(student, teacher, config))
    assert seen[0] is seen[1]


def test_that_the_teacher_is_asked_for_features_only_when_only_features_are_distilled(monkeypatch):
    config = only("feature")
    student, teacher = pair(config)
    calls = Calls(teacher, monkeypatch)
    step(Distiller(student, teacher, config))
    assert (calls.features, calls.anchors, calls.regions) == (1, 0, [])


# ------------------------------------------------------------------------------------------------------ region sharing
def heads_only(source: str, *overrides: str) -> Config:
    return small_config(
        "methods.tar.feature.weight=0", "methods.tar.rpn.weight=0", f"methods.tar.regions.source={source}", *overrides
    )


def propose_near_the_objects(teacher: FasterRCNNDetector, monkeypatch) -> None:
    """Let the teacher propose one box beside an object, so that its regions are not just the objects."""
    near = [torch.tensor([[12.0, 14, 42, 46]]), torch.zeros(0, 4), torch.zeros(0, 4)]
    monkeypatch.setattr(teacher, "propose", lambda batch, outputs: near)


def same(first: Regions, second: Regions) -> bool:
    return torch.equal(torch.cat(first.boxes), torch.cat(second.boxes)) and first.counts == second.counts


def test_that_source_student_shows_the_teacher_the_foreground_of_the_students_own_regions(monkeypatch):
    config = heads_only("student")
    student, teacher = pair(config)
    own, asked = Calls(student, monkeypatch), Calls(teacher, monkeypatch)
    losses = step(Distiller(student, teacher, config))
    assert (len(own.regions), len(asked.regions)) == (1, 1)  # no extra pass of the student's head
    assert same(asked.regions[0], own.regions[0].select(own.regions[0].foreground)[0])
    assert losses.gates["class_open"].total.item() == own.regions[0].foreground.sum().item() > 0
    assert asked.anchors == 0


def test_that_source_teacher_shows_both_heads_the_foreground_of_the_teachers_regions(monkeypatch):
    config = heads_only("teacher")
    student, teacher = pair(config)
    sampled = []
    sample = teacher.sample_regions
    monkeypatch.setattr(teacher, "sample_regions", lambda *args: sampled.append(sample(*args)) or sampled[-1])
    own, asked = Calls(student, monkeypatch), Calls(teacher, monkeypatch)
    losses = step(Distiller(student, teacher, config))
    (regions,) = sampled
    assert (len(own.regions), len(asked.regions)) == (2, 1)  # the student's own step, then the shared regions
    assert same(asked.regions[0], regions.select(regions.foreground)[0])
    assert same(own.regions[1], asked.regions[0])
    assert losses.gates["box_open"].total.item() == regions.foreground.sum().item() > 0


def test_that_source_both_shares_both_sets(monkeypatch):
    config = heads_only("both")
    student, teacher = pair(config)
    propose_near_the_objects(teacher, monkeypatch)
    own, asked = Calls(student, monkeypatch), Calls(teacher, monkeypatch)
    losses = step(Distiller(student, teacher, config))
    assert (len(own.regions), len(asked.regions)) == (2, 1)  # one pass of the teacher's head for both sets
    students, theirs = own.regions[0].select(own.regions[0].foreground)[0], own.regions[1]
    assert not same(students, theirs)
    expected = [torch.cat(pair) for pair in zip(students.boxes, theirs.boxes, strict=True)]
    assert all(torch.equal(*both) for both in zip(asked.regions[0].boxes, expected, strict=True))
    total = int(students.foreground.sum() + theirs.foreground.sum())
    assert losses.gates["class_open"].total.item() == total


@pytest.mark.parametrize("term", ["classification", "regression"])
def test_that_source_both_has_one_normaliser_over_both_sets(term, monkeypatch):
    gates = ("methods.tar.classification.gate=foreground", "methods.tar.regression.reference=none")
    sums, counts = {}, {}
    for source in SOURCES:
        config = heads_only(source, *gates)
        student, teacher = pair(config)
        propose_near_the_objects(teacher, monkeypatch)
        losses = step(Distiller(student, teacher, config))
        counts[source] = losses.gates["class_open"].total.item()
        sums[source] = losses.terms[f"distillation/tar/{term}"].item() * counts[source]
    assert counts["both"] == counts["student"] + counts["teacher"]
    assert sums["both"] == pytest.approx(sums["student"] + sums["teacher"], rel=1e-4)


def test_that_classification_gate_all_includes_the_background_but_does_not_count_it(monkeypatch):
    config = heads_only("student", "methods.tar.classification.gate=all")
    student, teacher = pair(config)
    own, asked = Calls(student, monkeypatch), Calls(teacher, monkeypatch)
    losses = step(Distiller(student, teacher, config))
    assert same(asked.regions[0], own.regions[0])
    num_foreground = own.regions[0].foreground.sum().item()
    assert losses.gates["class_open"].total.item() == losses.gates["class_open"].open.item() == num_foreground
    foreground_only = heads_only("student", "methods.tar.classification.gate=foreground")
    smaller = step(Distiller(*pair(foreground_only), foreground_only))
    assert losses.terms["distillation/tar/classification"] > smaller.terms["distillation/tar/classification"]
    assert losses.terms["distillation/tar/regression"].item() == pytest.approx(
        smaller.terms["distillation/tar/regression"].item(), rel=1e-4
    )


def answers(logits, deltas, boxes=None):
    """Return what a box head of torchvision's says of regions at ``boxes``."""
    decode = BoxCoder((10.0, 10, 5, 5)).decode_single
    return HeadAnswers(logits, deltas, torch.zeros(len(logits), 4) if boxes is None else boxes, decode)


@pytest.mark.parametrize(
    ("gate", "expected"),
    [
        ("teacher_better", [True, False, False, False]),
        ("teacher_better_all", [True, False, True, False]),
        ("foreground", [True, True, False, False]),
        ("all", [True, True, True, True]),
    ],
)
def test_that_the_class_gate_compares_the_true_class_of_the_regions_it_may_open(gate, expected):
    config = heads_only("student", f"methods.tar.classification.gate={gate}")
    labels = torch.tensor([1, 1, 0, 0])
    regions = Regions([torch.zeros(4, 4)], labels, torch.zeros(4, 4))
    surer, less_sure = torch.tensor([3.0, 0, 0]), torch.tensor([-3.0, 0, 0])
    logits = torch.stack([surer.roll(1), less_sure.roll(1), surer, less_sure])
    same_boxes = torch.zeros(4, 3, 4)
    _, is_open = compare_classes(
        config.methods.tar.classification, regions, answers(torch.zeros(4, 3), same_boxes), answers(logits, same_boxes)
    )
    assert is_open.tolist() == expected


@pytest.mark.parametrize(("reference", "expected"), [("student", [1, 0]), ("proposal", [0, 0]), ("none", [1, 1])])
def test_that_the_box_gate_compares_with_its_reference(reference, expected):
    config = heads_only("student", f"methods.tar.regression.reference={reference}")
    box = torch.tensor([[0.0, 0, 40, 40]])
    regions = Regions([box.repeat(2, 1)], torch.tensor([1, 1]), box.repeat(2, 1))  # proposals that fit perfectly
    logits, moved = torch.zeros(2, 4), torch.zeros(2, 4, 4)
    moved[:, 1, 0] = torch.tensor([2.0, 0.0])  # the first region's box is moved off the object
    slightly = torch.zeros(2, 4, 4)
    slightly[:, 1, 0] = 0.5
    boxes = box.repeat(2, 1)
    _, is_open = compare_boxes(
        config.methods.tar.regression, regions, answers(logits, moved, boxes), answers(logits, slightly, boxes)
    )
    # first: the teacher moves less far than the student, yet off the perfect proposal; second: it alone moves
    assert is_open.tolist() == [bool(value) for value in expected]


def test_that_the_box_distance_is_that_of_the_true_class():
    config = heads_only("student", "methods.tar.regression.reference=none")
    box = torch.tensor([[0.0, 0, 40, 40]])
    regions = Regions([box], torch.tensor([2]), box)
    student, teacher = torch.zeros(1, 4, 4), torch.full((1, 4, 4), 9.0)
    teacher[0, 2] = torch.tensor([1.0, 0, 0, 0])
    logits = torch.zeros(1, 4)
    distance, _ = compare_boxes(
        config.methods.tar.regression, regions, answers(logits, student, box), answers(logits, teacher, box)
    )
    assert distance.item() == pytest.approx(1 - 1 / 18)


# ------------------------------------------------------------------------------------------------------ feature masks
def distance_of_maps(distiller: Distiller, batch, own, theirs):
    """Return the feature term of a batch between two pyramids."""
    tar = distiller.methods["tar"]
    return feature_term(tar.settings.feature, tar.adapters, batch, distiller.student, own, theirs)


def constant_maps(distiller: Distiller, difference: float = 1.0):
    """Return a batch and two pyramids that differ by ``difference`` on every cell."""
    batch = distiller.student.prepare(*mixed_batch())
    own = {level: torch.zeros_like(maps) for level, maps in distiller.student.extract_features(batch).items()}
    return batch, own, {level: maps + difference for level, maps in own.items()}


@pytest.mark.parametrize("mask", ["gaussian", "box", "full"])
def test_that_a_constant_difference_gives_half_its_square_whatever_the_mask(mask):
    config = only("feature", "methods.tar.feature.adapter=identity", f"methods.tar.feature.mask={mask}")
    distiller = Distiller(*pair(config), config)
    assert distance_of_maps(distiller, *constant_maps(distiller, 3.0)).item() == pytest.approx(4.5)


def test_that_the_full_mask_leaves_out_the_padding():
    config = only("feature", "methods.tar.feature.adapter=identity", "methods.tar.feature.mask=full")
    distiller = Distiller(*pair(config), config)
    batch, own, theirs = constant_maps(distiller)
    assert batch.image_sizes == [(96, 96), (64, 96), (96, 80)]
    for maps in theirs.values():  # the teacher differs on the padding only
        stride = 96 / maps.shape[2]
        rows = (torch.arange(maps.shape[2]) + 0.5) * stride < 64
        maps[0] = 0
        maps[1, :, rows] = 0
        maps[2] = 0
    assert distance_of_maps(distiller, batch, own, theirs).item() == 0


@pytest.mark.parametrize(("where", "expected"), [("inside", 0.5), ("outside", 0.25 * 0.5)])
def test_that_the_background_term_is_the_distance_outside_the_boxes(where, expected):
    config = only(
        "feature",
        "methods.tar.feature.adapter=identity",
        "methods.tar.feature.mask=box",
        "methods.tar.feature.background_weight=0.25",
    )
    distiller = Distiller(*pair(config), config)
    batch = distiller.student.prepare([torch.rand(3, 96, 96)], [{"boxes": HALF, "labels": torch.tensor([1])}])
    own = {"0": torch.zeros(1, 16, 24, 24)}  # the box covers the left half of the image: 12 columns of cells
    theirs = torch.zeros(1, 16, 24, 24)
    theirs[..., slice(0, 12) if where == "inside" else slice(12, 24)] = 1
    assert distance_of_maps(distiller, batch, own, {"0": theirs}).item() == pytest.approx(expected)


def test_that_assigned_levels_carry_a_box_on_the_level_it_is_pooled_from_only():
    config = only("feature", "methods.tar.feature.adapter=identity", "methods.tar.feature.levels=assigned")
    distiller = Distiller(*pair(config), config)
    step(distiller)
    batch, own, theirs = constant_maps(distiller)
    # all three boxes are smaller than 112 pixels: the finest of five levels carries 1/2, the others nothing
    assert distance_of_maps(distiller, batch, own, theirs).item() == pytest.approx(0.5 / 5)


# ----------------------------------------------------------------------------------------------- nets that do not match
def test_that_a_pyramid_level_without_a_match_is_a_users_error():
    config = small_config(
        "methods.tar.rpn.weight=0",
        "teacher.returned_layers=[2, 3, 4]",
        "teacher.anchor_sizes=[[16], [32], [64], [128]]",
    )
    with pytest.raises(UserError, match=r"feature\.weight: .* none for level 0 of \[24, 24\].*returned_layers"):
        step(Distiller(*pair(config), config))


def test_that_a_student_with_fewer_levels_learns_from_those_of_its_size():
    config = only("feature", "student.returned_layers=[2, 3, 4]", "student.anchor_sizes=[[16], [32], [64], [128]]")
    assert step(Distiller(*pair(config), config)).terms["distillation/tar/feature"] > 0


def test_that_different_anchors_are_a_users_error_where_the_rpn_is_distilled():
    config = only("rpn")
    fewer = config.teacher.model_copy(update={"anchor_aspect_ratios": (1.0,)})  # past the config's own check
    config = config.model_copy(update={"teacher": fewer})
    with pytest.raises(UserError, match=r"rpn\.weight: .*same anchors.*set methods\.tar\.rpn\.weight=0"):
        step(Distiller(*pair(config), config))


def test_that_a_mobilenet_learns_from_a_resnet():
    config = small_config(
        "methods.tar.rpn.weight=0",
        "student.backbone=mobilenet_v3_large",
        "student.norm=batch",
        "student.anchor_sizes=[[16, 32], [32, 64], [64, 128]]",
    )
    student, teacher = pair(config)
    assert student.feature_levels == ("0", "1", "pool")
    losses = step(Distiller(student, teacher, config))
    assert all(losses.terms[f"distillation/tar/{name}"] > 0 for name in ("feature", "classification", "regression"))


# ------------------------------------------------------------------------------------------------------------ adapters
def test_that_adapters_map_student_channels_to_teacher_channels():
    config = only("feature", "student.fpn_channels=8", "methods.tar.feature.adapter=conv3x3")
    distiller = Distiller(*pair(config), config)
    assert {adapter.weight.shape for adapter in adapters_of(distiller).values()} == {(16, 8, 3, 3)}
    step(distiller)
    assert all(adapter.weight.grad.any() for adapter in adapters_of(distiller).values())


def test_that_adapters_are_not_part_of_the_exported_student():
    config = small_config()
    student, teacher = pair(config)
    distiller = Distiller(student, teacher, config)
    before = set(small_detector(config.student, config).exported().state_dict())
    assert len(adapters_of(distiller)) == 5
    assert set(distiller.student.exported().state_dict()) == before


def test_that_there_are_no_adapters_where_features_are_not_distilled():
    config = small_config("methods.tar.feature.weight=0")
    assert len(adapters_of(Distiller(*pair(config), config))) == 0


def test_that_open_gates_never_outnumber_the_foreground():
    config = small_config()
    losses = step(Distiller(*pair(config), config))
    assert set(losses.gates) == {"class_open", "box_open", "rpn_objectness_open", "rpn_box_open"}
    assert all(0 <= gate.open.item() <= gate.total.item() > 0 for gate in losses.gates.values())


def test_that_unused_adapters_have_zero_gradients_when_the_decay_is_zero():
    config = small_config()
    distiller = Distiller(*pair(config), config)
    step(distiller, decay=0.0)
    assert all(not parameter.grad.any() for parameter in adapters_of(distiller).parameters())


# ------------------------------------------------------------------------------------------------------------ two ranks
DECAYS = (0.0, 0.5)


def two_rank_distiller() -> Distiller:
    config = small_config()
    student, teacher = pair(config)
    torch.manual_seed(5)
    return Distiller(student, teacher, config)


def rank_batch(rank: int):
    return mixed_batch() if rank == 0 else batch_without_objects()


def gradients_of_two_steps(module: nn.Module, rank: int) -> list[dict[str, Tensor]]:
    found = []
    for decay in DECAYS:
        module.zero_grad()
        torch.manual_seed(10 + rank)
        module(*rank_batch(rank), decay).total.backward()
        found.append({name.removeprefix("module."): value for name, value in gradients(module).items()})
    return found


def train_on_rank(worker: Worker, folder: str) -> None:
    module = in_ddp(two_rank_distiller(), worker)
    assert module.gradient_as_bucket_view
    found = gradients_of_two_steps(module, worker.rank)
    torch.save(found, Path(folder) / f"rank{worker.rank}.pt")


def test_that_the_gradients_of_two_ranks_are_the_mean_of_theirs_with_and_without_the_teacher(tmp_path):
    assert on_ranks(train_on_rank, 2, str(tmp_path)) == [0, 0]
    ranks = [torch.load(tmp_path / f"rank{rank}.pt", weights_only=True) for rank in range(2)]
    alone = [gradients_of_two_steps(two_rank_distiller(), rank) for rank in range(2)]
    for number in range(len(DECAYS)):
        for name, gradient in ranks[0][number].items():
            assert torch.equal(gradient, ranks[1][number][name]), name
            mean = (alone[0][number][name] + alone[1][number][name]) / 2
            torch.testing.assert_close(gradient, mean, rtol=1e-4, atol=1e-6, msg=name)
    assert any(ranks[0][1][name].any() for name in ranks[0][1] if name.startswith("methods.tar.adapters"))
