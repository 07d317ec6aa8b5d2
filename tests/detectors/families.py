"""Small settings of every family, for what each must promise: a family to come adds its own here."""

from __future__ import annotations

from typing import Any

from raydistill.config.detector import AnyDetector, Detector

_SMALL = {
    "backbone": "resnet18",
    "weights": "random",
    "norm": "group",
    "fpn_channels": 16,
    "box_head_size": 32,
    "rpn_pre_nms_top_n_test": 200,
    "rpn_post_nms_top_n_test": 100,
    "box_score_thresh": 0.1,
    "anchor_sizes": [[8], [16], [32], [64], [128]],
}
_OTHERS: dict[str, dict[str, Any]] = {
    "resnet18": {},
    "frozen norm, one FPN level less": {
        "weights": "imagenet",
        "norm": "frozen",
        "returned_layers": [2, 3, 4],
        "anchor_sizes": [[8], [16], [32], [64]],
        "anchor_aspect_ratios": [1, 2],
    },
    "mobilenet, wide FPN": {
        "backbone": "mobilenet_v3_small",
        "norm": "batch",
        "returned_layers": [3, 4, 5],
        "fpn_channels": 256,
        "anchor_sizes": [[8, 12], [16, 24], [32, 48], [64, 96]],
    },
}
SETTINGS: dict[type[AnyDetector], dict[str, AnyDetector]] = {
    Detector: {name: Detector.model_validate(_SMALL | others) for name, others in _OTHERS.items()}
}
CASES = [(kind, name) for kind, named in SETTINGS.items() for name in named]
