"""What a detector finds in images, in the forms that other libraries take."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, overload

import numpy as np
from torch import Tensor

from raydistill.errors import UserError, first_line
from raydistill.structures import Target

if TYPE_CHECKING:
    import pandas as pd

_CORNERS = ("x1", "y1", "x2", "y2")


@dataclass(frozen=True)
class Prediction:
    """The M objects that were found in an image, the surest first, on the CPU."""

    image: str
    """What the image was called: its path, or its number among those that were given."""
    width: int
    """Of the image as it is shown, in pixels."""
    height: int
    boxes: Tensor
    """[M, 4], x1, y1, x2, y2 in pixels of the image."""
    labels: Tensor
    """[M], 1 to K."""
    scores: Tensor
    """[M], 0 to 1."""
    classes: tuple[str, ...]
    """Names of the K classes in the order of their labels."""

    def __len__(self) -> int:
        """Return M."""
        return len(self.scores)

    @property
    def names(self) -> list[str]:
        """The class of each object."""
        return [self.classes[label - 1] for label in self.labels.tolist()]

    def to_torchvision(self) -> Target:
        """Return what torchvision's detectors return: boxes, labels (1 to K) and scores."""
        return Target(boxes=self.boxes, labels=self.labels, scores=self.scores)

    def to_pandas(self) -> pd.DataFrame:
        """Return a row per object: image, class, score, x1, y1, x2, y2."""
        import pandas as pd

        corners = dict(zip(_CORNERS, self.boxes.double().numpy().T, strict=True))
        table = {"image": self.image, "class": self.names, "score": self.scores.double().numpy(), **corners}
        return pd.DataFrame(table, columns=["image", "class", "score", *_CORNERS])

    def to_supervision(self) -> Any:
        """Return ``supervision.Detections``, whose class ids begin at 0.

        Raises:
            UserError: where supervision is not installed.
        """
        try:
            import supervision
        except ImportError as error:
            raise UserError(
                f"to_supervision: supervision must be installed, got {first_line(error)!r}; pip install supervision"
            ) from error
        return supervision.Detections(
            xyxy=self.boxes.numpy(),
            confidence=self.scores.numpy(),
            class_id=self.labels.numpy() - 1,
            data={"class_name": np.array(self.names, dtype=str)},
        )

    def to_coco(self, image_id: int) -> list[dict[str, Any]]:
        """Return COCO's results of the image ``image_id``; a category's id is its label."""
        return [
            {"image_id": image_id, "category_id": label, "bbox": [x1, y1, x2 - x1, y2 - y1], "score": score}
            for (x1, y1, x2, y2), label, score in zip(
                self.boxes.double().tolist(), self.labels.tolist(), self.scores.double().tolist(), strict=True
            )
        ]


@dataclass(frozen=True)
class Predictions:
    """What was found in several images, in their order: has a length, is indexed and gone through."""

    found: tuple[Prediction, ...]
    left_out: tuple[str, ...] = ()
    """What is wrong with each image that could not be read, in a sentence."""

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.found)

    @overload
    def __getitem__(self, index: int) -> Prediction: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[Prediction, ...]: ...

    def __getitem__(self, index: int | slice) -> Prediction | tuple[Prediction, ...]:
        """Return what was found in one image, or in some."""
        return self.found[index]

    def __iter__(self) -> Iterator[Prediction]:
        """Go through the images."""
        return iter(self.found)

    def to_pandas(self) -> pd.DataFrame:
        """Return a row per object of all images."""
        import pandas as pd

        tables = [one.to_pandas() for one in self.found if len(one)] or [one.to_pandas() for one in self.found[:1]]
        return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame()

    def to_supervision(self) -> list[Any]:
        """Return ``supervision.Detections`` of each image."""
        return [one.to_supervision() for one in self.found]

    def to_torchvision(self) -> list[Target]:
        """Return what torchvision's detectors return, a dictionary per image."""
        return [one.to_torchvision() for one in self.found]
