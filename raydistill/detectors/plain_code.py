"""The program that is written beside weights: it uses them with torch and torchvision alone."""

from __future__ import annotations

from dataclasses import dataclass

from raydistill import __version__


@dataclass(frozen=True)
class PlainCode:
    """Lines of Python that build a net as torchvision's users would."""

    imports: tuple[str, ...]
    """Beside ``torch``."""
    build: tuple[str, ...]
    """They leave the net, without its weights, in ``model``; ``WEIGHTS`` is what the file of weights holds."""


_PROGRAM = '''\
"""Detect objects in images with the weights beside this file. Needs torch and torchvision, not raydistill.

    python use.py IMAGE ...

Written by raydistill {version}. In a program of yours: `from use import build, detect, read`.
"""

{imports}

WEIGHTS = torch.load(Path(__file__).with_name("{weights}"), map_location="cpu", weights_only=True)
CLASSES = WEIGHTS["classes"]  # of the labels 1, 2, ...
THRESHOLD = WEIGHTS.get("threshold", {threshold})  # score from which on a detection counts
PIXELS = WEIGHTS.get("pixels", {{}})  # how image files were read in training


def build():
    """Return the net: it takes a list of images [3, H, W] from 0 to 1."""
{build}
    model.load_state_dict(WEIGHTS["model"])
    return model.eval()


def read(path):
    """Return an image as a person sees it, [3, H, W] from 0 to 1. Grey may have more than 8 bits, colours not."""
    image = ImageOps.exif_transpose(Image.open(path))
    if image.mode.startswith(("I", "F")):
        low, high = PIXELS.get("pixel_range") or (0, 65535)
        values = (np.asarray(image, dtype=np.float64).clip(low, high) - low) * (255 / (high - low))
        image = Image.fromarray(np.floor(values + 0.5).astype(np.uint8))
    elif image.has_transparency_data and PIXELS.get("alpha") != "ignore":
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return to_dtype(pil_to_tensor(image.convert("RGB")), torch.float32, scale=True)


def detect(model, image):
    """Return boxes [M, 4] (x1, y1, x2, y2 in pixels), labels [M] and scores [M] of what is in an image."""
    with torch.no_grad():
        (found,) = model([image])
    counts = found["scores"] >= THRESHOLD
    return {{name: values[counts] for name, values in found.items()}}


if __name__ == "__main__":
    if not sys.argv[1:]:
        sys.exit(__doc__)
    net = build()
    for path in sys.argv[1:]:
        found = detect(net, read(path))
        for box, label, score in zip(*(found[name].tolist() for name in ("boxes", "labels", "scores"))):
            print(path, CLASSES[label - 1], f"{{score:.4f}}", *(f"{{corner:.2f}}" for corner in box), sep="\\t")
'''
_STANDARD = ("import sys", "from pathlib import Path")
_OTHERS = (
    *("import numpy as np", "import torch", "from PIL import Image, ImageOps"),
    "from torchvision.transforms.v2.functional import pil_to_tensor, to_dtype",
)


def program(code: PlainCode, weights: str, threshold: float) -> str:
    """Return a program that detects objects in the images that it is given.

    Args:
        code: builds the net.
        weights: name of the file of weights beside it.
        threshold: of weights that do not say their own.
    """
    theirs = [line for line in code.imports if "torch" in line]
    standard = sorted([*_STANDARD, *(line for line in code.imports if line not in theirs)], key=_order)
    imports = [*standard, "", *sorted([*_OTHERS, *theirs], key=_order)]
    return _PROGRAM.format(
        version=__version__,
        imports="\n".join(imports),
        weights=weights,
        threshold=threshold,
        build="\n".join(f"    {line}" for line in code.build),
    )


def _order(line: str) -> tuple[bool, str]:
    return line.startswith("from"), line
