"""The tensors of a file and those of Hugging Face: names, and where bytes or numbers are put in another way."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

FREQUENCIES = "rope_freqs.weight"
"""A tensor that divides the frequencies of the rotation, for Llama 3.1 and later."""

ENDS: Mapping[str, str] = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
}
"""Modules outside the blocks, in llama.cpp's names and those of the families."""
ATTENTION = {f"attn_{ours}": f"self_attn.{theirs}_proj" for ours, theirs in zip(("q", "k", "v", "output"), "qkvo", strict=True)}
PRE = {"attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm"}
SANDWICH = {
    "attn_norm": "input_layernorm",
    "post_attention_norm": "post_attention_layernorm",
    "ffn_norm": "pre_feedforward_layernorm",
    "post_ffw_norm": "post_feedforward_layernorm",
}
QK_NORM = {f"attn_{name}_norm": f"self_attn.{name}_norm" for name in "qk"}
GLU = {f"ffn_{name}": f"mlp.{name}_proj" for name in ("gate", "up", "down")}
MLP = {"ffn_up": "mlp.c_fc", "ffn_down": "mlp.c_proj"}
EXPERTS = {"ffn_gate_inp": "mlp.gate"} | {
    f"ffn_{name}_exps": f"mlp.experts.{{expert}}.{name}_proj" for name in ("gate", "up", "down")
}
"""All experts of a layer are on top of one another in one tensor."""
W123 = {"ffn_gate_inp": "block_sparse_moe.gate"} | {
    f"ffn_{name}_exps": f"block_sparse_moe.experts.{{expert}}.{theirs}"
    for name, theirs in (("gate", "w1"), ("down", "w2"), ("up", "w3"))
}

_MAX_EXPERTS = 4096
"""A tensor of more is none of experts: each gets a name."""

_BLOCK = re.compile(r"blk\.(\d{1,5})\.(\w+)\.(weight|bias)")
_LAYER = re.compile(r"model\.layers\.(\d+)\.(.+)\.(weight|bias)")
_EXPERT = re.compile(r"\.experts\.(\d+)\.")


@dataclass(frozen=True)
class Layout:
    """How the tensors of one file are those of a family."""

    modules: Mapping[str, str]
    """Modules of a block, in llama.cpp's names and those of the family."""
    heads: Mapping[str, int]
    """Modules of which llama.cpp puts the two halves of each head between each other, for its own rotation, and their heads."""
    one_plus: bool
    """Whether norms are stored as 1 + w."""

    def theirs(self, name: str, length: int) -> list[str]:
        """Hugging Face's names for a tensor of a file: ``length`` of them for experts. One that no family has is kept."""
        module, _, leaf = name.rpartition(".")
        if match := _BLOCK.fullmatch(name):
            if match[2] not in self.modules:
                return [name]
            module, leaf = f"model.layers.{int(match[1])}.{self.modules[match[2]]}", match[3]
        elif module in ENDS:
            module = ENDS[module]
        else:
            return [name]
        if "{expert}" in module:
            if length > _MAX_EXPERTS:
                return [name]
            return [f"{module.replace('{expert}', str(number))}.{leaf}" for number in range(length)]
        return [f"{module}.{leaf}"]

    def own(self, their: str) -> tuple[str, int | None]:
        """llama.cpp's name for a tensor of Hugging Face, and the place of an expert in it. Raises KeyError without one."""
        module, _, leaf = their.rpartition(".")
        expert = _EXPERT.search(their)
        if match := _LAYER.fullmatch(_EXPERT.sub(".experts.{expert}.", their)):
            names = {theirs: ours for ours, theirs in self.modules.items()}
            return f"blk.{match[1]}.{names[match[2]]}.{match[3]}", int(expert[1]) if expert else None
        return f"{({theirs: ours for ours, theirs in ENDS.items()})[module]}.{leaf}", None

    def moves(self, name: str) -> bool:
        """Whether a tensor of a file is anything but a copy."""
        return _module(name) in self.heads or self.shifts(name)

    def to_theirs(self, name: str, array: np.ndarray) -> np.ndarray:
        """A tensor of a file as Hugging Face has it. Raises ValueError for a norm that is no 1 + w."""
        if heads := self.heads.get(_module(name)):
            # Rows 0 2 4 ... 1 3 5 ... of every head: the first half of its dimensions, then the second.
            pairs = array.reshape(heads, -1, 2, *array.shape[1:])
            return np.ascontiguousarray(pairs.swapaxes(1, 2)).reshape(array.shape)
        if self.shifts(name):
            stored = array.astype(np.float32)
            array = stored - np.float32(1)
            # Exact for all that float32 can add to 1, so that the model computes with the number that is stored.
            if not np.array_equal(array + np.float32(1), stored, equal_nan=True):
                raise ValueError("holds numbers that are 1 + w for no w of float32")
        return array

    def from_theirs(self, name: str, array: np.ndarray) -> np.ndarray:
        """The inverse: a tensor of Hugging Face as a file has it."""
        if heads := self.heads.get(_module(name)):
            halves = array.reshape(heads, 2, -1, *array.shape[1:])
            return np.ascontiguousarray(halves.swapaxes(1, 2)).reshape(array.shape)
        return array.astype(np.float32) + np.float32(1) if self.shifts(name) else array

    @staticmethod
    def is_wide(name: str, num_dims: int) -> bool:
        """Whether llama.cpp's files have a tensor in float32 whatever their dtype is: norms, biases and routers."""
        return num_dims == 1 or _module(name) == "ffn_gate_inp"

    def shifts(self, name: str) -> bool:
        """Whether a tensor of a file is a norm stored as 1 + w."""
        return self.one_plus and name.endswith("norm.weight")


def _module(name: str) -> str:
    return name.split(".")[-2] if "." in name else ""
