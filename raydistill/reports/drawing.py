"""What all pictures share: colours, quiet axes, and text that is never taken for a formula."""

from __future__ import annotations

import io
import math
import warnings

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from raydistill.errors import printable

COLORS = {
    "searched": "#7da7d9",
    "best": "#1d4ed8",
    "distilled": "#1d4ed8",
    "baseline": "#6b7280",
    "constant": "#d97706",
    "teacher": "#111827",
}
"""Of roles and stages; the same in every picture."""
_LONGEST = 30


def grid(panels: int, columns: int, width: float, height: float) -> tuple[Figure, list[Axes]]:
    """Return a figure with ``panels`` axes in rows of ``columns``; a panel is ``width`` x ``height`` inches."""
    columns = min(panels, columns)
    rows = math.ceil(panels / columns)
    figure = Figure(figsize=(width * columns, height * rows), layout="constrained")
    FigureCanvasAgg(figure)
    axes = [figure.add_subplot(rows, columns, at + 1) for at in range(panels)]
    for each in axes:
        each.spines[["top", "right"]].set_visible(False)
        each.grid(color="#e5e7eb", linewidth=0.6)
        each.set_axisbelow(True)
        each.tick_params(labelsize=8)
    return figure, axes


def name(axes: Axes, title: str, x: str = "", y: str = "") -> None:
    """Write title and labels."""
    axes.set_title(plain(title), fontsize=10, loc="left")
    axes.set_xlabel(plain(x), fontsize=9)
    axes.set_ylabel(plain(y), fontsize=9)


def plain(text: str) -> str:
    r"""Return a user's text, shortened, so that matplotlib shows it as it is.

    >>> plain("$x$")
    '\\$x\\$'
    """
    text = printable(text)
    short = text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
    return short.replace("$", r"\$")


def png(figure: Figure) -> bytes:
    """Return the picture's file."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a letter that the font lacks becomes a box: nothing a user can mend
        figure.savefig(buffer, format="png", dpi=110, facecolor="white")
    return buffer.getvalue()
