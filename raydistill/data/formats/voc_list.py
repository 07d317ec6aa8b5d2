"""The list of a PASCAL VOC split, as the tools write it: which names it holds, whatever stands around them."""

from __future__ import annotations

import re
from collections.abc import Callable

from raydistill.data.alike import near
from raydistill.data.checks import listed
from raydistill.errors import UserError, counted
from raydistill.storage.regular import LIST_BYTES, read_bytes
from raydistill.storage.remote_path import Place

_FLAGGED = re.compile(r"(.*\S)\s+(-1|0|1)")
_QUOTED = re.compile(r'"([^"]+)"(?:\s+(-1|0|1))?')
_MARKS = (
    (b"\xff\xfe\0\0", "utf-32"),
    (b"\0\0\xfe\xff", "utf-32"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
)


def list_of(root: Place, split: str) -> Place:
    """Return the file that lists the images of a split."""
    return root / "ImageSets" / "Main" / f"{split}.txt"


def read_names(path: Place, exists: Callable[[str], bool]) -> list[str]:
    """Return the names that a list holds, as they are written; without those a class list says the class is absent in.

    A class list has -1, 0 or 1 behind each name. Names may have spaces, and end with such a number themselves: then
    the files decide.

    Args:
        path: the list.
        exists: whether there is an image or an annotation of a name.

    Raises:
        UserError: where the list is not there, cannot be read or holds no name.
    """
    if not path.is_file() and not path.exists():
        splits = sorted(found.stem for found in path.parent.glob("*.txt"))
        alike = near(path.stem.casefold(), [split.casefold() for split in splits])
        hint = next((f"; did you mean {split}?" for split in splits if split.casefold() == alike), "") if alike else ""
        raise UserError(f"{path}: the list of the split must exist; splits there: {listed(splits)}{hint}")
    try:
        text = _decoded(read_bytes(path, LIST_BYTES))
    except OSError as error:
        raise UserError(f"{path}: must be readable, got: {error.strerror}; check file and permissions") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: must be text, got broken {error.encoding}; save it as UTF-8") from error
    lines = [line.strip() for line in re.split(r"\r\n|\n|\r", text)]
    names, num_absent = _without_flags([line for line in lines if line and not _is_comment(line, exists)], exists)
    if not names:
        absent = f": {counted(num_absent, 'line')} with -1 (class absent)" if num_absent else ""
        raise UserError(f"{path}: must list at least one image, got none{absent}; add the names of the images")
    return names


def _is_comment(line: str, exists: Callable[[str], bool]) -> bool:
    return line.startswith("#") and not exists(line)


def _without_flags(lines: list[str], exists: Callable[[str], bool]) -> tuple[list[str], int]:
    """Return the names, and how many were left out because of a -1."""
    quoted = [_QUOTED.fullmatch(line) for line in lines]
    flagged = [_FLAGGED.fullmatch(line) for line in lines]
    plain = [line for line, in_quotes in zip(lines, quoted, strict=True) if not in_quotes]
    with_flags = [match for match, in_quotes in zip(flagged, quoted, strict=True) if not in_quotes]
    # In a list of classes every line ends with a number; in another all do only where the files are called so.
    of_class = all(with_flags) and not all(map(exists, plain))
    names, num_absent = [], 0
    for line, in_quotes, match in zip(lines, quoted, flagged, strict=True):
        if in_quotes:
            name, flag = in_quotes[1], in_quotes[2]
        elif match and (of_class or (not exists(line) and exists(match[1]))):
            name, flag = match[1], match[2]
        else:
            name, flag = line, None
        num_absent += flag == "-1"
        names += [name] if flag != "-1" else []
    return names, num_absent


def _decoded(raw: bytes) -> str:
    """Return the text: UTF-8, UTF-16 or UTF-32, with a byte order mark or without; other bytes stand for themselves."""
    for mark, encoding in _MARKS:
        if raw.startswith(mark):
            return raw.decode(encoding)
    if raw.count(0) * 4 > len(raw):  # letters of two bytes, most of them of the first 256
        return raw.decode("utf-16-le" if raw[1::2].count(0) >= raw[::2].count(0) else "utf-16-be")
    return raw.decode("utf-8-sig", "surrogateescape")
