"""Which methods run, one of the user's own among them, and what is said where they cannot."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from raydistill.config import Config, load_config
from raydistill.detectors.base import Detector, ProposesRegions
from raydistill.detectors.teacher import TeacherPass
from raydistill.detectors.values import Outcome
from raydistill.errors import UserError
from raydistill.methods.base import Compared, Method, Need
from raydistill.methods.catalogue import build_methods
from raydistill.methods.values import Gate
from raydistill.structures import Batch
from raydistill.training.distiller import Distiller
from tests.nets import mixed_batch, pair, small_config
from tests.outputs import refuse_other_settings, stage_of, write_settings

OWN = f"methods={{mine: {{method: '{__name__}:Mean', weight: 2, settings: {{power: 1}}}}}}"


class Mean(Method):
    """A feature loss in ten lines: the means of the finest maps."""

    def __init__(self, settings: dict[str, Any], student: Detector, teacher: Detector) -> None:
        super().__init__(settings, student, teacher)
        self.scale = nn.Parameter(torch.ones(teacher.feature_channels))
        self.power = settings.get("power", 2)

    def compare(self, batch: Batch, student: Detector, outcome: Outcome, teacher: TeacherPass) -> Compared:
        level = student.feature_levels[0]
        means = (maps[level].mean(dim=(2, 3)) for maps in (outcome.features, teacher.features))
        own, theirs = means
        return Compared.one((own * self.scale - theirs).abs().pow(self.power).mean())


class Silent(Mean):
    """Finds nothing to compare."""

    def compare(self, *_: Any) -> Compared:
        return Compared()


class Gated(Mean):
    """Has a gate, which is called as one of another method."""

    def compare(self, *what: Any) -> Compared:
        found = super().compare(*what)
        return Compared(found.terms, {"rpn_box_open": Gate(torch.tensor(3), torch.tensor(4))})


class Demanding(Mean):
    """Needs what no net here is able to do."""

    def needs(self) -> Iterator[Need]:
        yield Need("methods.mine.method", "teacher", _Flies, "be able to fly", "take another")


class _Flies:
    pass


def not_a_method(settings: dict[str, Any], student: Detector, teacher: Detector) -> nn.Module:
    return nn.Identity()


def step(config: Config, decay: float = 1.0) -> tuple[Distiller, dict[str, Tensor]]:
    distiller = Distiller(*pair(config), config)
    torch.manual_seed(0)
    losses = distiller(*mixed_batch(), decay)
    losses.total.backward()
    return distiller, losses.terms


def test_without_a_section_the_method_of_the_paper_runs() -> None:
    assert [*small_config().methods.named()] == ["tar"]
    assert [*small_config().terms] == ["tar.feature", "tar.classification", "tar.regression", "tar.rpn"]


def test_with_a_section_what_is_named_runs_alone() -> None:
    distiller, terms = step(small_config(OWN))
    assert [*distiller.methods] == ["mine"]
    assert terms["weighted/mine"].item() == pytest.approx(2 * terms["distillation/mine"].item()) != 0
    assert not any("tar" in name for name in terms)


def test_a_class_is_named_by_what_it_can_be_imported_by() -> None:
    mine = {"method": Mean, "weight": 2.0, "settings": {"power": 1}}
    from_python = load_config("quickstart", {"methods": {"mine": mine}, "output": "x"})
    assert from_python.methods == small_config(OWN).methods
    assert isinstance(build_methods(from_python, *pair(small_config()))["mine"], Mean)


def test_several_methods_run_at_once_beside_one_pass_of_the_teacher(monkeypatch: pytest.MonkeyPatch) -> None:
    config = small_config(OWN, "methods.tar.feature.weight=1")
    student, teacher = pair(config)
    looks = []
    extract = teacher.extract_features
    monkeypatch.setattr(teacher, "extract_features", lambda batch: looks.append(batch) or extract(batch))
    terms = Distiller(student, teacher, config)(*mixed_batch(), 1.0).terms
    assert {"distillation/mine", "distillation/tar/feature", "distillation/tar/rpn"} <= terms.keys()
    assert len(looks) == 1


def test_gates_of_two_methods_that_are_called_alike_are_told_apart() -> None:
    config = small_config(OWN.replace(":Mean", ":Gated"), "methods.tar.rpn.weight=1")
    gates = Distiller(*pair(config), config)(*mixed_batch(), 1.0).gates
    assert (int(gates["mine/rpn_box_open"].open), int(gates["mine/rpn_box_open"].total)) == (3, 4)
    assert gates["rpn_box_open"].total != 4


def test_a_name_that_pytorchs_modules_have_a_use_for_is_refused() -> None:
    with pytest.raises(UserError, match=r"^methods\.keys: must have another name"):
        step(small_config(OWN.replace("mine:", "keys:")))


def test_what_a_method_trains_learns_and_stays_out_of_the_exported_student() -> None:
    distiller, _ = step(small_config(OWN))
    scale = distiller.methods["mine"].scale
    assert isinstance(scale, nn.Parameter) and scale.grad is not None and scale.grad.any()
    assert any(parameter is scale for group in distiller.parameter_groups() for parameter in group.parameters)
    assert "methods.mine.scale" in distiller.state_dict()
    assert not any("scale" in name for name in distiller.student.exported().state_dict())


def test_its_parameters_have_gradients_of_zero_where_the_decay_is_zero() -> None:
    distiller, _ = step(small_config(OWN), decay=0.0)
    scale = distiller.methods["mine"].scale
    assert isinstance(scale, nn.Parameter) and scale.grad is not None and not scale.grad.any()


def test_a_method_that_has_nothing_to_compare_leaves_gradients_of_zero_beside_another() -> None:
    distiller, terms = step(small_config(OWN.replace(":Mean", ":Silent"), "methods.tar.feature.weight=1"))
    scale = distiller.methods["mine"].scale
    assert "distillation/mine" not in terms and terms["distillation/tar/feature"] > 0
    assert isinstance(scale, nn.Parameter) and scale.grad is not None and not scale.grad.any()


def test_a_method_without_a_weight_is_not_built() -> None:
    distiller, _ = step(small_config(OWN, "methods.mine.weight=0", "methods.tar.feature.weight=1"))
    assert [*distiller.methods] == ["tar"]


@pytest.mark.parametrize("settings", ["", ", settings: {power: 1}"])
def test_a_run_with_a_method_of_ones_own_goes_on_with_the_same_settings_only(settings: str, tmp_path: Path) -> None:
    def config(power: str = "") -> Config:
        return small_config(f"methods={{mine: {{method: 'a:B'{power or settings}}}}}", f"output={tmp_path}")

    run = stage_of(config(), "distilled")
    run.path.mkdir(parents=True)
    write_settings(config(), "distilled")
    run.checkpoint.touch()
    refuse_other_settings(config())
    with pytest.raises(UserError, match=r"methods\.mine\.settings\.power=(1|unset) then, 2 now"):
        refuse_other_settings(config(", settings: {power: 2}"))


def test_its_weight_is_part_of_the_control_the_progress_and_the_settings() -> None:
    config = small_config(OWN)
    assert config.weights == {"methods.mine.weight": 2.0}
    assert not small_config(OWN, "methods.mine.weight=0").distills


@pytest.mark.parametrize(
    ("method", "said"),
    [
        (
            "nowhere:Mean",
            r"methods\.mine\.method: must be a class or a function that can be imported .* got nowhere:Mean",
        ),
        (f"{__name__}:Missing", "must be a class or a function that can be imported"),
        (__name__, "must be module:name, got"),
        (f"{__name__}:not_a_method", "must be a raydistill Method, .* a Identity"),
        (f"{__name__}:Demanding", r"the teacher must be able to fly, got FasterRCNNDetector; take another"),
    ],
)
def test_a_method_that_cannot_run_is_a_users_error(method: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        step(small_config(f"methods={{mine: {{method: '{method}'}}}}"))


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("methods.tarr.weight=1", r"methods\.tarr: no such method; did you mean tar\?.* methods\.tarr\.method"),
        ("methods.tar.featur.weight=1", r"methods\.tar\.featur: no such setting; did you mean methods\.tar\.feature"),
        ("methods={mine: {method: 'a:B', wieght: 1}}", r"methods\.mine\.wieght: no such setting"),
    ],
)
def test_a_mistyped_method_is_named_with_what_was_meant(override: str, said: str) -> None:
    with pytest.raises(UserError, match=said):
        small_config(override)


def test_a_teacher_that_proposes_nothing_is_refused_before_anything_is_trained() -> None:
    config = small_config()
    student, teacher = pair(config)
    assert isinstance(teacher, ProposesRegions)
    blind = _WithoutProposals(teacher)
    with pytest.raises(UserError, match=r"methods\.tar\.regions\.source: the teacher must propose regions, got _With"):
        Distiller(student, blind, config)
    Distiller(student, blind, small_config("methods.tar.regions.source=student"))


class _WithoutProposals(Detector):
    """A detector that answers at regions and has anchors, but proposes nothing."""

    def __init__(self, inner: Any) -> None:
        super().__init__()
        self.feature_levels, self.feature_channels = inner.feature_levels, inner.feature_channels
        self.normalization = inner.normalization
        for name in ("answer", "num_anchors", "score_anchors_at", "decode_anchor_boxes"):
            setattr(self, name, getattr(inner, name))

    def prepare(self, *given: Any) -> Any: ...

    def extract_features(self, *given: Any) -> Any: ...

    def train_step(self, *given: Any) -> Any: ...

    def detect(self, *given: Any) -> Any: ...

    def exported(self) -> Any: ...

    def feature_extractor(self) -> Any: ...
