"""Every setting, its default and its range. The names are torchvision's where torchvision has one.

Each section is a frozen pydantic model that forbids unknown keys. Sections that come in kinds (``data``, ``decay``,
``training.schedule``) are unions told apart by a tag, so that a setting of another kind is an error and not silence.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

Fraction = Annotated[float, Field(ge=0, le=1)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]
WholeNumber = Annotated[int, Field(ge=0)]
Text = Annotated[str, Field(min_length=1)]

RESNETS = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")
NAMED_WEIGHTS = ("random", "imagenet", "coco")
_LARGEST_SHAPE = 0.8
COCO_BACKBONES = ("resnet50", "mobilenet_v3_large")


class Section(BaseModel):
    """A part of the tree: frozen, without unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True, use_attribute_docstrings=True)


def _ascending(name: str, values: tuple[float, ...]) -> None:
    if list(values) != sorted(set(values)):
        raise ValueError(f"{name} must be ascending without repeats, got {list(values)}")


# ---------------------------------------------------------------------------------------------------------------- data
class CocoData(Section):
    """Images with one COCO JSON per split; paths are relative to ``root``."""

    format: Literal["coco"]
    root: Text
    """Folder that the four paths below are relative to."""
    train_images: str = "train"
    train_annotations: str = "annotations/train.json"
    val_images: str = "val"
    val_annotations: str = "annotations/val.json"
    skip_images_without_objects: bool = False
    """Leave images without objects out of training (they always count in evaluation)."""


class VocData(Section):
    """A PASCAL VOC folder: ``JPEGImages``, ``Annotations`` and ``ImageSets/Main``."""

    format: Literal["voc"]
    root: Text
    train_split: str = "train"
    val_split: str = "val"
    classes: tuple[str, ...] | None = None
    """The classes in the order of their labels; unset: those found in the training split, by name."""
    difficult: Literal["ignore", "include"] = "ignore"
    """Objects marked ``difficult``: left out of training and neither hit nor miss in evaluation, or like any other."""
    coordinates: Literal["one_based", "zero_based"] = "one_based"
    """``one_based``: pixel 1 is the first and xmax belongs to the box (VOC's own files); ``zero_based``: corners as
    they stand (what many labelling tools write)."""
    skip_images_without_objects: bool = False

    @model_validator(mode="after")
    def _classes_once(self) -> Self:
        if self.classes is not None and (not self.classes or len(set(self.classes)) != len(self.classes)):
            raise ValueError(f"classes must name at least one class and none twice, got {list(self.classes)}")
        return self


class ShapesData(Section):
    """Generated images: coloured shapes on textured, cluttered backgrounds, drawn from ``seed``."""

    format: Literal["shapes"]
    num_train: Count = 600
    num_val: Count = 150
    size: Annotated[int, Field(ge=32, le=2048)] = 96
    """Side of the square images in pixels."""
    max_objects: Count = 4
    object_sizes: tuple[Positive, Positive] = (0.1, 0.6)
    """Smallest and largest diameter of a shape, relative to the side of the image."""
    difficulty: Fraction = 0.5
    """0: plain ground, strong contrast, no occlusion; 1: strong texture and clutter, weak contrast, much occlusion."""
    seed: WholeNumber = 0
    """Seed of the drawings; apart from the run's seed, so that runs with other seeds see the same images."""

    @model_validator(mode="after")
    def _sizes_fit(self) -> Self:
        smallest, largest = self.object_sizes
        if not smallest <= largest <= _LARGEST_SHAPE:
            raise ValueError(
                f"object_sizes must be [smallest, largest] with smallest <= largest <= {_LARGEST_SHAPE}, got "
                f"[{smallest}, {largest}]"
            )
        return self


Data = Annotated[CocoData | VocData | ShapesData, Field(discriminator="format")]


class Input(Section):
    """How images reach the nets: both nets see the same pixels."""

    min_size: Count = 800
    """The shorter side is resized to this many pixels ..."""
    max_size: Count = 1333
    """... unless the longer side would exceed this."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.max_size < self.min_size:
            raise ValueError(f"max_size must be at least min_size, got {self.max_size} < {self.min_size}")
        return self


class Augmentation(Section):
    """Random changes of the training images, the same for every stage at the same seed."""

    horizontal_flip: Fraction = 0.5
    """Probability of mirroring left to right."""
    scale_jitter: tuple[Positive, Positive] = (1.0, 1.0)
    """Zoom factor drawn log-uniformly from this range; the frame keeps its size (crop when above 1, pad when below)."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        low, high = self.scale_jitter
        if low > high:
            raise ValueError(f"scale_jitter must be [low, high] with low <= high, got [{low}, {high}]")
        return self


class Loader(Section):
    """How images are fetched."""

    num_workers: WholeNumber = 2
    """Loader processes per training worker; 0: images are decoded in the training process."""
    group_by_aspect_ratio: bool = True
    """Batches hold wide or tall images, not both: less padding."""


# ----------------------------------------------------------------------------------------------------------- detectors
class Detector(Section):
    """A Faster R-CNN with FPN, torchvision's parts and names."""

    backbone: Literal[
        "resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "mobilenet_v3_large", "mobilenet_v3_small"
    ]
    weights: Text = "imagenet"
    """``random``, ``imagenet`` (torchvision's backbone), ``coco`` (its detector), or a file or run of ours."""
    norm: Literal["batch", "frozen", "group"]
    """Normalisation of the backbone. Unset: ``frozen`` with pretrained weights, else ``batch``."""
    trainable_layers: WholeNumber
    """Backbone stages that learn, from the top. Unset: torchvision's 3 with pretrained weights, else all."""
    fpn_channels: Count = 256
    returned_layers: tuple[Count, ...]
    """Backbone stages that feed the FPN. Unset: torchvision's (1 to 4 for a ResNet, the last two for a MobileNetV3)."""
    anchor_sizes: tuple[tuple[Positive, ...], ...]
    """Sides of the anchors in pixels of the resized image, per pyramid level. Unset: torchvision's."""
    anchor_aspect_ratios: tuple[Positive, ...] = (0.5, 1.0, 2.0)
    box_head_size: Count = 1024
    """Width of the two layers of the box head (torchvision's ``representation_size``)."""
    rpn_pre_nms_top_n_train: Count = 2000
    rpn_pre_nms_top_n_test: Count = 1000
    rpn_post_nms_top_n_train: Count = 2000
    rpn_post_nms_top_n_test: Count = 1000
    rpn_batch_size_per_image: Count = 256
    box_batch_size_per_image: Count = 512
    box_score_thresh: Fraction = 0.05
    box_nms_thresh: Fraction = 0.5
    box_detections_per_img: Count = 100

    @model_validator(mode="before")
    @classmethod
    def _torchvision_defaults(cls, raw: Any) -> Any:
        """Fill in what depends on the backbone and on the weights, so that the printed config says what runs."""
        if not isinstance(raw, dict):
            return raw
        resnet = str(raw.get("backbone", "")).startswith("resnet")
        pretrained = raw.get("weights", "imagenet") in ("imagenet", "coco")
        returned = raw.get("returned_layers") or ((1, 2, 3, 4) if resnet else (4, 5))
        num_levels = len(returned) + 1 if isinstance(returned, (list, tuple)) else 5
        if resnet or num_levels == 5:
            anchors: Any = tuple((float(32 * 2**level),) for level in range(min(num_levels, 9)))
        else:
            anchors = ((32.0, 64.0, 128.0, 256.0, 512.0),) * num_levels
        defaults: dict[str, Any] = {
            "norm": "frozen" if pretrained else "batch",
            "trainable_layers": 3 if pretrained else (5 if resnet else 6),
            "returned_layers": returned,
            "anchor_sizes": anchors,
        }
        return raw | {key: value for key, value in defaults.items() if raw.get(key) is None}

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        resnet = self.backbone in RESNETS
        last = 4 if resnet else 5
        most = 5 if resnet else 6
        if self.trainable_layers > most:
            raise ValueError(
                f"trainable_layers must be at most {most} for {self.backbone}, got {self.trainable_layers}"
            )
        if self.trainable_layers < most and self.weights == "random":
            raise ValueError(f"trainable_layers must be {most} with random weights: frozen noise learns nothing")
        _ascending("returned_layers", self.returned_layers)
        if not self.returned_layers or self.returned_layers[-1] > last:
            raise ValueError(f"returned_layers must lie in 1 to {last} for {self.backbone}")
        if len(self.anchor_sizes) != len(self.returned_layers) + 1:
            raise ValueError(
                f"anchor_sizes must hold one list per pyramid level, {len(self.returned_layers) + 1} "
                f"(returned_layers and one pooled), got {len(self.anchor_sizes)}"
            )
        if len({len(sizes) for sizes in self.anchor_sizes}) != 1 or not self.anchor_sizes[0]:
            raise ValueError("anchor_sizes must hold as many sizes on every level: the RPN head is shared")
        if self.weights == "coco" and self.backbone not in COCO_BACKBONES:
            raise ValueError(
                f"weights 'coco' exist in torchvision for {' and '.join(COCO_BACKBONES)} only, got {self.backbone}"
            )
        if self.weights == "coco":
            self._fits_coco()
        if self.norm == "group" and self.weights in ("imagenet", "coco"):
            raise ValueError(f"norm must be 'batch' or 'frozen' with {self.weights} weights: they were trained so")
        if self.norm == "frozen" and self.weights == "random":
            raise ValueError("norm must be 'batch' or 'group' with random weights: a frozen one never learns its scale")
        return self

    def _fits_coco(self) -> None:
        """Raise where a setting is not that of torchvision's COCO detector: shapes alone would not tell."""
        plain = Detector.model_validate({"backbone": self.backbone, "weights": "imagenet"})
        for name in ("fpn_channels", "returned_layers", "anchor_sizes", "anchor_aspect_ratios", "box_head_size"):
            if getattr(self, name) != getattr(plain, name):
                raise ValueError(f"{name} must be torchvision's with weights 'coco'; remove it")


class Teacher(Detector):
    """The teacher: a detector, and how it comes to its weights."""

    train: bool
    """Train it first. Unset: yes, unless ``weights`` is a file or a run of ours."""
    epochs: Count | None = None
    """Epochs of its own training; unset: ``training.epochs``. Without effect when it is not trained: a recipe's epochs
    must not stand in the way of weights given on the command line."""
    learning_rate: Positive | None = None
    """Learning rate of its own training; unset: ``training.optimizer.learning_rate``."""

    @model_validator(mode="before")
    @classmethod
    def _train_unless_given(cls, raw: Any) -> Any:
        if isinstance(raw, dict) and raw.get("train") is None:
            return raw | {"train": raw.get("weights", "imagenet") in NAMED_WEIGHTS}
        return raw

    @model_validator(mode="after")
    def _trained_somehow(self) -> Self:
        if not self.train and self.weights in ("random", "imagenet"):
            raise ValueError(f"train must be true with weights '{self.weights}': such a teacher detects nothing")
        return self


# -------------------------------------------------------------------------------------------------------- distillation
class Distillation(Section):
    """What concerns the distilled student as a whole."""

    baseline: bool = True
    """Train the same student without a teacher too, for comparison."""
    initialize_from_teacher: bool = False
    """Start the student's neck and heads from the teacher's where the shapes agree (later work: ICD, FGD)."""
    preflight: Literal["strict", "warn"] = "strict"
    """What a distillation term that is zero on every worker's first batch is: an error or a warning."""


class Regions(Section):
    """Region proposal sharing (METHOD section 2)."""

    source: Literal["student", "teacher", "both"] = "both"
    """Whose sampled proposals carry the head terms."""


class Feature(Section):
    """The feature backbone level (METHOD section 3)."""

    weight: NonNegative = 3.0
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


class Classification(Section):
    """The classification head level (METHOD section 4)."""

    weight: NonNegative = 1.0
    gate: Literal["teacher_better", "foreground", "all"] = "teacher_better"
    divergence: Literal["bce", "kl"] = "bce"
    temperature: Positive = 1.0
    """Softens both distributions; with ``kl`` only."""

    @model_validator(mode="after")
    def _has_effect(self) -> Self:
        if self.divergence != "kl" and self.temperature != 1.0:
            raise ValueError(f"temperature has no effect with divergence '{self.divergence}'; remove it")
        return self


class Regression(Section):
    """The box regression head level (METHOD section 5)."""

    weight: NonNegative = 1.0
    reference: Literal["student", "proposal", "none"] = "student"
    """The teacher's box must beat this one for the region to count; ``none``: every foreground region counts."""


class Rpn(Section):
    """The region proposal network (METHOD section 6)."""

    weight: NonNegative = 1.0
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
        _ascending("milestones", self.milestones)
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


# ------------------------------------------------------------------------------------------------------------ training
class Optimizer(Section):
    """The optimizer; norms and biases never carry weight decay."""

    name: Literal["sgd", "adamw"] = "sgd"
    learning_rate: Positive = 0.02
    weight_decay: NonNegative = 1e-4
    momentum: Fraction = 0.9
    """SGD only."""

    @model_validator(mode="after")
    def _has_effect(self) -> Self:
        if self.name == "adamw" and self.momentum != 0.9:
            raise ValueError("momentum has no effect with adamw; remove it")
        return self


class StepSchedule(Section):
    """Learning rate times ``factor`` at each milestone, a fraction of the training (1x schedule: 8/12 and 11/12)."""

    shape: Literal["step"]
    milestones: tuple[Fraction, ...] = (0.6667, 0.9167)
    factor: Fraction = 0.1
    warmup_steps: WholeNumber = 500
    """Optimizer steps over which the learning rate rises linearly from ``warmup_factor``."""
    warmup_factor: Fraction = 0.001

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        _ascending("milestones", self.milestones)
        return self


class CosineSchedule(Section):
    """Learning rate falls from 1 to ``final_factor`` along half a cosine."""

    shape: Literal["cosine"]
    final_factor: Fraction = 0.0
    warmup_steps: WholeNumber = 500
    warmup_factor: Fraction = 0.001


Schedule = Annotated[StepSchedule | CosineSchedule, Field(discriminator="shape")]


class Training(Section):
    """One stage of training; teacher, baseline and distilled student share it."""

    epochs: Count = 12
    batch_size: Count = 16
    """Images per optimizer step, over all workers and accumulated parts."""
    accumulation: Count = 1
    """Parts that a batch is worked off in, one after the other, where memory does not hold all of it."""
    optimizer: Optimizer = Optimizer()
    schedule: Schedule = StepSchedule(shape="step")
    clip_grad_norm: Positive | None = None
    """Largest gradient norm; unset: no clipping."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """Autocast type of the forward passes; weights stay fp32."""


class Evaluation(Section):
    """When and how the student is scored on the validation split."""

    every: Count = 1
    """Epochs between evaluations; the last epoch is always evaluated."""
    batch_size: Count = 4
    """Images per worker and forward pass."""
    best_metric: Literal["AP", "AP50", "AP75"] = "AP"
    """``best.pt`` is the epoch with the highest of this; it is what the comparison table and the distillation use."""


class Scaling(Section):
    """Ray Train's workers."""

    num_workers: Count = 1
    use_gpu: bool | Literal["auto"] = "auto"
    """``auto``: yes where there is a GPU for every worker."""
    cpus_per_worker: Count | Literal["auto"] = "auto"
    """CPUs (and threads) of a worker; ``auto``: an equal share of one machine's."""
    gpus_per_worker: Count = 1
    max_failures: WholeNumber = 3
    """Lost workers or nodes survived before the run gives up."""

    @model_validator(mode="after")
    def _has_effect(self) -> Self:
        if self.use_gpu is False and self.gpus_per_worker != 1:
            raise ValueError("gpus_per_worker has no effect with use_gpu false; remove it")
        return self


class Config(Section):
    """A complete run: teacher, student alone, student distilled."""

    output: Text
    """Directory of the results; one run directory per stage below it."""
    seed: WholeNumber = 0
    data: Data
    input: Input = Input()
    augmentation: Augmentation = Augmentation()
    loader: Loader = Loader()
    teacher: Teacher
    student: Detector
    distillation: Distillation = Distillation()
    regions: Regions = Regions()
    feature: Feature = Feature()
    classification: Classification = Classification()
    regression: Regression = Regression()
    rpn: Rpn = Rpn()
    decay: Decay = LinearDecay(shape="linear")
    training: Training = Training()
    evaluation: Evaluation = Evaluation()
    scaling: Scaling = Scaling()

    @property
    def distills(self) -> bool:
        """Whether any distillation term has a weight."""
        return any(section.weight > 0 for section in (self.feature, self.classification, self.regression, self.rpn))


def conflicts(config: Config) -> list[str]:
    """Say what does not fit together between sections, as ``section.key: what must hold, got value``."""
    problems = [
        f"{where}: must be a path that all workers share, got {path}; object stores cannot be used directly"
        for where, path in (
            ("output", config.output),
            ("data.root", getattr(config.data, "root", "")),
            ("teacher.weights", config.teacher.weights),
            ("student.weights", config.student.weights),
        )
        if "://" in path
    ]
    if config.distillation.initialize_from_teacher and not config.distills:
        problems.append("distillation.initialize_from_teacher: has no effect when every distillation weight is 0")
    training, teacher, student = config.training, config.teacher, config.student
    parts = config.scaling.num_workers * training.accumulation
    if training.batch_size % parts:
        problems.append(
            "training.batch_size: must be a multiple of scaling.num_workers x training.accumulation = "
            f"{parts}, got {training.batch_size}"
        )
    if training.precision == "fp16" and config.scaling.use_gpu is False:
        problems.append("training.precision: fp16 needs a GPU and scaling.use_gpu is false; use bf16 or fp32")
    same_anchors = (teacher.anchor_sizes, teacher.anchor_aspect_ratios) == (
        student.anchor_sizes,
        student.anchor_aspect_ratios,
    )
    if config.rpn.weight and not same_anchors:
        problems.append(
            "rpn.weight: teacher and student must have the same anchors where the RPN is distilled, got "
            f"teacher.anchor_sizes {_plain(teacher.anchor_sizes)} and student.anchor_sizes "
            f"{_plain(student.anchor_sizes)} (ratios {_plain(teacher.anchor_aspect_ratios)} and "
            f"{_plain(student.anchor_aspect_ratios)}); give both the same or set rpn.weight=0"
        )
    if config.feature.weight and config.feature.adapter == "identity" and teacher.fpn_channels != student.fpn_channels:
        problems.append(
            "feature.adapter: 'identity' needs equal channels, got teacher.fpn_channels "
            f"{teacher.fpn_channels} and student.fpn_channels {student.fpn_channels}; use conv1x1"
        )
    return problems


def _plain(values: Any) -> Any:
    return [_plain(value) for value in values] if isinstance(values, tuple) else values
