"""The nets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Discriminator, Field, Tag, model_validator

from raydistill.config.base import (
    Channels,
    Count,
    Fraction,
    Millions,
    Positive,
    Section,
    Text,
    WholeNumber,
    ascending,
)

RESNETS = ("resnet18", "resnet34", "resnet50", "resnet101", "resnet152")
NAMED_WEIGHTS = ("random", "imagenet", "coco")
COCO_BACKBONES = ("resnet50", "mobilenet_v3_large")


class Detector(Section):
    """A Faster R-CNN with FPN, torchvision's parts and names."""

    backbone: Literal[
        "resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "mobilenet_v3_large", "mobilenet_v3_small"
    ]
    weights: Text = "imagenet"
    """``random``, ``imagenet`` (torchvision's backbone), ``coco`` (its detector), or a file or run of ours, also
    on an object store; a local one reaches the machines of a Ray cluster by itself."""
    norm: Literal["batch", "frozen", "group"]
    """Normalisation of the backbone. Unset: ``frozen`` with pretrained weights, else ``batch``."""
    trainable_layers: WholeNumber
    """Backbone stages that learn, from the top. Unset: torchvision's 3 with pretrained weights, else all."""
    fpn_channels: Channels = 256
    returned_layers: tuple[Count, ...]
    """Backbone stages that feed the FPN. Unset: torchvision's (1 to 4 for a ResNet, the last two for a MobileNetV3)."""
    anchor_sizes: tuple[tuple[Positive, ...], ...]
    """Sides of the anchors in pixels of the resized image, per pyramid level. Unset: torchvision's."""
    anchor_aspect_ratios: tuple[Positive, ...] = (0.5, 1.0, 2.0)
    box_head_size: Channels = 1024
    """Width of the two layers of the box head (torchvision's ``representation_size``)."""
    rpn_pre_nms_top_n_train: Millions = 2000
    rpn_pre_nms_top_n_test: Millions = 1000
    rpn_post_nms_top_n_train: Millions = 2000
    rpn_post_nms_top_n_test: Millions = 1000
    rpn_batch_size_per_image: Millions = 256
    box_batch_size_per_image: Millions = 512
    box_score_thresh: Fraction = 0.05
    box_nms_thresh: Fraction = 0.5
    box_detections_per_img: Millions = 100

    @property
    def short_name(self) -> str:
        """What a table calls it."""
        return self.backbone

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
        ascending("returned_layers", self.returned_layers)
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


class OwnDetector(Section):
    """A detector of the user's own."""

    detector: Text
    """``module:name`` of a ``raydistill.detectors.base.Detector`` that can be imported where the training runs, or of a
    function whose signature says that it returns one; called with ``settings``, the section ``input`` and the names of
    the classes."""
    weights: Text = "random"
    """``random``: those it is built with; or a file or run of ours, as for other detectors."""
    settings: dict[str, Any] = Field(default_factory=dict)
    """What it is handed as its settings."""

    @property
    def short_name(self) -> str:
        """What a table calls it."""
        return self.detector

    @model_validator(mode="after")
    def _nobody_else_knows_it(self) -> Self:
        if self.weights in ("imagenet", "coco"):
            raise ValueError(
                f"weights must be 'random' or a file for a detector of your own, got '{self.weights}'; load others "
                "where it is built"
            )
        return self


def _off(value: Any) -> Any:
    """Return YAML's bare ``off``, which is false there, as the text that was meant."""
    return "off" if value is False else value


class Taught(Section):
    """How a teacher comes to its weights."""

    train: bool
    """Train it first. Unset: yes, unless ``weights`` is a file or a run of ours."""
    epochs: Millions | None = None
    """Epochs of its own training; unset: ``training.epochs``. Without effect when it is not trained: a recipe's epochs
    must not stand in the way of weights given on the command line."""
    learning_rate: Positive | None = None
    """Learning rate of its own training; unset: ``training.optimizer.learning_rate``."""
    cache: Annotated[Literal["auto", "memory", "disk", "off"], BeforeValidator(_off)] = "auto"
    """Keep what it says about an image for every later epoch in which the same picture comes, in the ``memory`` of the
    training process, or on ``disk``, where all trials and workers of a machine share it. ``auto``: with
    ``augmentation.draws``, where that fits; else off. With it the teacher is asked image by image, each padded by its
    own size alone (``exact``): near the edges of smaller images other answers than about whole batches."""
    cache_folder: Text | None = None
    """Folder on a fast disk of each machine; unset: ``teacher`` in ``$RAYDISTILL_CACHE``, else in
    ``~/.cache/raydistill``. ``raydistill cache`` shows and clears it."""
    cache_max_gb: Annotated[Positive, Field(le=10**9)] = 50
    """Most that is kept, in 10^9 bytes. On disk, what no running command uses goes first; a run never drives out its
    own."""
    cache_half: bool = False
    """Keep its maps in 16 bits (fp16) instead of 32: half the size, off by 0.05 % at most. It trains on them so whether
    they come from the cache or not."""
    exact: bool = False
    """Ask it image by image also where nothing is kept: then a run has the same numbers to the bit with ``cache`` on
    and off."""

    @model_validator(mode="before")
    @classmethod
    def _train_unless_given(cls, raw: Any) -> Any:
        if isinstance(raw, dict) and raw.get("train") is None:
            return raw | {"train": raw.get("weights", cls.model_fields["weights"].default) in NAMED_WEIGHTS}
        return raw

    @model_validator(mode="after")
    def _kept_somewhere(self) -> Self:
        if self.cache_folder is not None and self.cache in ("memory", "off"):
            raise ValueError(f"cache_folder has no effect with cache '{self.cache}'; remove it")
        if self.cache_folder is not None and "://" in self.cache_folder:
            raise ValueError(f"cache_folder must be a folder of each machine, got {self.cache_folder}")
        if self.cache_half and self.cache == "off" and not self.exact:
            raise ValueError("cache_half has no effect with cache 'off'; remove it")
        return self


class Teacher(Taught, Detector):
    """The teacher: a detector, and how it comes to its weights."""

    @model_validator(mode="after")
    def _trained_somehow(self) -> Self:
        if not self.train and self.weights in ("random", "imagenet"):
            raise ValueError(f"train must be true with weights '{self.weights}': such a teacher detects nothing")
        return self


class OwnTeacher(Taught, OwnDetector):
    """The same for a detector of the user's own, which may load the weights it is built with."""


def _kind(raw: Any) -> str:
    """Return of which kind the settings of a detector are, as a tree or checked."""
    names = raw if isinstance(raw, Mapping) else type(raw).model_fields if isinstance(raw, Section) else ()
    return "own" if "detector" in names else "torchvision"


_OURS, _OWN = Tag("torchvision"), Tag("own")
AnyDetector = Detector | OwnDetector
AnyStudent = Annotated[Annotated[Detector, _OURS] | Annotated[OwnDetector, _OWN], Discriminator(_kind)]
"""What describes a student: the settings of any family, one class for each."""
AnyTeacher = Annotated[Annotated[Teacher, _OURS] | Annotated[OwnTeacher, _OWN], Discriminator(_kind)]
"""The same for a teacher."""


def described(settings: AnyDetector) -> dict[str, Any]:
    """Return what a weights file says of a net: its settings, without how it came to its weights."""
    return settings.model_dump(mode="json", exclude=set(Taught.model_fields))


def detector_settings(raw: Mapping[str, Any]) -> AnyDetector:
    """Return the settings of a detector of any family, as a weights file has them.

    Raises:
        ValidationError: where they are not this version's.
    """
    kind = OwnDetector if _kind(raw) == "own" else Detector
    return kind.model_validate(raw)
