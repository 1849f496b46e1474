"""Weights on disk: the hub (safetensors), the JAX layout of it, and whole exchange folders."""
