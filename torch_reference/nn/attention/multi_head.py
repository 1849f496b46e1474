"""What self-attention and cross-attention have in common: the heads' parameters, and the way from heads to the output."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from jax_transformer import config
from torch_reference.nn.attention.query_key import build_head_norm
from torch_reference.nn.linear import Linear
from torch_reference.nn.params import Maker
from torch_reference.nn.tap import Tap
from torch_reference.ops.precision import at_least_float32


class MultiHead(nn.Module):
    """Queries from one sequence, keys and values from another of width ``source_dim``, or from the same."""

    def __init__(self, c: config.Softmax | config.CrossAttention, d_model: int, source_dim: int, make: Maker):
        super().__init__()
        model, source, head = {"embed": d_model}, {"embed": source_dim}, {"head_dim": c.head_dim}
        heads, kv_heads = {"heads": c.num_heads}, {"kv_heads": c.kv_heads}
        self.q_proj = Linear(model, heads | head, make, bias=c.qkv_bias)
        self.k_proj = Linear(source, kv_heads | head, make, bias=c.qkv_bias)
        self.v_proj = Linear(source, kv_heads | head, make, bias=c.qkv_bias)
        self.o_proj = Linear(heads | head, model, make, bias=c.o_bias, std=make.residual_std)
        gates = {"element": heads | head, "head": heads}
        self.g_proj = None if c.output_gate is None else Linear(model, gates[c.output_gate], make)
        self.sinks = make.constant(0.0, (c.num_heads,)) if c.sink_logits else None
        self.q_norm = build_head_norm(c.qk_norm, heads, c.head_dim, make)
        self.k_norm = build_head_norm(c.qk_norm, kv_heads, c.head_dim, make)
        self.compute_dtype = getattr(torch, make.dtype.compute)

    def output(self, mixed: Float[Tensor, "B T N H"], x: Float[Tensor, "B T D"], tap: Tap) -> Float[Tensor, "B T D"]:
        """The last projection of what the heads found; ``x`` is the input of the queries, which the gate is computed from."""
        if self.g_proj is not None:
            gate = self.g_proj(x).reshape(*mixed.shape[:3], -1)
            gate = torch.sigmoid(gate.to(at_least_float32(x.dtype))).to(x.dtype)
            tap("gate", gate)
            mixed = mixed * gate
        return self.o_proj(mixed)
