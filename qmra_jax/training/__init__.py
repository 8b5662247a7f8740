"""Training: settings, initial weights, the step, data parallelism, checkpoints, validation."""
