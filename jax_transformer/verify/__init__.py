"""Proof that two checkpoints, or one in two frameworks, hold the same tensors and compute the same numbers."""
