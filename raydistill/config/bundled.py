"""The files that come with the package, by name: recipes, sweeps and guides."""

from __future__ import annotations

import difflib
import re
from dataclasses import dataclass
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path, PurePath

from raydistill.errors import UserError

_PACKAGE = resources.files("raydistill")


@dataclass(frozen=True)
class BundledFiles:
    """Files of one kind in one folder; a file's name is its stem."""

    kind: str
    folder: Traversable
    suffix: str = ".yaml"

    @property
    def names(self) -> tuple[str, ...]:
        """The names, sorted; none where only the package's own folder was copied."""
        if not self.folder.is_dir():
            return ()
        files = (entry.name for entry in self.folder.iterdir())
        return tuple(sorted(file.removesuffix(self.suffix) for file in files if file.endswith(self.suffix)))

    def read(self, name: str) -> str:
        """Return what the file called ``name`` holds."""
        return (self.folder / f"{name}{self.suffix}").read_text(encoding="utf-8")

    def describe(self, name: str) -> str:
        """Return the first sentence of the comment that the file called ``name`` begins with."""
        return first_sentence(self.read(name))

    def not_found(self, given: str) -> UserError:
        """Return the error for ``given``, which is neither a name nor a file."""
        near = difflib.get_close_matches(PurePath(given).stem, self.names, n=1, cutoff=0.5)
        hint = f"did you mean '{near[0]}'? " if near else ""
        return UserError(
            f"{given}: must be a {self.kind} or a YAML file, got neither; {hint}the {self.kind}s are "
            f"{', '.join(self.names) or 'none'}"
        )


def first_sentence(text: str) -> str:
    r"""Return the first sentence of the comment that ``text`` begins with, in one line.

    >>> first_sentence("# Which decay\n# is best? The control is none.\nbase: quickstart\n")
    'Which decay is best?'
    """
    comment = re.match(r"(?:#.*\n)*", text)
    words = " ".join(line.lstrip("# ") for line in (comment[0] if comment else "").splitlines())
    return re.split(r"(?<=[.?!]) ", words, maxsplit=1)[0]


def _sweeps_folder() -> Traversable:
    """Return ``tune_configs``: inside an installed package, beside it in a checkout."""
    inside = _PACKAGE / "tune_configs"
    return inside if inside.is_dir() else Path(__file__).resolve().parents[2] / "tune_configs"


BUNDLED_RECIPES = BundledFiles("recipe", _PACKAGE / "config" / "recipes")
BUNDLED_SWEEPS = BundledFiles("sweep", _sweeps_folder())
GUIDES = BundledFiles("guide", _PACKAGE / "guides", ".md")
"""Each begins with a line ``# What it is about``."""
RECIPES = BUNDLED_RECIPES.names
SWEEPS = BUNDLED_SWEEPS.names
