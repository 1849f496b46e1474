"""The few models in which every mutated feature is active."""

from jax_transformer import config as c
from parity_tests.builders import LAYER, RMS, attention, block, cross, decoder, encoder, encoder_decoder, mla, moe
from parity_tests.inputs import DISTINCT
from parity_tests.linear_time import gated_delta, linear

MIXED = c.Dtype(param="bfloat16", compute="bfloat16", logits="float32")


def _everything() -> c.Decoder:
    """All biases, both feed-forward kinds, both norms, partial rotation, a window, grouped heads, a tied head."""
    first = block(
        attention(head_dim=8, qkv_bias=True, o_bias=True, window=3, position=c.Rope(base=50.0, fraction=0.5)),
        c.Glu(hidden_dim=14, activation="gelu_erf", bias=True),
    )
    second = block(
        attention(num_kv_heads=3, window=5, scale=0.4),
        c.Mlp(hidden_dim=9, activation="silu", bias=True),
        c.LayerNorm(eps=1e-3),
    )
    return decoder(first, second, num_layers=3, final_norm=c.LayerNorm(eps=1e-3), head=c.Head(bias=True), dtype=MIXED)


def _square() -> c.Decoder:
    """Every matrix square, so that a transposed one has the right shape."""
    attn = attention(num_heads=2, num_kv_heads=2, head_dim=4, position=c.Rope(base=50.0, layout="interleaved"))
    windowed = attn.model_copy(update={"window": 2})
    blocks = [block(own, c.Glu(hidden_dim=8), c.LayerNorm(eps=1e-3)) for own in (attn, windowed)]
    dtype = c.Dtype(param="float32", compute="bfloat16", logits="bfloat16")
    return decoder(*blocks, num_layers=3, vocab_size=8, d_model=8, head=c.Head(tied=False, bias=True), dtype=dtype)


def _scores() -> c.Decoder:
    """Everything between projections and output that softmax attention may have, and around embedding and head."""
    first = block(
        attention(
            head_dim=8,
            window=2,
            sink_tokens=1,
            softcap=0.8,
            sink_logits=True,
            output_gate="element",
            clip_qkv=0.9,
            query_temperature=c.QueryTemperature(beta=0.5, original_length=3, offset=1),
            qk_norm=c.QkNorm(norm=c.RMSNorm(eps=1e-2), place="after_rope"),
            position=c.Rope(base=50.0),
        ),
        c.ClampedGlu(hidden_dim=14, limit=0.7, alpha=1.3, bias=True),
        c.RMSNorm(eps=1e-3, weight="one_plus", cast="after_weight"),
        parallel="separate",
        residual_scale=0.7,
    )
    second = block(
        attention(
            num_kv_heads=6,
            output_gate="head",
            qk_norm=c.QkNorm(norm=LAYER, scope="own_heads"),
            position=c.Alibi(max_bias=3.0),
        ),
        c.Glu(expansion_factor=0.85, multiple_of=3),
        c.ScaleNorm(eps=0.3, init="one"),
        placement="sandwich",
    )
    embedding = c.Embedding(dim=7, scale=1.7, position=c.Learned(offset=2), num_token_types=3, norm=LAYER, projection_bias=True)
    return decoder(first, second, embedding=embedding, head=c.Head(softcap=1.5, scale=0.6), dtype=MIXED)


def _mixers() -> c.Decoder:
    """Every other token mixer, a learned bias, sinusoids, layers before a hybrid pattern."""
    turned = c.Complex(num_heads=3, head_dim=4, qkv_bias=True, o_bias=True, rope_base=50.0, scale=0.3, window=2, sink_tokens=1)
    latent = mla(q_rank=7, down_bias=True, o_bias=True, latent_norm=LAYER, scale=0.4, window=2, sink_tokens=1)
    mlp = c.Mlp(expansion_factor=1.2, multiple_of=3, activation="xielu")
    clamped = c.ClampedGlu(expansion_factor=1.2, multiple_of=3)
    pattern = (
        block(latent, clamped, c.LayerNorm(eps=1e-3, weight="one_plus")),
        block(attention(position=c.T5Bias(num_buckets=8, max_distance=9)), mlp, c.L2Norm(eps=1e-1)),
    )
    stack = {"first": (block(turned, attention_norm=False),), "hybrid_ratio": 2}
    embedding = c.Embedding(position=c.Sinusoidal(base=30.0, offset=1))
    head = c.Head(transform=c.Transform(norm=LAYER))
    return decoder(*pattern, num_layers=4, stack=stack, embedding=embedding, head=head, dtype=MIXED)


def _chunks() -> c.Decoder:
    """Every mixer that may have chunks, with them."""
    turned = c.Complex(num_heads=3, head_dim=4, rope_base=50.0, chunk_size=3)
    mixers = attention(chunk_size=3), turned, mla(chunk_size=4)
    return decoder(*(block(own, c.Mlp(hidden_dim=3)) for own in mixers))


def _linear_time() -> c.Decoder:
    """Both mixers of linear time."""
    first, second = gated_delta(allow_neg_eigval=True), linear(qkv_bias=True, o_bias=True)
    return decoder(block(first), block(second), num_layers=3, dtype=MIXED)


def _ropes() -> c.Decoder:
    """A layer for every scaling of rotary frequencies."""
    scalings: list[c.RopeScaling] = [
        c.LinearScaling(factor=3.0),
        c.NtkScaling(factor=2.5),
        c.DynamicNtkScaling(factor=3.0, original_length=4),
        c.YarnScaling(factor=4.0, original_length=20, beta_fast=1.5, beta_slow=0.2, truncate=False),
        c.Llama3Scaling(factor=4.0, original_length=40),
        c.LongRopeScaling(factor=2.0, original_length=5, short_factors=(1.0, 1.5, 2.0, 2.5), long_factors=(1.5, 2.0, 4.0, 8.0)),
    ]
    turned = (attention(head_dim=8, position=c.Rope(base=50.0, scaling=scaling)) for scaling in scalings)
    return decoder(*(block(own, c.Mlp(hidden_dim=3)) for own in turned))


def _bert() -> c.Encoder:
    """A bidirectional model with norms after the sum."""
    own = attention(window=2, position=c.T5Bias(num_buckets=8, max_distance=9))
    layer = block(own, c.Mlp(hidden_dim=9), LAYER, placement="post")
    return encoder(layer, num_layers=2, final_norm=None, head=c.MlmHead(norm=LAYER), dtype=MIXED)


def _classifier() -> c.Encoder:
    """A bidirectional model with norms on the branches and one answer per row."""
    head = c.ClassifierHead(num_classes=3, pool="last", norm=LAYER)
    return encoder(block(placement="output"), head=head, dtype=MIXED)


def _seq2seq() -> c.EncoderDecoder:
    """T5's shared bias, and a cross-attention with everything."""
    bias = {"shared_bias": c.T5Bias(num_buckets=8, max_distance=9)}
    rich = cross(
        sink_logits=True,
        softcap=0.9,
        output_gate="element",
        qk_norm=c.QkNorm(norm=RMS),
        qkv_bias=True,
        o_bias=True,
        scale=0.5,
    )
    layers = [block(attention(position=c.SharedBias(), scale=1.0), cross_attention=own) for own in (None, rich)]
    towers = [c.Tower(stack=c.Stack(pattern=(own,), num_layers=2, **bias), final_norm=RMS) for own in layers]
    return encoder_decoder(*towers, head=c.Head(scale=0.3))


def _experts() -> c.Decoder:
    """Every way to choose experts. In float32: nothing is compared behind a choice in 16 bits."""
    groups = c.ExpertGroups(count=4, kept=2)
    layers = [
        moe(
            c.SoftmaxTopK(top_k=2, floor=0.7, choice_bias=True, groups=groups, scale=1.3),
            num_experts=8,
            shared=c.Mlp(hidden_dim=5),
            shared_gate=True,
            router_bias=True,
            load_balance_weight=0.3,
            router_z_weight=0.2,
        ),
        moe(c.SigmoidTopK(top_k=2, choice_bias=True, groups=groups, scale=1.4), num_experts=8),
        moe(c.TopKSoftmax(top_k=2), capacity_factor=0.9),
        moe(c.ExpertChoice(capacity_factor=1.4, acausal=True), c.Mlp(hidden_dim=5)),
    ]
    return decoder(*(block(ffn=own) for own in layers), vocab_size=DISTINCT)


BASES: dict[str, c.Model] = {
    "everything": _everything(),
    "square": _square(),
    "scores": _scores(),
    "mixers": _mixers(),
    "chunks": _chunks(),
    "linear_time": _linear_time(),
    "ropes": _ropes(),
    "bert": _bert(),
    "classifier": _classifier(),
    "seq2seq": _seq2seq(),
    "experts": _experts(),
}
