"""What Ray Tune, Optuna and W&B call what a sweep file says, for a hint at ours beside a name that is none here."""

from __future__ import annotations

import re
from typing import Any

from raydistill.sweeps.file.sections import Sweep

_KEYS = {
    "num_trials": ("num_samples", "n_trials", "run_cap", "max_trials"),
    "max_concurrent": ("max_concurrent_trials", "n_jobs", "max_pending_trials"),
    "time_budget": ("time_budget_s", "timeout", "time_budget_seconds"),
    "search": ("search_alg", "sampler", "algo", "algorithm"),
    "search.startup_trials": ("n_startup_trials", "n_initial_points", "points_to_evaluate_first"),
    "scheduler": ("pruner", "early_terminate", "trial_scheduler"),
    "scheduler.grace_period": ("grace_period", "min_resource", "n_warmup_steps"),
    "scheduler.reduction_factor": ("reduction_factor", "eta"),
    "scheduler.interval": ("perturbation_interval", "burn_in_period"),
    "scheduler.quantile": ("quantile_fraction",),
    "scheduler.resample": ("resample_probability",),
    "scheduler.min_trials": ("min_samples_required", "min_trials"),
    "space": ("param_space", "parameters", "hyperparam_mutations", "hyperparam_bounds", "search_space"),
    "points": ("points_to_evaluate", "enqueue_trial"),
    "metric": ("metric", "objective", "best_metric"),
    "mode": ("mode", "direction", "directions", "goal"),
    "output": ("storage_path", "local_dir", "study_name", "storage"),
    "resources.cpus_per_worker": ("cpu", "cpus", "num_cpus", "cpus_per_trial"),
    "resources.gpus_per_worker": ("gpu", "gpus", "num_gpus", "gpus_per_trial"),
    "resources": ("resources_per_trial", "resources_per_worker"),
    "training.epochs, under settings": ("max_t", "max_resource", "training_iteration", "max_iter"),
    "scaling.max_failures, under settings": ("failure_config", "max_failures"),
}
_OF_BASE = ("training", "scaling")
_SAID = {
    "tune_config": "its keys stand in the sweep itself: num_trials, metric, mode, search, scheduler, max_concurrent",
    "run_config": "its keys stand in the sweep itself (output), or in the base (scaling.max_failures)",
    "brackets": "asha has one bracket, as Ray recommends; scheduler hyperband has several",
    "time_attr": "the time of schedulers is epochs",
    "synch": "a population is always in step",
    "hard_stop": "what a scheduler stops is stopped",
    "reuse_actors": "that is always so",
    "n_brackets": "asha has one bracket, as Ray recommends; scheduler hyperband has several",
    "custom_explore_fn": "values stay in the space; scheduler pb2 chooses them by a model",
}
_SCHEDULERS = {
    "asha": (
        "ashascheduler",
        "async_hyperband",
        "asynchyperband",
        "asynchyperbandscheduler",
        "successivehalvingpruner",
    ),
    "hyperband": ("hyperbandscheduler", "hyperbandpruner", "hb", "hb_bohb", "bohb", "hyperbandforbohb"),
    "median": ("medianstoppingrule", "median_stopping_rule", "medianstopping", "medianpruner"),
    "pbt": ("populationbasedtraining", "population", "population_based_training"),
    "pb2": ("populationbasedbandits", "pb2scheduler"),
    "none": ("fifo", "fifoscheduler", "nop", "noppruner"),
}
_SEARCHES = {
    "optuna": (
        *("optunasearch", "tpe", "tpesampler", "bayes", "bayesian", "bayesopt", "hyperopt", "hyperoptsearch", "ax"),
        *("hebo", "nevergrad", "bohb", "tunebohb", "cmaes", "gpsampler"),
    ),
    "random": ("basic", "variant_generator", "basicvariantgenerator", "randomsampler", "random_search", "randomsearch"),
    "grid": ("grid_search", "gridsearch", "gridsampler", "bruteforcesampler"),
}
_KINDS = {
    "grid": ("grid_search",),
    "choice": ("suggest_categorical", "categorical", "values", "value"),
    "uniform": (
        "suggest_uniform",
        "suggest_float",
        "float",
        "randn",
        "normal",
        "suggest_discrete_uniform",
        "min",
        "max",
    ),
    "uniform, or grid for its steps": ("quniform", "q_uniform", "qrandn", "q_normal"),
    "loguniform": ("suggest_loguniform", "log_uniform", "log_uniform_values", "lognormal"),
    "loguniform, or grid for its steps": ("qloguniform", "q_log_uniform", "q_log_uniform_values"),
    "int: [low, high], with both ends": ("randint", "suggest_int", "int_uniform", "lograndint"),
    "int: [low, high], or grid for its steps": ("qrandint", "qlograndint"),
    "when: {other.setting: value}, for what depends on another setting": ("sample_from", "conditional", "depends_on"),
}
_CALL = re.compile(r"(?:ray\.)?(?:tune|trial|optuna)\.(\w+)\(.*\)", re.DOTALL)
_NO_KEY = re.compile(r"(?P<name>[^:\s]+): (?:no such setting|neither a key of the sweep nor a setting of its base)")
_NO_KIND = re.compile(r"(?P<key>scheduler\.name|search\.method): must be one of .*, got '?(?P<value>[\w.]+)'?")


def _by_word(words: dict[str, tuple[str, ...]]) -> dict[str, str]:
    return {word: ours for ours, theirs in words.items() for word in theirs}


_there = {ours: theirs for ours, theirs in _KEYS.items() if ours.partition(".")[0] in (*Sweep.model_fields, *_OF_BASE)}
_OUR_KEY, _OUR_SCHEDULER, _OUR_SEARCH, _OUR_KIND = map(_by_word, (_there, _SCHEDULERS, _SEARCHES, _KINDS))


def with_hint(problem: str) -> str:
    """Return what is wrong with a sweep, with what is ours for a name of another tool in it.

    >>> with_hint("num_samples: no such setting")
    'num_samples: no such setting; did you mean num_trials?'
    >>> with_hint("scheduler.name: must be one of 'none', 'asha', got 'ASHAScheduler'")
    "scheduler.name: must be one of 'none', 'asha', got 'ASHAScheduler'; did you mean asha?"
    """
    unknown, kind = _NO_KEY.match(problem), _NO_KIND.match(problem)
    if unknown:
        word = unknown["name"].rpartition(".")[2].lower()
        ours = _OUR_KEY.get(word)
        if ours and ours != unknown["name"]:
            return f"{unknown[0]}; did you mean {ours}?"
        return f"{unknown[0]}; {_SAID[word]}" if word in _SAID else problem
    if kind:
        ours = (_OUR_SCHEDULER if kind["key"] == "scheduler.name" else _OUR_SEARCH).get(_bare(kind["value"]))
        return f"{problem}; did you mean {ours}?" if ours else problem
    return problem


def hint_at_kind(written: Any) -> str:
    """Return a hint at what ``written``, a kind of values or a call in Python that makes one, is called here.

    >>> hint_at_kind("quniform"), hint_at_kind("tune.grid_search([1, 2])"), hint_at_kind("shape")
    ('; did you mean uniform, or grid for its steps?', '; did you mean grid?', '')
    """
    if not isinstance(written, str) or len(written) > 200:
        return ""
    call = _CALL.fullmatch(written.strip())
    word = _bare(call[1] if call else written)
    ours = word if call and word in _KINDS else _OUR_KIND.get(word)
    return f"; did you mean {ours}?" if ours else ""


def _bare(word: str) -> str:
    """Return a name without the module before it."""
    return word.strip().rpartition(".")[2].lower()
