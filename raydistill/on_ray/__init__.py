"""All of Ray: no other room imports it. What Ray reads of its environment is set here, before it is imported."""

from __future__ import annotations

import os
import sys

# Ray reads its environment when it is imported.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_ENABLE_UV_RUN_RUNTIME_ENV", "0")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
if os.environ.get("RAY_ADDRESS") == "local":  # Ray's name for this machine alone
    del os.environ["RAY_ADDRESS"]
if not os.environ.get("RAY_ADDRESS") and "ray" not in sys.modules:
    os.environ.setdefault("RAY_AUTH_MODE", "token")  # set later, Ray's servers would ask for a token that nobody made
# Ray's own paragraphs on a lost node, which go to stdout, one with the end of that node's log: ours is a sentence, and
# says what was at work there
os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", "has been marked dead because|Raylet is terminated")
os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.5")  # an epoch's report waits for it; 2 s by default
