"""What every detector promises, and what some can do besides."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

from torch import Tensor, nn

from raydistill.data.images import PLAIN, Decoding
from raydistill.data.sources import source_images
from raydistill.detectors.predict import predict_each
from raydistill.detectors.predictions import Predictions
from raydistill.detectors.values import AnchorAnswers, Answers, Outcome, Proposals, Regions
from raydistill.structures import Batch, Features, Target


@dataclass(frozen=True)
class ParameterGroup:
    """Parameters that are trained alike."""

    parameters: list[nn.Parameter]
    learning_rate_factor: float = 1.0
    decays: bool = True  # whether the weight decay holds for them


@dataclass(frozen=True)
class Normalization:
    """How a detector normalises images in [0, 1], per channel: less the mean, over the standard deviation."""

    mean: tuple[float, ...]
    std: tuple[float, ...]


class Detector(nn.Module, ABC):
    """A detector, opened as far as distillation needs it.

    In training mode, prepare -> extract_features -> train_step gives the losses of the whole detector.
    """

    classes: tuple[str, ...]
    """Names of the K classes in the order of their labels 1 to K."""
    feature_channels: int
    """D of the feature maps."""
    feature_levels: tuple[str, ...]
    """Names of the feature maps, finest first."""
    normalization: Normalization
    """What ``prepare`` does to the images' values."""
    sides: tuple[int, int] | None = None
    """Length in pixels that ``prepare`` gives the shorter side, unless the longer side would exceed the second; None:
    it does otherwise."""
    threshold: float | None = None
    """Score from which on ``predict`` gives a detection: that of the best F1 on the validation split; None: unknown."""
    decoding: Decoding = PLAIN
    """How ``predict`` makes pixels of images: as in training."""
    fast_roi_align: bool = False
    """Whether it may pool regions on a CPU otherwise than torchvision does, up to rounding, where it pools any."""
    body: str
    """Start of the names of those tensors of ``exported`` that a classifier's weights go into."""

    @abstractmethod
    def prepare(self, images: list[Tensor], targets: list[Target]) -> Batch:
        """Resize, normalise and pad ``images`` [3, Hi, Wi], uint8 or float in [0, 1], and move the boxes along."""

    @abstractmethod
    def extract_features(self, batch: Batch) -> Features:
        """Return the feature maps by their names."""

    @abstractmethod
    def train_step(self, batch: Batch, features: Features) -> Outcome:
        """Return the detection losses, and the regions, answers and anchors on the way that there are."""

    @abstractmethod
    def detect(self, images: list[Tensor]) -> list[Target]:
        """Return the detections of each image in its own pixels; in eval mode."""

    def predict(
        self,
        images: Any,
        *,
        threshold: float | None = None,
        batch_size: int = 1,
        on_bad_image: Literal["error", "skip"] = "error",
    ) -> Predictions:
        """Return what is found in images; they are read one batch after the other, and not kept.

        Args:
            images: a path, a folder, a pattern, a video; an image of Pillow's, an array [H, W, 3] of uint8 in RGB, a
                tensor [3, H, W]; a list, a generator or another collection of these.
            threshold: score from which on a detection is given; by default the net's own, see ``threshold``.
            batch_size: images at once; those of a batch are padded to one size, which may change the last digits.
            on_bad_image: ``skip`` leaves images out that cannot be read, and names them in ``left_out``.

        Raises:
            UserError: where an image is none, or cannot be read.
        """
        left_out: list[str] | None = [] if on_bad_image == "skip" else None
        found = predict_each(self, source_images(images, self.decoding), threshold, batch_size, left_out)
        return Predictions(tuple(prediction for _, _, prediction in found), tuple(left_out or ()))

    @contextlib.contextmanager
    def finding_at_least(self, number: int) -> Iterator[None]:  # noqa: ARG002  (some have no limit)
        """Let ``detect`` give this many detections of an image, where it has a limit that is lower."""
        yield

    @abstractmethod
    def exported(self) -> nn.Module:
        """Return the plain module that is deployed: no wrapper, nothing of the training."""

    @abstractmethod
    def feature_extractor(self) -> nn.Module:
        """Return the part that makes the features, as a module of its own, which ``extract_features`` calls.

        A frozen teacher's may be compiled, or run in another engine: images [N, 3, H, W] to maps.
        """

    def untold_settings(self) -> dict[str, Any]:
        """Return settings, as a weights file has them, that ``exported`` depends on but its tensors do not show."""
        return {}

    def parameter_groups(self) -> list[ParameterGroup]:
        """Return the parameters that learn; norms and biases (one dimension) carry no weight decay."""
        return groups_by_dimension(self)


def groups_by_dimension(module: nn.Module) -> list[ParameterGroup]:
    """Return the parameters of ``module`` that learn: matrices with weight decay, norms and biases without."""
    learning = [parameter for parameter in module.parameters() if parameter.requires_grad]
    return [
        ParameterGroup([parameter for parameter in learning if parameter.ndim > 1]),
        ParameterGroup([parameter for parameter in learning if parameter.ndim <= 1], decays=False),
    ]


@runtime_checkable
class AnswersAt(Protocol):
    """A detector that can be asked about given regions."""

    def answer(self, batch: Batch, features: Features, regions: Regions) -> Answers:
        """Return what it says about ``regions``."""
        ...


@runtime_checkable
class ProposesRegions(Protocol):
    """A detector that offers regions of its own."""

    def propose_regions(self, batch: Batch, features: Features) -> Proposals:
        """Return its proposals after non-maximum suppression, without gradient."""
        ...

    def sample_regions(self, batch: Batch, proposals: list[Tensor]) -> Regions:
        """Match ``proposals``, [Ri, 4] per image, and the objects themselves to the objects, and sample among them."""
        ...


@runtime_checkable
class ScoresAnchors(Protocol):
    """A detector whose anchors can be compared with those of another: an RPN's, or a dense head's."""

    def num_anchors(self, features: Features) -> int:
        """Return A, the number of anchors that are laid over ``features``."""
        ...

    def score_anchors_at(self, features: Features, indices: Tensor) -> AnchorAnswers:
        """Return what is said about the anchors ``indices`` [F] alone, numbered as in ``AnchorOutputs``."""
        ...

    def decode_anchor_boxes(self, deltas: Tensor, anchors: Tensor) -> Tensor:
        """Return the boxes [F, 4] that ``deltas`` [F, 4] make of ``anchors`` [F, 4]."""
        ...


@runtime_checkable
class Deployable(Protocol):
    """A detector whose net can become a file that other programs run."""

    def deployable(self) -> nn.Module:
        """Return the net in eval mode, for ``export``: it takes a list of images [3, H, W] of floats in [0, 1].

        It returns torchvision's dictionary for each, boxes in its pixels; can be traced for any height and width, and
        scripted, where it returns, like torchvision's, a tuple whose second value that is.
        """
        ...


@runtime_checkable
class AssignsLevels(Protocol):
    """A detector that says on which of its levels an object belongs."""

    def assign_levels(self, boxes: Tensor) -> Tensor:
        """Return the level of each of ``boxes`` [B, 4], [B], 0 the finest; after ``train_step``."""
        ...
