"""torchvision's transform with the size of the resized image to the pixel, also where it is traced or scripted.

There torchvision computes the scale in single precision, and of some images loses a row or a column: 200 x 0.64 becomes
127. TorchScript compiles this: annotations are objects, and of ``if is_scripting()`` one branch.
"""

import copy
import math
from typing import Any, Dict, Optional, Tuple  # noqa: UP035  (TorchScript knows these)

import torch
from torch import Tensor, nn
from torch.jit import is_scripting  # type: ignore[attr-defined]
from torchvision.models.detection.transform import GeneralizedRCNNTransform


class ExactTransform(GeneralizedRCNNTransform):  # type: ignore[misc]
    """For detecting only: it resizes no targets."""

    def resize(
        self,
        image: Tensor,
        target: Optional[Dict[str, Tensor]] = None,  # noqa: UP006, UP045
    ) -> Tuple[Tensor, Optional[Dict[str, Tensor]]]:  # noqa: UP006, UP045
        """Resize an image [3, H, W] as torchvision does."""
        fixed_size = self.fixed_size
        if fixed_size is not None:
            resized = nn.functional.interpolate(image[None], size=[fixed_size[1], fixed_size[0]], mode="bilinear")
        elif is_scripting():
            height, width = image.shape[-2], image.shape[-1]
            scale = min(self.min_size[-1] / min(height, width), self.max_size / max(height, width))
            size = [math.floor(height * scale), math.floor(width * scale)]
            resized = nn.functional.interpolate(image[None], size=size, mode="bilinear")
        else:
            resized = nn.functional.interpolate(image[None], size=self.traced_size(image), mode="bilinear")
        return resized[0], target

    @torch.jit.unused
    def traced_size(self, image: Tensor) -> Tuple[int, int]:  # noqa: UP006
        """Return the resized height and width, as tensors that a tracer follows."""
        shape = torch._shape_as_tensor(image)[-2:].double()
        # Of one dimension: the exporter to ONNX takes a number, or a tensor without any, for a float.
        least, most = (torch.tensor([float(side)]).double() for side in (self.min_size[-1], self.max_size))
        shorter, longer = shape.amin(0, keepdim=True), shape.amax(0, keepdim=True)
        # OpenVINO divides a constant the wrong way round where it computes in doubles.
        scale = torch.minimum((least + 0 * shorter) / shorter, (most + 0 * longer) / longer)
        size: Any = torch.floor(shape * scale).long()
        return size[0], size[1]


def with_exact_transform(net: nn.Module) -> nn.Module:
    """Return a copy of one of torchvision's detectors, in eval mode, with this transform in place of its own."""
    transform: Any = net.transform
    exact = ExactTransform(
        transform.min_size,
        transform.max_size,
        transform.image_mean,
        transform.image_std,
        transform.size_divisible,
        transform.fixed_size,
    )
    changed = copy.copy(net)
    changed._modules = {**net._modules, "transform": exact}
    return changed.eval()
