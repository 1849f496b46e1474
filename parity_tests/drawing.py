"""Configs drawn over the whole space of models: each choice is one call of ``pick``, simplest option first."""

from typing import Any, get_args

from jax_transformer import config as c
from jax_transformer.config.block import Remat
from jax_transformer.config.tree import nodes
from parity_tests.builders import ACTIVATIONS, MAX_LENGTH
from parity_tests.drawing_ffn import draw_ffn
from parity_tests.drawing_parts import Pick, draw_gated_delta, draw_linear, draw_scaling
from parity_tests.forms import draw_form
from parity_tests.inputs import DISTINCT

REMATS: tuple[str, ...] = get_args(Remat)
SHARED_HEADS, WIDTHS = 3, (6, 8, 10, 13, 16)
TABLE_WIDTHS = (None, None, 6)
SHARED_BIAS = c.T5Bias(num_buckets=8, max_distance=9)


def draw_config(pick: Pick) -> c.Model:
    """A valid config from anywhere in the space of models."""
    drawn = pick((_draw_decoder, _draw_encoder, _draw_encoder_decoder))(pick)
    chooses = any(isinstance(node, c.ExpertChoice) for node in nodes(drawn))
    return drawn.model_copy(update={"vocab_size": DISTINCT}) if chooses else drawn


def _draw_decoder(pick: Pick) -> c.Decoder:
    width = pick(WIDTHS)
    return c.Decoder(
        **_usual(pick, width), embedding=_draw_embedding(pick, width), stack=_draw_stack(pick), head=_draw_head(pick)
    )


def _draw_encoder(pick: Pick) -> c.Encoder:
    width = pick(WIDTHS)
    head = _draw_mlm(pick) if pick((True, False)) else _draw_classifier(pick)
    parts = {"embedding": _draw_embedding(pick, width), "stack": _draw_stack(pick, causal=False)}
    return c.Encoder(**_usual(pick, width), **parts, head=head)


def _draw_encoder_decoder(pick: Pick) -> c.EncoderDecoder:
    width, share = pick(WIDTHS), pick((True, False))
    source = pick((None, None, *WIDTHS))
    first = _draw_embedding(pick, source or width, types=False)
    dims = (first.width(source or width),) if share else TABLE_WIDTHS
    embeddings = first, _draw_embedding(pick, width, types=False, dims=dims)
    usual = _usual(pick, width)
    final_norms = usual.pop("final_norm"), _draw_norm(pick)
    stacks = _draw_stack(pick, small=True, causal=False), _draw_stack(pick, crosses=True, small=True)
    parts = zip((source, None), embeddings, stacks, final_norms, strict=True)
    towers = [c.Tower(d_model=own, embedding=table, stack=stack, final_norm=norm) for own, table, stack, norm in parts]
    extra = {"max_source_length": MAX_LENGTH, "share_embedding": share, "head": _draw_head(pick)}
    return c.EncoderDecoder(**usual, encoder=towers[0], decoder=towers[1], **extra)


def _usual(pick: Pick, width: int) -> dict[str, Any]:
    return {
        "vocab_size": pick((7, 19, 40)),
        "d_model": width,
        "max_length": MAX_LENGTH,
        "final_norm": _draw_norm(pick) if pick((True, True, False)) else None,
        "dtype": c.Dtype(**{name: pick(("float32", "bfloat16")) for name in ("param", "compute", "logits")}),
        "init": c.Init(std=pick((0.02, 0.1)), depth_scaled=pick((True, False))),
    }


def _draw_embedding(pick: Pick, width: int, types: bool = True, dims: tuple[int | None, ...] = TABLE_WIDTHS) -> c.Embedding:
    dim = pick(dims)
    positions: list[c.AbsolutePosition | None] = [None, None, c.Learned(offset=pick((0, 2)))]
    if (width if dim is None else dim) % 2 == 0:
        halves = {"layout": pick(("interleaved", "halves")), "denominator": pick(("half", "half_minus_one"))}
        positions.append(c.Sinusoidal(base=pick((10_000.0, 30.0)), offset=pick((0, 1)), **halves))
    return c.Embedding(
        dim=dim,
        scale=pick((1.0, 0.5, "sqrt_dim")),
        position=pick(positions),
        num_token_types=pick((0, 0, 2)) if types else 0,
        norm=_draw_norm(pick) if pick((False, True)) else None,
        projection_bias=pick((False, True)),
        dropout=pick((0.0, 0.1)),
    )


def _draw_stack(pick: Pick, crosses: bool = False, small: bool = False, causal: bool = True) -> c.Stack:
    """A stack, ``small`` if it is one of two; at least the first pattern block reads a source if it ``crosses``."""
    shares = pick((False, False, True))
    pattern = tuple(
        _draw_block(pick, crosses and (i == 0 or pick((True, False))), shares, causal)
        for i in range(pick((1, 1, 2) if small else (1, 2, 3)))
    )
    first = tuple(_draw_block(pick, False, False, causal) for _ in range(pick((0, 0, 1))))
    return c.Stack(
        pattern=pattern,
        num_layers=len(first) + pick((1, 2, 3, 4, 5)),
        first=first,
        hybrid_ratio=pick((None, 2)) if len(pattern) == 2 else None,
        shared_bias=SHARED_BIAS if shares else None,
        drop_path=pick((0.0, 0.2)),
        drop_path_schedule=pick(("linear", "constant")),
        remat=pick(REMATS),
        unroll=pick((False, True)),
    )


def _draw_block(pick: Pick, crosses: bool, shares: bool, causal: bool) -> c.Block:
    placement = pick(("pre", "post", "sandwich", "output"))
    parallel = pick((None, "shared", "separate")) if placement == "pre" and not crosses else None
    linear_time = (draw_linear, draw_gated_delta) if causal else (draw_linear,)
    mixer = pick((_draw_softmax, _draw_softmax, _draw_complex, _draw_mla, *linear_time))
    bare = placement in ("pre", "sandwich") and parallel != "shared" and pick((False, False, True))
    return c.Block(
        attention=_draw_softmax(pick, shares) if shares else mixer(pick),
        cross_attention=c.CrossAttention(**draw_form(pick, _draw_heads(pick, rotates=False))) if crosses else None,
        ffn=draw_ffn(pick, causal),
        norm=_draw_norm(pick),
        placement=placement,
        parallel=parallel,
        attention_norm=not bare,
        residual_scale=pick((1.0, 0.7)),
        dropout=pick((0.0, 0.1)),
    )


def _draw_heads(pick: Pick, rotates: bool, num_heads: int | None = None) -> dict[str, Any]:
    num_heads = pick((1, 2, 3, 4, 6)) if num_heads is None else num_heads
    return {
        "num_heads": num_heads,
        "num_kv_heads": pick((None, *(heads for heads in (1, 2, 3, 6) if num_heads % heads == 0))),
        "head_dim": pick((2, 4, 5, 6, 8)),
        "qkv_bias": pick((False, True)),
        "o_bias": pick((False, True)),
        "scale": pick((None, 0.3, 1.0)),
        "softcap": pick((None, None, 1.2)),
        "sink_logits": pick((False, False, True)),
        "output_gate": pick((None, None, "element", "head")),
        "qk_norm": _draw_qk_norm(pick, rotates) if pick((False, True)) else None,
        "dropout": pick((0.0, 0.1)),
    }


def _draw_qk_norm(pick: Pick, rotates: bool) -> c.QkNorm:
    place = pick(("before_rope", "after_rope")) if rotates else "before_rope"
    return c.QkNorm(norm=_draw_norm(pick), scope=pick(("head", "own_heads", "full")), place=place)


def _draw_window(pick: Pick) -> dict[str, Any]:
    window = pick((None, 1, 2, 4, 100))
    if window is None:
        return {"chunk_size": pick((None, None, 1, 3, 100))}
    return {"window": window, "sink_tokens": pick((0, 0, 2))}


def _draw_softmax(pick: Pick, shares: bool = False) -> c.Softmax:
    kind = "shared_bias" if shares else pick(("rope", "none", "alibi", "t5_bias"))
    heads = _draw_heads(pick, kind == "rope", SHARED_HEADS if shares else None)
    others: dict[str, Any] = {
        "none": c.NoPosition(),
        "alibi": c.Alibi(max_bias=pick((8.0, 4.0))),
        "t5_bias": c.T5Bias(num_buckets=pick((8, 4)), max_distance=pick((9, 20))),
        "shared_bias": c.SharedBias(),
    }
    temperature = c.QueryTemperature(beta=0.3, original_length=pick((3, 5)), offset=pick((0, 1)))
    return c.Softmax(
        **draw_form(pick, heads | _draw_window(pick)),
        clip_qkv=pick((None, None, 0.9)),
        query_temperature=pick((None, None, temperature)),
        position=_draw_rope(pick, heads["head_dim"]) if kind == "rope" else others[kind],
    )


def _draw_rope(pick: Pick, head_dim: int) -> c.Rope:
    even = [fraction for fraction in (1.0, 0.75, 0.5, 0.4) if int(head_dim * fraction) in range(2, head_dim + 1, 2)]
    fraction = pick(even)
    return c.Rope(
        base=pick((10_000.0, 50.0, 500_000.0)),
        fraction=fraction,
        layout=pick(("half", "interleaved", "half_reversed")),
        scaling=draw_scaling(pick, int(head_dim * fraction) // 2),
    )


def _draw_complex(pick: Pick) -> c.Complex:
    head_dim = pick((2, 4, 5))
    base = pick((50.0, 10_000.0, None)) if head_dim % 2 == 0 else None
    rest = {"qkv_bias": pick((False, True)), "o_bias": pick((False, True)), "scale": pick((None, 0.4))} | _draw_window(pick)
    return c.Complex(num_heads=pick((1, 2, 3)), head_dim=head_dim, rope_base=base, **draw_form(pick, rest))


def _draw_mla(pick: Pick) -> c.Mla:
    rope_dim = pick((2, 4))
    return c.Mla(
        num_heads=pick((1, 2, 3)),
        q_rank=pick((None, 5)),
        kv_rank=pick((4, 7)),
        nope_dim=pick((3, 4)),
        rope_dim=rope_dim,
        v_dim=pick((2, 5)),
        latent_norm=_draw_norm(pick),
        down_bias=pick((False, True)),
        o_bias=pick((False, True)),
        scale=pick((None, 0.4)),
        position=_draw_rope(pick, rope_dim) if pick((True, True, False)) else c.NoPosition(),
        **draw_form(pick, _draw_window(pick)),
    )


def _draw_norm(pick: Pick) -> c.Norm:
    eps, weight = pick((1e-5, 1e-6, 1e-2)), pick(("scale", "one_plus", "none"))
    return pick(
        (
            c.RMSNorm(eps=eps, weight=weight, cast=pick(("before_weight", "after_weight"))),
            c.LayerNorm(eps=eps, weight=weight, bias=pick((True, False))),
            c.ScaleNorm(eps=eps, eps_rule=pick(("add", "clamp")), init=pick(("sqrt_dim", "one"))),
            c.L2Norm(eps=eps),
        )
    )


def _draw_head(pick: Pick) -> c.Head:
    transform = c.Transform(activation=pick(ACTIVATIONS), norm=_draw_norm(pick), bias=pick((True, False)))
    return c.Head(
        transform=pick((None, None, transform)),
        tied=pick((True, False)),
        bias=pick((False, True)),
        scale=pick((1.0, 0.4)),
        softcap=pick((None, 1.5)),
    )


def _draw_mlm(pick: Pick) -> c.MlmHead:
    flags = {name: pick((True, False)) for name in ("dense_bias", "tied", "bias")}
    return c.MlmHead(activation=pick(ACTIVATIONS), norm=_draw_norm(pick), **flags)


def _draw_classifier(pick: Pick) -> c.ClassifierHead:
    dense = pick((None, "tanh", "relu"))
    return c.ClassifierHead(
        num_classes=pick((2, 5)),
        pool=pick(("first", "last", "mean")),
        dense=dense,
        dense_bias=pick((True, False)),
        norm=_draw_norm(pick) if pick((False, False, True)) else None,
        bias=pick((True, False)),
    )
