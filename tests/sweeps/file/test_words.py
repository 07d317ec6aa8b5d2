"""Words of Ray Tune, Optuna and W&B in a sweep file are told what they are called here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from raydistill.config.sections import Config
from raydistill.errors import UserError
from raydistill.sweeps.file import load_sweep, words
from raydistill.sweeps.file.reading import KINDS
from raydistill.sweeps.file.sections import Sweep
from tests.small import small_sweep


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            "num_samples=3",
            "num_samples: neither a key of the sweep nor a setting of its base; did you mean num_trials?",
        ),
        ("n_trials=3", "did you mean num_trials?"),
        ("max_concurrent_trials=2", "did you mean max_concurrent?"),
        ("direction=maximize", "did you mean mode?"),
        ("search_alg=tpe", "did you mean search?"),
        ("search.metric=AP", "search.metric: no such setting; did you mean metric?"),
        ("tune_config.num_samples=3", "did you mean num_trials?"),
        ("tune_config={num_samples: 3}", "its keys stand in the sweep itself: num_trials, metric, mode"),
        ("scheduler={name: asha, brackets: 2}", "scheduler.brackets: no such setting; asha has one bracket"),
        ("scheduler={name: asha, max_t: 9}", "did you mean training.epochs, under settings?"),
        ("scheduler={name: pbt, perturbation_interval: 2}", "did you mean scheduler.interval?"),
        ("scheduler={name: pbt, quantile_fraction: 0.2}", "did you mean scheduler.quantile?"),
        ("scheduler=ASHAScheduler", "got 'ASHAScheduler'; did you mean asha?"),
        ("scheduler={name: MedianStoppingRule}", "did you mean median?"),
        ("search=TPESampler", "got 'TPESampler'; did you mean optuna?"),
        ("resources={cpu: 2}", "did you mean resources.cpus_per_worker?"),
        ("grace_period=2", "did you mean scheduler.grace_period?"),
        ("space.decay.rate={quniform: [1, 4, 1]}", "got quniform; did you mean uniform, or grid for its steps?"),
        ("space.decay.rate={lograndint: [1, 4]}", "did you mean int: [low, high], with both ends?"),
        ("space.decay.rate={grid_search: [1, 4]}", "got grid_search; did you mean grid?"),
        ("space.decay.rate=tune.loguniform(1, 4)", "got 'tune.loguniform(1, 4)'; did you mean loguniform?"),
        ("space.decay.rate=trial.suggest_float('rate', 1, 4)", "did you mean uniform?"),
        ("space.decay.rate={sample_from: 1}", "did you mean when: {other.setting: value}"),
    ],
)
def test_a_word_of_another_tool_is_told_what_it_is_called_here(given: str, said: str, tmp_path: Path) -> None:
    sweep: Any = small_sweep(tmp_path)
    with pytest.raises(UserError) as refused:
        load_sweep(sweep, [given])
    assert said in str(refused.value)


def test_a_word_of_nobody_gets_no_hint(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"scheduler\.xyzzy: no such setting$"):
        load_sweep(small_sweep(tmp_path), ["scheduler={name: asha, xyzzy: 2}"])


def test_every_hint_names_what_there_is() -> None:
    """A key of the sweep or of a section of it, a scheduler, a search, a kind of values."""
    tags = words._SCHEDULERS.keys() | words._SEARCHES.keys()
    known = str(Sweep.model_json_schema()["$defs"])
    assert all(f"'{tag}'" in known for tag in tags)
    assert all(kind.partition(",")[0].partition(":")[0] in {*KINDS, "when"} for kind in words._KINDS)
    for ours in words._OUR_KEY.values():
        first, _, inner = ours.removesuffix(", under settings").partition(".")
        assert first in Sweep.model_fields or first in Config.model_fields, ours
        assert not inner or f"'{inner}'" in known or first in Config.model_fields, ours


def test_a_trial_may_have_a_fraction_of_a_cpu(tmp_path: Path) -> None:
    loaded = load_sweep(small_sweep(tmp_path), ["resources.cpus_per_worker=0.5"])
    assert loaded.sweep.resources.cpus_per_worker == 0.5
    for wrong in ("0", "-1", "1.5", "yes"):
        with pytest.raises(UserError, match=r"resources\.cpus_per_worker: must be "):
            load_sweep(small_sweep(tmp_path), [f"resources.cpus_per_worker={wrong}"])
