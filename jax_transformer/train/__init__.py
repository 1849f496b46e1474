"""Training: state, steps, evaluation, and what keeps a long run safe (checkpoints, lock, signals, metrics)."""
