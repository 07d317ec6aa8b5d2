"""Videos as rows of images: what PyAV (FFmpeg) opens."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from raydistill.errors import UserError, first_line
from raydistill.storage.regular import WEIGHTS_BYTES, open_regular
from raydistill.storage.remote_path import Place

_SUFFIXES = (".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".ts", ".wmv", ".flv")


def is_video(file: Place) -> bool:
    """Return whether a file is called like a video."""
    return file.name.lower().endswith(_SUFFIXES)


def frames_of(file: Place) -> Iterator[Any]:
    """Yield the frames of a video one after the other, as Pillow's images: RGB, turned as it is shown.

    Raises:
        UserError: where PyAV is not installed, or the file is no video or breaks off.
    """
    try:
        import av
        from av.error import FFmpegError
    except ImportError as error:
        raise UserError(
            f"{file}: PyAV must be installed to read a video, got {first_line(error)!r}; "
            "pip install 'raydistill[video]'"
        ) from error
    try:
        with open_regular(file, WEIGHTS_BYTES) as opened, av.open(opened, "r") as container:
            for frame in container.decode(container.streams.video[0]):
                turns = round(getattr(frame, "rotation", 0) / 90) % 4
                picture = frame.to_image()
                yield picture.rotate(90 * turns, expand=True) if turns else picture
    except (FFmpegError, OSError, IndexError) as error:
        raise UserError(f"{file}: must be a complete video, got: {first_line(error)}; replace it") from error
