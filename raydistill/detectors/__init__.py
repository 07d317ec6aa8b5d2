"""Detectors opened into the stages that distillation needs."""
