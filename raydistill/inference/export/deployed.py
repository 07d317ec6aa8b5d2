"""The net as it is deployed: bytes of images in, boxes in their pixels out.

TorchScript compiles this: annotations are objects, and of ``if is_scripting()`` one branch.
"""

import torch
from torch import Tensor, nn
from torch.jit import is_scripting  # type: ignore[attr-defined]

OUTPUTS = ("boxes", "class_ids", "scores", "image_ids")
"""The last one of several images only."""


class OneImage(nn.Module):
    """Takes an image, uint8 [H, W, 3] in RGB.

    Gives boxes [M, 4] as x1, y1, x2, y2 in its pixels, class_ids [M] from 0 on, and scores [M] from ``threshold`` on.
    """

    threshold: Tensor

    def __init__(self, net: nn.Module, threshold: float) -> None:
        """Wrap ``net``, what ``Deployable`` gives."""
        super().__init__()
        self.net = net
        self.register_buffer("threshold", torch.tensor(threshold))

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Detect."""
        images = [image.permute(2, 0, 1).to(torch.float32) * (1 / 255)]
        if is_scripting():  # noqa: SIM108
            found = self.net(images)[1][0]
        else:
            found = self.net(images)[0]
        kept = torch.where(found["scores"] >= self.threshold)[0]
        return found["boxes"][kept], found["labels"][kept] - 1, found["scores"][kept]


class SeveralImages(nn.Module):
    """Takes N images of one size, uint8 [N, H, W, 3].

    Gives what ``OneImage`` gives of all of them, and image_ids [M], the number of the image from 0 on.
    """

    threshold: Tensor

    def __init__(self, net: nn.Module, threshold: float, batch_size: int) -> None:
        """Wrap ``net``, what ``Deployable`` gives."""
        super().__init__()
        self.net = net
        self.batch_size = batch_size
        self.register_buffer("threshold", torch.tensor(threshold))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Detect."""
        floats = images.permute(0, 3, 1, 2).to(torch.float32) * (1 / 255)
        single = [floats[number] for number in range(self.batch_size)]
        if is_scripting():  # noqa: SIM108
            found = self.net(single)[1]
        else:
            found = self.net(single)
        boxes = torch.cat([one["boxes"] for one in found])
        labels = torch.cat([one["labels"] for one in found])
        scores = torch.cat([one["scores"] for one in found])
        numbers = torch.cat([torch.full_like(found[i]["labels"], i) for i in range(self.batch_size)])
        kept = torch.where(scores >= self.threshold)[0]
        return boxes[kept], labels[kept] - 1, scores[kept], numbers[kept]


def deployed(net: nn.Module, threshold: float, batch_size: int) -> OneImage | SeveralImages:
    """Return ``net`` as it is deployed, in eval mode."""
    whole = OneImage(net, threshold) if batch_size == 1 else SeveralImages(net, threshold, batch_size)
    return whole.eval()
