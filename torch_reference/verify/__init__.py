"""What PyTorch and transformers answer when two checkpoints are compared."""
