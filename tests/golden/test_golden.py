"""The golden runs give what they gave before the code was moved."""

from __future__ import annotations

import copy
import json

from tests.golden.__main__ import KEPT, differences
from tests.small import run_python


def test_the_golden_runs_are_as_they_were() -> None:
    done = run_python("-m", "tests.golden", "check")
    assert done.returncode == 0, f"{done.stdout[-6000:]}\n{done.stderr[-3000:]}"


def test_a_metric_that_is_one_bit_off_and_other_tensors_are_seen() -> None:
    kept = json.loads(KEPT.read_text(encoding="utf-8"))["runs"]
    now = copy.deepcopy(kept)
    assert differences(kept, now, exact=True) == []
    stage = now["default"]["distilled"]
    name = "train/detection/total" if "train/detection/total" in stage["metrics"][0] else "train/loss"
    stage["metrics"][0][name] *= 1 + 2**-50
    stage["tensors"] = "another"
    del now["trial"]
    assert len(differences(kept, now, exact=True)) == 3
    assert len(differences(kept, now, exact=False)) == 1  # the run that is gone


def test_on_another_processor_a_loss_may_be_rounded_otherwise_but_not_be_another() -> None:
    kept = {"run": {"stage": {"metrics": [{"train/loss": 1.0}]}}}
    near, far = ({"run": {"stage": {"metrics": [{"train/loss": value}]}}} for value in (1.01, 1.1))
    assert differences(kept, near, exact=False) == []
    assert differences(kept, far, exact=False) == ["run/stage/metrics[1]/train/loss: 1.0 then, 1.1 now"]
