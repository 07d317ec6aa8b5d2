"""Where the numbers of a run go besides its directory."""

from __future__ import annotations

from typing import Self

from pydantic import model_validator

from raydistill.config.base import Section, Text
from raydistill.storage.addresses import without_secrets


class Mlflow(Section):
    """An MLflow server; needs the extra ``mlflow``."""

    tracking_uri: Text | None = None
    """Where it is; unset: as MLFLOW_TRACKING_URI says, else the folder ``mlruns``."""
    experiment: Text = "raydistill"

    @model_validator(mode="after")
    def _no_secret(self) -> Self:
        if without_secrets(self.tracking_uri or "") != (self.tracking_uri or ""):
            raise ValueError(
                "tracking_uri must hold no user, no password and no query, since settings are written into files and "
                "reports; set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"
            )
        return self


class Wandb(Section):
    """Weights & Biases; needs the extra ``wandb``. Its key comes from ``wandb login`` or WANDB_API_KEY only."""

    project: Text = "raydistill"
    entity: Text | None = None


class Logging(Section):
    """Loggers; ``metrics.jsonl`` is always written."""

    tensorboard: bool = True
    """Event files in the run directories: ``tensorboard --logdir OUTPUT``."""
    diagnosis: bool = False
    """Measure before each epoch, on one batch, how hard each distillation term pulls at the student and which way
    (``train/gradient/...``: its gradient's norm over that of the detection losses; ``train/cosine/...``), and how good
    the answers of both nets are on the regions compared (``train/quality/...``); a step or two of time per epoch."""
    mlflow: Mlflow | None = None
    """A run per stage or trial; ``{}`` takes the defaults. Its steps are epochs. After an interruption it goes on under
    its id, and it is closed with how the training ended: the tag ``raydistill.status`` says ``finished``, ``stopped``
    by a scheduler (both FINISHED), ``failed`` (FAILED) or ``interrupted`` (KILLED)."""
    wandb: Wandb | None = None
    """As for MLflow; the exit codes are 0, 1 and 255."""
