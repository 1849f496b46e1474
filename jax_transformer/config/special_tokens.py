"""The names that special tokens go by, most usual first."""

PAD_NAMES = ("<pad>", "[PAD]", "<|pad|>")
BOS_NAMES = ("<bos>", "<s>", "<|begin_of_text|>", "<|startoftext|>")
EOS_NAMES = ("<eos>", "</s>", "<|end_of_text|>", "<|endoftext|>")
