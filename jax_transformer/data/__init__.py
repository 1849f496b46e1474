"""Text to batches: tokenizers, sources, the train/validation split, packing into rows, and the resumable loader."""
