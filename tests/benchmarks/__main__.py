"""``python -m tests.benchmarks VERB``: how fast this machine distils, and what this program costs around it."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

from raydistill.errors import UserError

VERBS = {
    "step": "a distilling step in plain student steps, and beside the same terms written by hand",
    "torchdistill": "torchdistill's distilling steps beside these",
    "libreyolo": "LibreYOLO's distilling step in its own plain steps",
    "engines": "a frozen teacher's maps: types, torch.compile, onnxruntime and OpenVINO, beside torch in fp32",
    "gpu": "all of these on a GPU, what makes it wait, and how many cores feed eight",
    "roi_align": "RoIAlign on a CPU, torchvision's and ours",
    "data": "images per second of the training loader alone",
    "eval": "seconds from detections to scores, beside pycocotools alone",
    "start": "seconds from the command to the first step, beside Ray Train alone",
    "sweep": "where the time of a small sweep goes, and its trials per hour",
    "emulated_bf16": "no timing: trains with a bf16 teacher on a processor that has no bf16, in fp32's time",
    "resumed": "no timing: how often a resumed sweep stops other trials than an undisturbed one",
    "scaling": "what a trial costs as sweeps grow, beside Ray Tune alone, and what a report does",
}
_MODULES = {  # of verbs that are called otherwise
    "torchdistill": "torchdistill_step",
    "libreyolo": "libreyolo_step",
    "eval": "evaluation",
    "sweep": "trials_per_hour",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Hand over to the verb that was named, and return the exit code."""
    verb, *rest = [*(sys.argv[1:] if arguments is None else arguments)] or [""]
    if verb not in VERBS:
        return _usage(asked=verb in ("-h", "--help"))
    try:
        importlib.import_module(f"tests.benchmarks.{_MODULES.get(verb, verb)}").main(rest)
    except UserError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        return 130
    return 0


def _usage(asked: bool) -> int:
    verbs = "\n".join(f"  {verb:<14}{text}" for verb, text in VERBS.items())
    (sys.stdout if asked else sys.stderr).write(
        f"usage: python -m tests.benchmarks VERB ...\n\n{verbs}\n\n"
        "What is compared is measured in turn (A B A B ...): ratios with their spread are what counts.\n"
        "python -m tests.benchmarks VERB --help says more\n"
    )
    return 0 if asked else 2


if __name__ == "__main__":
    sys.exit(main())
