"""What other tools call a setting, for the hint at a name that is none here."""

from __future__ import annotations

_WORDS = {
    "augmentation.horizontal_flip": ("fliplr", "hflip"),
    "data.root": ("data_dir", "data_path", "dataset", "dataset_dir"),
    "evaluation.every": ("val_interval", "eval_interval", "check_val_every_n_epoch"),
    "input.min_size": ("image_size", "img_scale", "img_size", "imgsz", "resolution"),
    "loader.num_workers": ("dataloader_num_workers", "workers", "workers_per_gpu"),
    "output": ("out", "out_dir", "output_dir", "project", "save_dir", "work_dir"),
    "scaling.num_workers": ("device", "devices", "gpus", "nproc_per_node", "num_gpus"),
    "student.weights": ("load_from", "pretrained"),
    "teacher.weights": ("distill_model", "teacher_ckpt", "teacher_weights"),
    "training.accumulation": ("accumulate", "accumulate_grad_batches", "gradient_accumulation_steps"),
    "training.batch_size": ("batch", "bs", "ims_per_batch", "per_device_train_batch_size", "samples_per_gpu"),
    "training.clip_grad_norm": ("grad_clip", "gradient_clip_val", "max_grad_norm", "max_norm"),
    "training.epochs": ("max_epochs", "num_epochs", "num_train_epochs"),
    "training.optimizer.learning_rate": ("base_lr", "lr", "lr0"),
    "training.precision": ("amp", "bf16", "fp16", "half"),
    "training.schedule.warmup_steps": ("warmup", "warmup_iters"),
}

WORDS_OF_OTHERS = {word: setting for setting, words in _WORDS.items() for word in words}
"""A word of Ultralytics, MMDetection, detectron2, transformers or Lightning -> the setting here."""
