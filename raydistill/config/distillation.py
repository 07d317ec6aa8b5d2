"""The sections that a student alone is trained without: how it is distilled, by which methods, and how that decays."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from raydistill.config.base import Fraction, Positive, Section, ascending
from raydistill.config.methods import Methods, Tar, Term

Engine = Literal["torch", "onnxruntime", "openvino"]
"""What computes a net."""


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
    shape of a batch is compiled (a minute each, eight at most: a run says where there are more); needs a compiler."""
    teacher_engine: Engine = "torch"
    """What computes the teacher's feature maps on a processor: ``onnxruntime`` (extra ``export``) in fp32, ``openvino``
    (extra ``openvino``) in fp32, or in bf16 where the processor computes with it. Batches may have any size. The maps
    are torch's up to rounding (4e-6 of the largest value in fp32), which changes results within noise: a run goes on
    with the engine that it was begun with. In torch's fp32 time, on a busy machine: 0.83 to 0.87, in OpenVINO's bf16
    0.42 to 0.45 where torch's takes 0.46 to 0.57 (tests/results/engines.csv). int8 is not offered: its maps were
    off by 28 % of the largest value, and nobody has looked at what that costs in AP."""


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

    What a resumed run is compared by, the controls of a sweep and reports go by this list; by ``terms`` goes all that
    weighs, checks or shows a term.
    """

    distillation: Distillation = Distillation()
    methods: Methods = Methods(tar=Tar())
    decay: Decay = LinearDecay(shape="linear")

    @property
    def terms(self) -> dict[str, Term]:
        """The settings of every distillation term of the methods that run, by its name (``tar.feature``, ``pkd``)."""
        return {
            f"{method}.{term}" if term else method: settings
            for method, section in self.methods.named().items()
            for term, settings in section.terms.items()
        }

    @property
    def weights(self) -> dict[str, float]:
        """The weight of every distillation term by the setting's name (``methods.tar.feature.weight``)."""
        return {f"methods.{name}.weight": term.weight for name, term in self.terms.items()}

    @property
    def distills(self) -> bool:
        """Whether any distillation term has a weight."""
        return any(term.weight > 0 for term in self.terms.values())


OF_DISTILLATION = tuple(DistillationSections.model_fields)
"""Names of the sections that a student alone is trained without."""
