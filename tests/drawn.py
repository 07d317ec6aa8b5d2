"""A small data set as files in COCO's form, and weights that fit to it."""

from __future__ import annotations

import json
from pathlib import Path

from PIL import Image

from raydistill.training.state import export
from tests.small import Stage, small_run


def draw(folder: Path) -> None:
    """Write six images and their annotations to ``folder``, and a net with random weights to ``folder/weights``."""
    stage = Stage(small_run(folder / "made", "data.num_val=6", "student.box_score_thresh=0"))
    export(stage.job, stage.detector(seed=5), folder / "weights" / "best.pt", epoch=1)
    truth = json.loads(json.dumps(stage.job.val.ground_truth))
    (folder / "val").mkdir()
    (folder / "annotations").mkdir()
    for entry in truth["images"]:
        image, _ = stage.job.val.load(entry["id"] - 1)
        entry |= {"file_name": f"{entry['id']}.png", "width": image.shape[2], "height": image.shape[1]}
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(folder / "val" / entry["file_name"])
    (folder / "annotations" / "val.json").write_text(json.dumps(truth))


def as_setting(root: object) -> str:
    """Return the data at ``root``, for training and validation alike, as an override."""
    paths = {"train_images": "val", "train_annotations": "annotations/val.json"}
    return f"data={json.dumps({'format': 'coco', 'root': str(root), **paths})}"
