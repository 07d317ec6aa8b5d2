"""A run as a directory of plain files, and the files themselves: written whole or not at all, read as data only.

torch is imported where a file of tensors is touched: who only looks what there is does not wait for it.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import pickle
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, BinaryIO, Self

from raydistill.errors import UserError
from raydistill.runs.directory import BEST, LAST
from raydistill.storage.output import LOCAL, Output
from raydistill.storage.regular import WEIGHTS_BYTES, check_regular, open_regular, size_text

if TYPE_CHECKING:
    from torch import Tensor

    from raydistill.storage.parcels import ShippedFile
    from raydistill.storage.remote_path import Place


# What zipfile and torch.load raise for a file that is truncated, altered or something else altogether.
_DAMAGED = (
    pickle.UnpicklingError,
    struct.error,
    RuntimeError,
    EOFError,
    OSError,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    AssertionError,
    NotImplementedError,
    zipfile.BadZipFile,
    zlib.error,
)


STATE_DICTS = ("model", "state_dict", "model_state_dict", "model_state", "net", "network", "weights", "module")
"""Where tools put a net's tensors: torchvision's reference scripts, Lightning, and others."""


@dataclass(frozen=True)
class Weights:
    """What a weights file holds."""

    model: dict[str, Tensor]  # torchvision's keys
    classes: tuple[str, ...] | None  # in the order of the labels; None: the file does not say
    detector: dict[str, Any] | None  # the settings that the net was built from
    image: dict[str, Any] | None  # min_size and max_size it was trained at
    pixels: dict[str, Any] | None = None  # how image files were read, as the settings of data call it
    threshold: float | None = None  # score of a detection that counts: best F1 on the validation split


def save(path: Path, state: dict[str, Any], keep: int = 1, output: Output = LOCAL) -> None:
    """Write a dictionary of tensors and plain values, with a checksum of each.

    Args:
        path: of the file, below ``output``.
        state: what it is to hold.
        keep: how many versions stay, as in ``write_atomically``.
        output: what it belongs to.
    """
    import torch

    output.write(path, lambda file: torch.save(state, file), keep)


def load(path: Place | ShippedFile, foreign: bool = False) -> dict[str, Any]:
    """Read what ``save`` wrote; tensors arrive on the CPU. Never runs code from the file.

    With ``foreign`` objects of other kinds beside the tensors become placeholders that do nothing.

    Raises:
        UserError: when there is no such file, or it is damaged (a checksum does not fit), or not ours.
    """
    import torch

    try:
        with open_regular(path, WEIGHTS_BYTES) as file:
            damaged = _damaged_entry(file)
            if damaged is not None:
                raise ValueError(f"it is damaged: the checksum of {damaged} does not fit")
            file.seek(0)
            if _is_safetensors(file):
                raise ValueError("a file of safetensors; convert: torch.save(safetensors.torch.load_file(FILE), NEW)")
            with _placeholders(file) if foreign else contextlib.nullcontext():
                state = torch.load(file, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file") from error
    except _DAMAGED as error:
        raise UserError(f"{path}: must be a checkpoint of tensors, cannot be read ({_reason(error)})") from error
    if not isinstance(state, dict):
        raise UserError(f"{path}: must hold a dictionary, got {type(state).__name__}")
    return state


def save_weights(
    path: Path,
    model: dict[str, Tensor],
    classes: tuple[str, ...],
    detector: dict[str, Any],
    image: dict[str, Any],
    epoch: int = 0,
    keep: int = 1,
    output: Output = LOCAL,
    *,
    pixels: dict[str, Any] | None = None,
    threshold: float | None = None,
) -> None:
    """Write a net for deployment: torchvision's state dict under ``model``, and what it takes to build and read it.

    ``epoch`` is the one that the weights are of, ``keep`` and ``output`` as in ``save``, the others as in ``Weights``.
    """
    state = {"model": model, "classes": list(classes), "detector": detector, "input": image, "epoch": epoch}
    if pixels is not None:
        state["pixels"] = pixels
    if threshold is not None:
        state["threshold"] = threshold
    save(path, state, keep, output)


def load_weights(path: Place | ShippedFile) -> Weights:
    """Read a weights file of ours, a run directory, or a state dict: bare, or where other tools put it."""
    from raydistill.storage.parcels import ShippedFile

    state = load(path if isinstance(path, ShippedFile) else weights_file(path), foreign=True)
    model = _state_dict_in(state)
    if model is None:
        raise UserError(f"{path}: must hold a state dict (tensors by name), alone or under 'model'{_advice(state)}")
    if model is state:
        return Weights(model, None, None, None)
    classes = state.get("classes")
    return Weights(
        model,
        tuple(classes) if isinstance(classes, list | tuple) else None,
        state.get("detector"),
        state.get("input"),
        state.get("pixels"),
        state.get("threshold"),
    )


def _state_dict_in(state: dict[str, Any]) -> dict[str, Tensor] | None:
    """Return the tensors by name that a file holds, alone or where tools put them; None where there are none."""
    places = [state[key] for key in STATE_DICTS if isinstance(state.get(key), dict)]
    return next((model for model in [*places, state] if _is_state_dict(model)), None)


def _is_state_dict(model: dict[Any, Any]) -> bool:
    from torch import Tensor

    return bool(model) and all(isinstance(value, Tensor) for value in model.values())


class _Placeholder(dict[Any, Any]):
    """Stands for an object of any other kind in a foreign file; made and filled like it, and does nothing."""

    def __new__(cls, *_: Any, **__: Any) -> Self:
        return super().__new__(cls)

    def __init__(self, *_: Any, **__: Any) -> None:
        super().__init__()

    def __setstate__(self, _: Any) -> None:
        pass


@contextlib.contextmanager
def _placeholders(file: BinaryIO) -> Iterator[None]:
    """Let ``torch.load`` put placeholders where a file names functions or classes that it would not call."""
    import torch

    names: list[str] = []
    with contextlib.suppress(*_DAMAGED):  # whoever reads it will say so
        names = torch.serialization.get_unsafe_globals_in_checkpoint(file)
    file.seek(0)
    with torch.serialization.safe_globals([(_Placeholder, name) for name in names]):
        yield


def _advice(state: dict[str, Any]) -> str:
    """Say how to make a state dict of what a file holds instead."""
    if isinstance(state, _Placeholder):
        return ", got an object; convert it where it was made: torch.save(torch.load(FILE).state_dict(), NEW)"
    whole = [key for key, value in state.items() if isinstance(value, _Placeholder)]
    if not whole:
        return ""
    name = whole[0] if isinstance(whole[0], str) else "model"
    return (
        f", got an object under {name!r:.40}; convert it where it was made: "
        f"torch.save(torch.load(FILE, weights_only=False)[{name!r:.40}].state_dict(), NEW)"
    )


def digest(model: Mapping[str, Tensor]) -> str:
    """Return a text that stands for a state dict: for its names, types, shapes and every bit."""
    import torch

    about = hashlib.blake2b(digest_size=16)
    for name in sorted(model):
        value = model[name].detach().cpu().contiguous()
        about.update(f"{name} {value.dtype} {list(value.shape)}\n".encode())
        about.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
    return about.hexdigest()


def weights_file(path: Place) -> Place:
    """Return the weights file that ``path`` means: itself, or the best (else the last) of a run directory."""
    if not path.exists():
        raise UserError(f"{path}: must be a weights file or a run directory, there is no such file")
    if not path.is_dir():
        try:
            check_regular(path, WEIGHTS_BYTES)
        except OSError as error:
            raise UserError(f"{path}: must be a weights file or a run directory, got {error.strerror}") from error
        return path
    for name in (BEST, LAST):
        if (path / name).is_file():
            return path / name
    stages = sorted(inner.parent.name for inner in path.glob("*/best.pt"))
    if stages:
        raise UserError(
            f"{path}: must be one run directory, got the output of several; name one of {', '.join(stages)}"
        )
    raise UserError(
        f"{path}: must hold best.pt or last.pt, got neither; was the run interrupted before its first epoch?"
    )


def _is_safetensors(file: IO[bytes]) -> bool:
    """Return whether a file begins with the length of a header and that header, a mapping as JSON."""
    head = file.read(9)
    file.seek(0)
    return len(head) == 9 and head[8:] == b"{" and int.from_bytes(head[:8], "little") < WEIGHTS_BYTES


def _damaged_entry(file: IO[bytes]) -> str | None:
    """Return the first entry that is not as it was written; torch writes checksums (CRC-32) and does not read them."""
    if not zipfile.is_zipfile(file):
        return None  # torch's old format has none
    size = file.seek(0, os.SEEK_END)
    with zipfile.ZipFile(file) as archive:
        unpacked = sum(entry.file_size for entry in archive.infolist())
        if unpacked > size:  # torch stores its entries as they are
            raise ValueError(f"its {size_text(size)} would unpack to {size_text(unpacked)}")
        return archive.testzip()


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if "TorchScript" in str(error):
        return "a TorchScript archive; save its tensors: torch.save(torch.jit.load(FILE).state_dict(), NEW)"
    if isinstance(error, (pickle.UnpicklingError, LookupError)):
        return (
            "not a file of torch.save, or more in it than tensors and plain values; where it was made: "
            "torch.save(model.state_dict(), FILE)"
        )
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
