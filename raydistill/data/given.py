"""Images that are given from Python, of the kinds that other libraries have, as what the nets take."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from raydistill.data.images import DECODING_ERRORS, PLAIN, Decoding, UnreadableImageError, upright_rgb
from raydistill.data.samples import Kind, Samples
from raydistill.errors import UserError

_CHANNELS = (1, 3, 4)  # grey, RGB, RGB and opacity
_KINDS: dict[str, Kind] = {"u": "unsigned", "i": "signed"}


def is_image(given: object) -> bool:
    """Return whether a value is one image or an array of them, and not a name or a collection."""
    return isinstance(given, Image.Image | np.ndarray | Tensor)


def pixels_of(given: Any, where: str, how: Decoding = PLAIN) -> Tensor:
    """Return an image as RGB, uint8 [3, H, W], on the CPU.

    Args:
        given: Pillow's, turned as its EXIF says; an array [H, W] or [H, W, C]; a tensor [H, W] or [C, H, W]. C is 1, 3
            (RGB) or 4 (with opacity). Numbers are bytes, floats in [0, 1], or what ``how`` gives a range to; whole
            numbers of other types have that of their type.
        where: what a message calls it.
        how: opacity and other numbers become colours, as in files.

    Raises:
        UnreadableImageError: where Pillow cannot decode it.
        UserError: where it is of another kind.
    """
    if isinstance(given, Image.Image):
        try:
            return _channels_first(np.asarray(upright_rgb(given, how)))
        except DECODING_ERRORS as error:
            reason = str(error) or type(error).__name__
            raise UnreadableImageError(f"{where}: must be a complete image, got: {reason}; replace it") from error
    array: NDArray[Any] | None = None
    if isinstance(given, Tensor):
        array = (given.detach().float() if given.dtype == torch.bfloat16 else given.detach()).cpu().numpy()
        array = np.moveaxis(array, 0, -1) if array.ndim == 3 else array
    elif isinstance(given, np.ndarray):
        array = given
    array = array[..., None] if array is not None and array.ndim == 2 else array
    if array is None or array.ndim != 3 or array.shape[2] not in _CHANNELS or not array.size:
        raise UserError(_refusal(given, where))
    grey = _as_bytes(array, how)
    if grey is None:
        raise UserError(_refusal(given, where))
    if grey.shape[2] == 4:
        return _channels_first(np.asarray(upright_rgb(Image.fromarray(grey), how)))
    return _channels_first(np.broadcast_to(grey, (*grey.shape[:2], 3)))


def _as_bytes(array: NDArray[Any], how: Decoding) -> NDArray[np.uint8] | None:
    """Return numbers as bytes; None where nobody knows which is white."""
    if array.dtype == np.uint8:
        return array
    bits = 8 * array.dtype.itemsize
    if array.dtype.kind in _KINDS and bits <= 32:
        info = np.iinfo(array.dtype)
        return Samples(array, _KINDS[array.dtype.kind], bits, (info.min, info.max)).as_bytes(how.pixel_range)
    if array.dtype.kind != "f":
        return None
    if how.pixel_range is not None:
        return Samples(array, "floating point", bits, None).as_bytes(how.pixel_range)
    if not (array.min() >= 0 and array.max() <= 1):
        return None
    scaled: NDArray[np.uint8] = (array * 255).round().astype(np.uint8)
    return scaled


def _channels_first(array: NDArray[Any]) -> Tensor:
    return torch.from_numpy(np.array(np.moveaxis(array, -1, 0), order="C"))


def _refusal(given: Any, where: str) -> str:
    shape, kind = getattr(given, "shape", None), getattr(given, "dtype", None)
    got = type(given).__name__ if shape is None else f"{type(given).__name__} {list(shape)} of {kind}"
    return (
        f"{where}: must be an image (Pillow's, an array [H, W, 3] in RGB, a tensor [3, H, W]; of uint8 or of floats in "
        f"[0, 1]), got {got}; convert it"
    )
