"""Which models are compared: every entry of every table along each of its axes, and configs drawn over the whole space.

Sizes are tiny and all different, and ``num_heads * head_dim`` is not ``d_model``: no transposed or confused dimension can hide.
"""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar, get_args

from jax_transformer import config as c
from jax_transformer.config import Activation
from jax_transformer.config.block import Remat

T = TypeVar("T")
Pick = Callable[[Sequence[Any]], Any]
"""Chooses one of several options: ``random.Random(seed).choice``, or a hypothesis draw from ``sampled_from``."""

VOCAB, WIDTH, HIDDEN, HEADS, KV_HEADS, HEAD_DIM, MAX_LENGTH = 19, 10, 14, 6, 2, 4, 32

ACTIVATIONS: tuple[str, ...] = get_args(Activation)
REMATS: tuple[str, ...] = get_args(Remat)
RMS, LAYER = c.RMSNorm(eps=1e-3), c.LayerNorm(eps=1e-3)
"""Large epsilons: their place in the formula shows."""


def attention(**changes: Any) -> c.Softmax:
    """A grouped-query attention with partial rotation."""
    usual: dict[str, Any] = {"num_heads": HEADS, "num_kv_heads": KV_HEADS, "head_dim": HEAD_DIM, "position": c.Rope(base=100.0)}
    return c.Softmax(**usual | changes)


def block(attn: c.Attention | None = None, ffn: c.Ffn | None = None, norm: c.Norm = RMS, **changes: Any) -> c.Block:
    """One layer of the usual kind, unless told otherwise."""
    return c.Block(attention=attn or attention(), ffn=ffn or c.Glu(hidden_dim=HIDDEN), norm=norm, **changes)


def decoder(*pattern: c.Block, num_layers: int | None = None, stack: dict[str, Any] | None = None, **changes: Any) -> c.Decoder:
    """A model that repeats ``pattern`` (default: one usual block) over ``num_layers`` (default: once)."""
    pattern = pattern or (block(),)
    built = c.Stack(pattern=pattern, num_layers=num_layers or len(pattern), **(stack or {}))
    usual: dict[str, Any] = {"vocab_size": VOCAB, "d_model": WIDTH, "max_length": MAX_LENGTH, "stack": built, "final_norm": RMS}
    return c.Decoder(**usual | changes)


def enumerate_cases() -> dict[str, c.Decoder]:
    """Name -> config: every table entry times its axes, several layers of one model where they do not disturb one another."""
    return _attention_cases() | _position_cases() | _ffn_cases() | _norm_cases() | _model_cases()


def _attention_cases() -> dict[str, c.Decoder]:
    return {
        "attention_heads": decoder(*(block(attention(num_kv_heads=heads)) for heads in (None, 1, 3))),
        "attention_biases": decoder(block(attention(qkv_bias=True)), block(attention(o_bias=True)), num_layers=3),
        "attention_scale": decoder(block(attention(scale=0.7)), num_layers=2),
        "attention_windows": decoder(*(block(attention(window=window)) for window in (1, 2, 5)), num_layers=4),
    }


def _position_cases() -> dict[str, c.Decoder]:
    half = c.Rope(base=50.0, fraction=0.5)
    interleaved = c.Rope(base=50.0, layout="interleaved")
    both = c.Rope(base=50.0, layout="interleaved", fraction=0.75)
    return {
        "rope_half": decoder(block(attention(position=half)), block(attention(head_dim=7, position=c.Rope(fraction=0.6)))),
        "rope_interleaved": decoder(block(attention(position=interleaved)), block(attention(head_dim=8, position=both))),
        "position_none": decoder(block(attention(position=c.NoPosition(), qkv_bias=True)), num_layers=2),
    }


def _ffn_cases() -> dict[str, c.Decoder]:
    def both(activation: Any, bias: bool) -> list[c.Block]:
        kinds = (
            c.Glu(hidden_dim=HIDDEN, activation=activation, bias=bias),
            c.Mlp(hidden_dim=9, activation=activation, bias=not bias),
        )
        return [block(ffn=kind) for kind in kinds]

    heads = [c.Head(tied=tied, bias=bias) for tied in (True, False) for bias in (False, True)]
    return {f"ffn_{name}": decoder(*both(name, bool(i % 2)), head=heads[i % 4]) for i, name in enumerate(ACTIVATIONS)}


def _norm_cases() -> dict[str, c.Decoder]:
    plain = c.LayerNorm(bias=False)
    return {
        "norm_layer": decoder(block(norm=LAYER), block(norm=plain), final_norm=c.LayerNorm(eps=1e-2)),
        "norm_mixed": decoder(block(norm=c.RMSNorm()), block(norm=LAYER), num_layers=3, final_norm=plain),
    }


def _model_cases() -> dict[str, c.Decoder]:
    first, second, third = block(), block(ffn=c.Mlp(hidden_dim=9)), block(attention(window=3), norm=LAYER)
    return {
        "depth_one_pattern": decoder(num_layers=4),
        "depth_remainder": decoder(first, second, third, num_layers=8),
        "depth_below_pattern": decoder(first, second, third, num_layers=2),
        "depth_unrolled": decoder(first, second, num_layers=5, stack={"unroll": True, "remat": "dots"}),
    }


def draw_config(pick: Pick) -> c.Decoder:
    """A valid config from anywhere in the space of models; each choice is one call of ``pick``, simplest option first."""
    pattern = tuple(_draw_block(pick) for _ in range(pick((1, 2, 3))))
    stack = c.Stack(
        pattern=pattern,
        num_layers=pick((1, 2, 3, 4, 5)),
        drop_path=pick((0.0, 0.2)),
        drop_path_schedule=pick(("linear", "constant")),
        remat=pick(REMATS),
        unroll=pick((False, True)),
    )
    return c.Decoder(
        vocab_size=pick((7, 19, 40)),
        d_model=pick((3, 6, 8, 13, 16)),
        max_length=MAX_LENGTH,
        stack=stack,
        final_norm=_draw_norm(pick),
        head=c.Head(tied=pick((True, False)), bias=pick((False, True))),
        embed_dropout=pick((0.0, 0.1)),
        dtype=c.Dtype(**{name: pick(("float32", "bfloat16")) for name in ("param", "compute", "logits")}),
        init=c.Init(std=pick((0.02, 0.1)), depth_scaled=pick((True, False))),
    )


def _draw_block(pick: Pick) -> c.Block:
    return c.Block(attention=_draw_attention(pick), ffn=_draw_ffn(pick), norm=_draw_norm(pick), dropout=pick((0.0, 0.1)))


def _draw_attention(pick: Pick) -> c.Softmax:
    head_dim = pick((2, 4, 5, 6, 8))
    num_heads = pick((1, 2, 3, 4, 6))
    position = pick(("rope", "none"))
    return c.Softmax(
        num_heads=num_heads,
        num_kv_heads=pick((None, *(heads for heads in (1, 2, 3, 6) if num_heads % heads == 0))),
        head_dim=head_dim,
        qkv_bias=pick((False, True)),
        o_bias=pick((False, True)),
        scale=pick((None, 0.3, 1.0)),
        window=pick((None, 1, 2, 4, 100)),
        dropout=pick((0.0, 0.1)),
        position=c.NoPosition() if position == "none" else _draw_rope(pick, head_dim),
    )


def _draw_rope(pick: Pick, head_dim: int) -> c.Rope:
    even = [fraction for fraction in (1.0, 0.75, 0.5, 0.4) if int(head_dim * fraction) in range(2, head_dim + 1, 2)]
    return c.Rope(base=pick((10_000.0, 50.0, 500_000.0)), fraction=pick(even), layout=pick(("half", "interleaved")))


def _draw_ffn(pick: Pick) -> c.Ffn:
    kind = pick((c.Glu, c.Mlp))
    return kind(hidden_dim=pick((1, 6, 11, 16)), activation=pick(ACTIVATIONS), bias=pick((False, True)))


def _draw_norm(pick: Pick) -> c.Norm:
    eps = pick((1e-5, 1e-6, 1e-2))
    return pick((c.RMSNorm(eps=eps), c.LayerNorm(eps=eps), c.LayerNorm(eps=eps, bias=False)))
