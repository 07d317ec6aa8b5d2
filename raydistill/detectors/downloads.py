"""Named weights that have to be downloaded: told all at once, and soon, where they cannot be had."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from http.client import HTTPException
from pathlib import Path
from urllib.request import Request, urlopen

import torch

from raydistill.config.sections import NAMED_WEIGHTS, AnyDetector
from raydistill.detectors.build import family_of
from raydistill.errors import first_line, one_error

_SECONDS = 8.0  # until a server counts as out of reach
_REMEDY = (
    "weights that cannot be had; put each file into {folder}, or do without: the recipe scratch needs none, and "
    "teacher.weights and student.weights take 'random' or a file of yours"
)


def refuse_weights_out_of_reach(nets: Mapping[str, AnyDetector]) -> None:
    """Make sure that the weights which are to be downloaded can be.

    Args:
        nets: ``teacher`` or ``student`` -> its settings.

    Raises:
        UserError: naming every file that is neither here nor within reach.
    """
    folder = Path(torch.hub.get_dir()) / "checkpoints"
    missing = {
        role: url for role, settings in nets.items() if (url := _url(settings)) and not (folder / _name(url)).exists()
    }
    problems = _out_of_reach(sorted(set(missing.values())))
    if not problems:
        return
    lines = [
        f"{role}.weights: {nets[role].weights} must be downloaded, got {problems[url]}; {_name(url)} comes from {url}"
        for role, url in missing.items()
        if url in problems
    ]
    raise one_error(lines, _REMEDY.format(folder=folder))


def _url(settings: AnyDetector) -> str:
    """Return where the weights of a net come from; empty where they are random or a file."""
    weights_of = family_of(settings).named_weights
    return weights_of(settings).url if settings.weights in NAMED_WEIGHTS[1:] and weights_of is not None else ""


def _name(url: str) -> str:
    return url.rsplit("/", 1)[-1]


def _out_of_reach(urls: list[str]) -> dict[str, str]:
    """Return the addresses of which the server does not answer in time, with what is wrong; all are asked at once."""
    problems = dict.fromkeys(urls, f"no answer in {_SECONDS:.0f} s")
    threads = [threading.Thread(target=_ask, args=(url, problems), daemon=True) for url in urls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(_SECONDS)
    return {url: problem for url, problem in dict(problems).items() if problem}


def _ask(url: str, problems: dict[str, str]) -> None:
    try:
        with urlopen(Request(url, method="HEAD"), timeout=_SECONDS):
            problems[url] = ""
    except (OSError, HTTPException, ValueError) as error:
        problems[url] = first_line(error) or type(error).__name__
