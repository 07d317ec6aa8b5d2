"""What the student learns from the teacher: a section of settings for each distillation method.

A method is added in two files: its settings here, with a field of ``Methods``, and what it computes in a module of
``raydistill.methods``, which the settings name. A section is a ``Term`` where the method has one, else its terms are
the fields of the section that are a ``Term``: what shows or compares terms goes by that, nothing lists them.

Why a default is what it is stands beside it: "measured" means tests/results/ablation.csv, where each setting was
changed alone on generated images, under one seed: there a difference below two or three points says nothing, and the
default is METHOD's choice.
"""

from __future__ import annotations

import difflib
from typing import Any, ClassVar, Literal, Self

from pydantic import ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from raydistill.config.base import NonNegative, Positive, Section, Text
from raydistill.config.detector import AnyDetector, Detector


class Term(Section):
    """What every distillation term has."""

    weight: NonNegative = 1.0


class MethodSettings(Section):
    """The settings of a method."""

    implementation: ClassVar[str]
    """``module:class`` of what computes it, a ``raydistill.methods.base.Method``."""

    @property
    def terms(self) -> dict[str, Term]:
        """Its terms by their names; the name of a method's only term is empty."""
        if isinstance(self, Term):
            return {"": self}
        fields = {name: getattr(self, name) for name in type(self).model_fields}
        return {name: value for name, value in fields.items() if isinstance(value, Term)}

    @property
    def runs(self) -> bool:
        """Whether any of its terms has a weight."""
        return any(term.weight for term in self.terms.values())

    def idle(self) -> set[str]:
        """Return the names of its settings that change nothing, as things are: those of terms without a weight."""
        return {name for name, term in self.terms.items() if name and not term.weight}

    def conflicts(self, teacher: AnyDetector, student: AnyDetector) -> list[str]:  # noqa: ARG002
        """Say what does not fit to the nets, as ``key: what must hold, got value``."""
        return []


class Regions(Section):
    """Region proposal sharing (METHOD section 2)."""

    source: Literal["student", "teacher", "both"] = "both"
    """Whose sampled proposals carry the head terms. Measured under one seed: ``student`` is 3.6 points below ``both``,
    ``teacher`` 1.3 above; under three: ``student`` 0.1 above on validation and 1.5 below on test images, at 0.85 of the
    step's cost (tests/results/README.md, Regions and draws)."""


class Feature(Term):
    """The feature backbone level (METHOD section 3)."""

    weight: NonNegative = 3.0
    """Measured: 3 is the best of 0, 0.3, 1, 3 and 10, by 1.7 to 4.5 points."""
    mask: Literal["gaussian", "box", "full"] = "gaussian"
    sigma_squared: Positive = 2.0
    """Width of the Gaussian: 2 makes the standard deviation half the side of the box."""
    levels: Literal["all", "assigned"] = "all"
    """``assigned``: each box only on the pyramid level that the FPN would pool it from."""
    adapter: Literal["conv1x1", "conv3x3", "identity"] = "conv1x1"
    """Train-only layer per level from student to teacher channels; never part of the exported student."""
    normalization: Literal["none", "teacher_variance"] = "none"
    """``teacher_variance`` divides each level by the variance of the teacher's map: the weight means the same for
    every teacher."""
    background_weight: NonNegative = 0.0
    """Weight of the same distance outside the boxes, relative to ``weight`` (not in the paper; later work has it)."""

    @model_validator(mode="after")
    def _has_effect(self) -> Self:
        if self.mask != "gaussian" and self.sigma_squared != 2.0:
            raise ValueError(f"sigma_squared has no effect with mask '{self.mask}'; remove it")
        if self.mask == "full" and self.levels != "all":
            raise ValueError("levels 'assigned' has no effect with mask 'full'; remove it")
        if self.mask == "full" and self.background_weight:
            raise ValueError("background_weight has no effect with mask 'full': no background is left; remove it")
        return self


class Classification(Term):
    """The classification head level (METHOD section 4)."""

    weight: NonNegative = 1.0
    """Measured: the term that matters most, 0 loses 14 points; 3 is no better."""
    gate: Literal["teacher_better", "teacher_better_all", "foreground", "all"] = "teacher_better"
    """Which regions count: foreground ones where the teacher gives the true class a higher probability;
    ``teacher_better_all``: background ones too, where it is surer of the background; ``foreground``: every foreground
    one; ``all``: every one. A term on the foreground only makes the student surer of everything than the teacher is
    (``logging.diagnosis`` shows it), which speeds up a student far from its end; near it ``teacher_better_all`` may do
    better."""
    divergence: Literal["bce", "kl"] = "bce"
    temperature: Positive = 1.0
    """Softens both distributions; with ``kl`` only."""

    @model_validator(mode="after")
    def _has_effect(self) -> Self:
        if self.divergence != "kl" and self.temperature != 1.0:
            raise ValueError(f"temperature has no effect with divergence '{self.divergence}'; remove it")
        return self


class Regression(Term):
    """The box regression head level (METHOD section 5)."""

    weight: NonNegative = 1.0
    """Measured: 0 loses 0.9 points, 3 loses 2.2: of little effect, as the ground truth pulls the same way."""
    reference: Literal["student", "proposal", "none"] = "student"
    """The teacher's box must beat this one for the region to count; ``none``: every foreground region counts."""


class Rpn(Term):
    """The region proposal network (METHOD section 6)."""

    weight: NonNegative = 1.0
    """Measured: 0 loses 4.4 points, 3 is no better."""
    gate: Literal["teacher_better", "foreground"] = "teacher_better"
    reference: Literal["student", "proposal", "none"] = "student"


class Tar(MethodSettings):
    """Task-adaptive regularization: imitate the teacher where it does better (METHOD sections 2 to 6)."""

    implementation = "raydistill.methods.tar.method:Tar"

    regions: Regions = Regions()
    feature: Feature = Feature()
    classification: Classification = Classification()
    regression: Regression = Regression()
    rpn: Rpn = Rpn()

    def idle(self) -> set[str]:
        """Return the terms without a weight, and the regions where neither head has one: only they see regions."""
        heads = self.classification.weight or self.regression.weight
        return super().idle() | (set() if heads else {"regions"})

    def conflicts(self, teacher: AnyDetector, student: AnyDetector) -> list[str]:
        """Say where anchors or channels differ that must not; what nets of one's own have is seen later."""
        if not isinstance(teacher, Detector) or not isinstance(student, Detector):
            return []
        problems = []
        same_anchors = (teacher.anchor_sizes, teacher.anchor_aspect_ratios) == (
            student.anchor_sizes,
            student.anchor_aspect_ratios,
        )
        if self.rpn.weight and not same_anchors:
            problems.append(
                "rpn.weight: teacher and student must have the same anchors where the RPN is distilled, got "
                f"teacher.anchor_sizes {_plain(teacher.anchor_sizes)} and student.anchor_sizes "
                f"{_plain(student.anchor_sizes)} (ratios {_plain(teacher.anchor_aspect_ratios)} and "
                f"{_plain(student.anchor_aspect_ratios)}); give both the same or set methods.tar.rpn.weight=0"
            )
        identity = self.feature.weight and self.feature.adapter == "identity"
        if identity and teacher.fpn_channels != student.fpn_channels:
            problems.append(
                "feature.adapter: 'identity' needs equal channels, got teacher.fpn_channels "
                f"{teacher.fpn_channels} and student.fpn_channels {student.fpn_channels}; use conv1x1"
            )
        return problems


class OwnMethod(Term, MethodSettings):
    """A method of the user's own, with one term."""

    implementation = ""

    method: Text
    """``module:class`` of a ``raydistill.methods.base.Method`` that can be imported where the training runs."""
    settings: dict[str, Any] = Field(default_factory=dict)
    """What it is handed as its settings."""


class Methods(Section):
    """The methods that run, by name; any other name is one of the user's own, which says what computes it."""

    model_config = ConfigDict(extra="allow", frozen=True)
    __pydantic_extra__: dict[str, OwnMethod] = Field(init=False)

    tar: Tar | None = None

    @model_validator(mode="before")
    @classmethod
    def _known(cls, raw: Any) -> Any:
        """Refuse a name that says nothing of what computes it."""
        if isinstance(raw, dict):
            for name, section in raw.items():
                if name not in cls.model_fields and not (isinstance(section, dict) and "method" in section):
                    near = difflib.get_close_matches(str(name), list(cls.model_fields), n=1)
                    raise ValueError(
                        f"{name} no such method{f'; did you mean {near[0]}?' if near else ''}; one of your own needs "
                        f"methods.{name}.method, the module:class that computes it"
                    )
        return raw

    @model_serializer(mode="wrap")
    def _only_named(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out the methods that do not run."""
        return {name: section for name, section in handler(self).items() if section is not None}

    def named(self) -> dict[str, MethodSettings]:
        """Return the settings of the methods that run, by name."""
        fields = {name: getattr(self, name) for name in type(self).model_fields} | (self.model_extra or {})
        return {name: settings for name, settings in fields.items() if settings is not None}


def settings_of_method(name: str) -> type[MethodSettings]:
    """Return the class of a method's settings."""
    field = Methods.model_fields.get(name)
    kinds = getattr(field.annotation, "__args__", ()) if field is not None else ()
    return next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, MethodSettings)), OwnMethod)


def _plain(values: Any) -> Any:
    return [_plain(value) for value in values] if isinstance(values, tuple) else values
