"""Which models are compared: every entry of every table along each of its axes. ``drawing`` has the whole space."""

from typing import Any

from jax_transformer import config as c
from parity_tests.builders import (
    ACTIVATIONS,
    HIDDEN,
    LAYER,
    RMS,
    attention,
    block,
    cross,
    decoder,
    encoder,
    encoder_decoder,
    mla,
    tower,
)
from parity_tests.embedding_cases import embedding_cases
from parity_tests.expert_cases import expert_cases
from parity_tests.forms import form_cases
from parity_tests.linear_time import linear_time_cases


def enumerate_cases() -> dict[str, c.Model]:
    """Name -> config: every table entry times its axes, several layers of one model where they do not disturb one another."""
    return {
        **_attention_cases(),
        **_score_cases(),
        **form_cases(),
        **_mixer_cases(),
        **linear_time_cases(),
        **_rope_cases(),
        **_position_cases(),
        **_ffn_cases(),
        **expert_cases(),
        **_norm_cases(),
        **_placement_cases(),
        **embedding_cases(),
        **_model_cases(),
        **_architecture_cases(),
    }


def _attention_cases() -> dict[str, c.Model]:
    def normed(norm: c.Norm, **place: Any) -> c.Block:
        return block(attention(qk_norm=c.QkNorm(norm=norm, **place)))

    return {
        "attention_heads": decoder(*(block(attention(num_kv_heads=heads)) for heads in (None, 1, 3))),
        "attention_biases": decoder(block(attention(qkv_bias=True)), block(attention(o_bias=True)), num_layers=3),
        "attention_scale": decoder(block(attention(scale=0.7)), num_layers=2),
        "attention_windows": decoder(*(block(attention(window=window)) for window in (1, 2, 5)), num_layers=4),
        "attention_chunks": decoder(*(block(attention(chunk_size=size)) for size in (2, 3, 5)), num_layers=4),
        "attention_sink_tokens": decoder(*(block(attention(window=2, sink_tokens=count)) for count in (1, 3))),
        "qk_norm_head": decoder(normed(RMS), normed(LAYER, place="after_rope"), num_layers=3),
        "qk_norm_own_heads": decoder(normed(c.LayerNorm(eps=1e-3, bias=False), scope="own_heads"), normed(c.L2Norm(eps=1e-3))),
        "qk_norm_full": decoder(normed(RMS, scope="full"), normed(c.ScaleNorm(eps=1e-2), scope="full", place="after_rope")),
    }


def _score_cases() -> dict[str, c.Model]:
    temperature = c.QueryTemperature(beta=0.3, original_length=4, offset=1)
    return {
        "attention_softcap": decoder(block(attention(softcap=0.8)), num_layers=2, head=c.Head(softcap=1.5)),
        "attention_sink_logits": decoder(block(attention(sink_logits=True)), block(attention(sink_logits=True, window=2))),
        "attention_gates": decoder(*(block(attention(output_gate=gate)) for gate in ("element", "head"))),
        "attention_clip": decoder(block(attention(clip_qkv=0.6, qkv_bias=True)), num_layers=2),
        "attention_temperature": decoder(
            block(attention(query_temperature=temperature)),
            block(attention(query_temperature=temperature, position=c.NoPosition())),
        ),
    }


def _mixer_cases() -> dict[str, c.Model]:
    turned = c.Complex(num_heads=3, head_dim=4, qkv_bias=True, rope_base=50.0)
    still = c.Complex(num_heads=2, head_dim=5, o_bias=True, rope_base=None, scale=0.3, window=3)
    plain = mla(o_bias=True)
    latent = mla(q_rank=7, down_bias=True, latent_norm=LAYER, scale=0.4, window=4, sink_tokens=1)
    return {
        "complex": decoder(block(turned), block(still), num_layers=3),
        "mixers_chunked": decoder(block(turned.model_copy(update={"chunk_size": 3})), block(mla(chunk_size=4))),
        "mla": decoder(block(plain), block(latent), num_layers=3),
        "mla_none": decoder(block(mla(position=c.NoPosition())), block(turned)),
    }


def _rope_cases() -> dict[str, c.Model]:
    def turned(**changes: Any) -> c.Block:
        return block(attention(head_dim=8, position=c.Rope(**{"base": 50.0} | changes)))

    scalings: list[c.RopeScaling] = [
        c.LinearScaling(factor=3.0),
        c.NtkScaling(factor=2.5),
        c.YarnScaling(factor=4.0, original_length=6, beta_fast=1.5, beta_slow=0.2),
        c.YarnScaling(factor=2.0, original_length=5, beta_fast=1.0, beta_slow=0.1, truncate=False, attention_factor=1.3),
        c.Llama3Scaling(factor=4.0, original_length=40),
    ]
    by_length: list[c.RopeScaling] = [
        c.DynamicNtkScaling(factor=3.0, original_length=4),
        c.LongRopeScaling(factor=2.0, original_length=5, short_factors=(1.0, 1.5, 2.0, 2.5), long_factors=(1.5, 2.0, 4.0, 8.0)),
    ]
    return {
        "rope_half": decoder(turned(fraction=0.5), block(attention(head_dim=7, position=c.Rope(fraction=0.6)))),
        "rope_interleaved": decoder(turned(layout="interleaved"), turned(layout="interleaved", fraction=0.75)),
        "rope_reversed": decoder(turned(layout="half_reversed"), turned(layout="half_reversed", fraction=0.5)),
        "rope_scalings": decoder(*(turned(scaling=scaling) for scaling in scalings)),
        "rope_by_length": decoder(*(turned(scaling=scaling) for scaling in by_length)),
        "rope_per_layer": decoder(
            turned(base=20.0), block(attention(position=c.NoPosition())), turned(base=900.0), num_layers=4
        ),
    }


def _position_cases() -> dict[str, c.Model]:
    t5 = c.T5Bias(num_buckets=8, max_distance=9)
    shared, biased = (block(attention(position=position)) for position in (c.SharedBias(), t5))
    added = {
        "sinusoidal": c.Sinusoidal(base=30.0),
        "sinusoidal_halves": c.Sinusoidal(base=30.0, layout="halves", denominator="half_minus_one", offset=2),
        "learned": c.Learned(offset=3),
    }
    none = block(attention(position=c.NoPosition()))
    return {
        "position_none": decoder(block(attention(position=c.NoPosition(), qkv_bias=True)), num_layers=2),
        "position_alibi": decoder(
            *(block(attention(num_heads=n, position=c.Alibi(max_bias=m))) for n, m in ((6, 8.0), (4, 3.0)))
        ),
        "position_t5": decoder(biased, num_layers=2),
        "position_t5_shared": decoder(shared, none, num_layers=3, stack={"shared_bias": t5}),
        **{f"position_{name}": decoder(none, embedding=c.Embedding(position=value)) for name, value in added.items()},
    }


def _ffn_cases() -> dict[str, c.Model]:
    def both(activation: Any, bias: bool) -> list[c.Block]:
        kinds = (
            c.Glu(hidden_dim=HIDDEN, activation=activation, bias=bias),
            c.Mlp(expansion_factor=0.85, multiple_of=3, activation=activation, bias=not bias),
        )
        return [block(ffn=kind) for kind in kinds]

    heads = [c.Head(tied=tied, bias=bias) for tied in (True, False) for bias in (False, True)]
    threes = [ACTIVATIONS[i : i + 3] for i in range(0, len(ACTIVATIONS), 3)]
    clamped = [c.ClampedGlu(hidden_dim=HIDDEN, limit=0.7, alpha=1.3, bias=bias) for bias in (True, False)]
    return {
        **{
            f"ffn_{'_'.join(three)}": decoder(
                *(one for i, name in enumerate(three) for one in both(name, bool(i % 2))), head=head
            )
            for three, head in zip(threes, heads, strict=False)
        },
        "ffn_clamped_glu": decoder(*(block(ffn=kind) for kind in clamped), head=heads[3]),
    }


def _norm_cases() -> dict[str, c.Model]:
    plain = c.LayerNorm(bias=False)
    return {
        "norm_layer": decoder(block(norm=LAYER), block(norm=plain), final_norm=c.LayerNorm(eps=1e-2)),
        "norm_mixed": decoder(block(norm=c.RMSNorm()), block(norm=LAYER), num_layers=3, final_norm=plain),
        "norm_one_plus": decoder(
            block(norm=c.RMSNorm(eps=1e-3, weight="one_plus", cast="after_weight")),
            block(norm=c.LayerNorm(eps=1e-3, weight="one_plus")),
            final_norm=c.RMSNorm(weight="one_plus"),
        ),
        "norm_weightless": decoder(
            block(norm=c.RMSNorm(eps=1e-3, weight="none")),
            block(norm=c.LayerNorm(eps=1e-3, weight="none", bias=False)),
            final_norm=c.RMSNorm(cast="after_weight"),
        ),
        "norm_scale": decoder(
            block(norm=c.ScaleNorm(eps=1e-2)),
            block(norm=c.ScaleNorm(eps=0.5, eps_rule="clamp", init="one")),
            final_norm=c.L2Norm(eps=1e-2),
        ),
        "norm_none_last": decoder(num_layers=2, final_norm=None),
    }


def _placement_cases() -> dict[str, c.Model]:
    places: tuple[Any, ...] = ("post", "sandwich", "output")
    return {
        **{f"placement_{place}": decoder(block(placement=place), num_layers=2, final_norm=None) for place in places},
        "placement_parallel": decoder(block(parallel="shared"), block(parallel="separate", residual_scale=0.6), num_layers=3),
        "placement_no_attention_norm": decoder(
            block(attention_norm=False, placement="sandwich"),
            block(attention_norm=False, parallel="separate"),
            stack={"first": (block(attention_norm=False),)},
            num_layers=4,
        ),
    }


def _model_cases() -> dict[str, c.Model]:
    first, second, third = block(), block(ffn=c.Mlp(hidden_dim=9)), block(attention(window=3), norm=LAYER)
    return {
        "depth_one_pattern": decoder(num_layers=4),
        "depth_remainder": decoder(first, second, third, num_layers=8),
        "depth_below_pattern": decoder(first, second, third, num_layers=2),
        "depth_unrolled": decoder(first, second, num_layers=5, stack={"unroll": True, "remat": "dots"}),
        "depth_first": decoder(first, third, num_layers=7, stack={"first": (second, second)}),
        "depth_hybrid": decoder(first, third, num_layers=6, stack={"hybrid_ratio": 3, "first": (second,), "remat": "full"}),
    }


def _architecture_cases() -> dict[str, c.Model]:
    bert = block(attention(position=c.NoPosition(), qkv_bias=True, o_bias=True), c.Mlp(hidden_dim=9, bias=True), LAYER)
    bert = bert.model_copy(update={"placement": "post"})
    bert_embedding = c.Embedding(position=c.Learned(), num_token_types=2, norm=LAYER)
    t5 = {"shared_bias": c.T5Bias(num_buckets=8, max_distance=9)}
    shared = block(attention(position=c.SharedBias(), scale=1.0))
    reading = block(attention(position=c.SharedBias(), scale=1.0), cross_attention=cross(scale=1.0))
    halves = [c.Tower(stack=c.Stack(pattern=(own,), num_layers=2, **t5), final_norm=RMS) for own in (shared, reading)]
    rich = cross(sink_logits=True, softcap=0.9, output_gate="element", qk_norm=c.QkNorm(norm=RMS), qkv_bias=True, o_bias=True)
    sandwich = tower(block(placement="sandwich", cross_attention=rich), block(), num_layers=3)
    heads = {pool: c.ClassifierHead(num_classes=3, pool=pool) for pool in ("first", "last", "mean")}
    mixed = (
        block(attention(window=2)),
        block(attention(chunk_size=3, position=c.Alibi())),
        block(mla()),
        block(c.Complex(num_heads=2, head_dim=4)),
    )
    return {
        "encoder_bert": encoder(bert, num_layers=2, final_norm=None, embedding=bert_embedding, head=c.MlmHead(norm=LAYER)),
        "encoder_mixed": encoder(*mixed, head=c.MlmHead(norm=RMS, tied=False, bias=False, dense_bias=False, activation="relu")),
        "encoder_factorised": encoder(block(), embedding=c.Embedding(dim=7), head=c.MlmHead(activation="gelu_tanh")),
        **{
            f"encoder_{pool}": encoder(block(attention(position=c.T5Bias(num_buckets=8, max_distance=9))), head=head)
            for pool, head in heads.items()
        },
        "encoder_plain_mlm": encoder(block(), head=c.MlmHead(transform=False)),
        "encoder_plain_scores": encoder(block(), head=c.ClassifierHead(num_classes=4, dense=None, bias=False)),
        "encoder_normed_scores": encoder(
            block(), head=c.ClassifierHead(num_classes=4, dense="gelu_erf", dense_bias=False, norm=LAYER)
        ),
        "encoder_decoder_t5": encoder_decoder(*halves, head=c.Head(scale=0.3)),
        "encoder_decoder_rich": encoder_decoder(tower(block(), num_layers=3, d_model=14), sandwich, share_embedding=False),
        "encoder_decoder_untied": encoder_decoder(
            tower(bert), tower(block(cross_attention=cross())), head=c.Head(tied=False, bias=True)
        ),
    }
