"""What the student learns from the teacher, METHOD sections 2 to 7.

Why a default is what it is stands beside it: "measured" means tests/results/ablation.csv, where each setting was
changed alone on generated images, under one seed: there a difference below two or three points says nothing, and the
default is METHOD's choice.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from raydistill.config.base import Fraction, NonNegative, Positive, Section, ascending


class Distillation(Section):
    """What concerns the distilled student as a whole."""

    baseline: bool = True
    """Train the same student without a teacher too, for comparison."""
    initialize_from_teacher: bool = False
    """Start the student's neck and heads from the teacher's where the shapes agree (later work: ICD, FGD)."""
    preflight: Literal["strict", "warn"] = "strict"
    """What a distillation term that is zero on every worker's first batch is: an error or a warning."""
    teacher_precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """Type in which the teacher answers. ``auto``: ``bf16`` where the processors of all workers compute with it
    (AVX512-BF16, AMX), else that of ``training.precision``; decided once for a run or a sweep, and kept by whoever goes
    on with it. bf16 changes results: recipes whose numbers are quoted say ``fp32``. Measured on such a processor, in
    plain steps: 1.23 in bf16 and 1.43 in fp32 for the quickstart's nets, 1.34 and 1.93 for those of ``finetune`` at 640
    pixels (one run each). In AP it costs no more than noise: -0.1 on the blood cells' validation split (95% interval
    -1.0 to 0.8, 5 seeds; tests/results/README.md)."""
    compile_teacher: bool = False
    """Run the teacher's backbone through ``torch.compile``: pays in long runs on images of one size, since every new
    shape of a batch is compiled (a minute each, eight at most); needs a C++ compiler."""


class Regions(Section):
    """Region proposal sharing (METHOD section 2)."""

    source: Literal["student", "teacher", "both"] = "both"
    """Whose sampled proposals carry the head terms. Measured: ``student`` is 3.6 points below ``both``, ``teacher`` 1.3
    above."""


class Term(Section):
    """What every distillation term has."""

    weight: NonNegative = 1.0


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


class LinearDecay(Section):
    """d(t) = 1 - t."""

    shape: Literal["linear"]


class CosineDecay(Section):
    """d(t) = (1 + cos(pi t)) / 2."""

    shape: Literal["cosine"]


class ExponentialDecay(Section):
    """d(t) = exp(-rate t)."""

    shape: Literal["exponential"]
    rate: Positive = 5.0


class StepDecay(Section):
    """d(t) = factor to the power of the milestones that t has reached."""

    shape: Literal["step"]
    milestones: tuple[Fraction, ...] = (0.5, 0.75)
    factor: Fraction = 0.1

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        ascending("milestones", self.milestones)
        return self


class PolynomialDecay(Section):
    """d(t) = (1 - t) ** power."""

    shape: Literal["polynomial"]
    power: Positive = 2.0


class ConstantDecay(Section):
    """d(t) = 1: no decay."""

    shape: Literal["constant"]


Decay = Annotated[
    LinearDecay | CosineDecay | ExponentialDecay | StepDecay | PolynomialDecay | ConstantDecay,
    Field(discriminator="shape"),
]


class DistillationSections(Section):
    """The sections that a student alone is trained without.

    This is the one list of them, and of the terms: what a resumed run is compared by, the controls of a sweep, reports
    and the preflight go by it. A term is a field whose settings are a ``Term``.
    """

    distillation: Distillation = Distillation()
    regions: Regions = Regions()
    feature: Feature = Feature()
    classification: Classification = Classification()
    regression: Regression = Regression()
    rpn: Rpn = Rpn()
    decay: Decay = LinearDecay(shape="linear")

    @property
    def terms(self) -> dict[str, Term]:
        """The settings of every distillation term, by its name."""
        return {name: getattr(self, name) for name in TERMS}

    @property
    def distills(self) -> bool:
        """Whether any distillation term has a weight."""
        return any(term.weight > 0 for term in self.terms.values())


OF_DISTILLATION = tuple(DistillationSections.model_fields)
"""Names of the sections that a student alone is trained without."""
TERMS = tuple(name for name, field in DistillationSections.model_fields.items() if isinstance(field.default, Term))
"""Names of the distillation terms, each with a weight."""
