"""The distillation terms: pure functions of tensors, gate and loss separate."""
