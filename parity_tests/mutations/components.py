"""Wrong values of the fields of attention variants, positions, norms, embeddings and heads."""

from parity_tests.builders import WIDTH
from parity_tests.mutations.mutation import Mutation, on_field

_FIRST, _SECOND = "stack.pattern.0", "stack.pattern.1"
_L0, _L1, _L2, _L3 = (f"forward stack.layers.{layer}" for layer in range(4))
_STRUCTURE = "structure"


def _scores() -> list[Mutation]:
    attn, second = f"{_FIRST}.attention", f"{_SECOND}.attention"
    wrong = [
        ("Softmax", f"{attn}.sink_tokens", 2, f"{_L0}.attn.probabilities"),
        ("Softmax", f"{attn}.softcap", 0.81, f"{_L0}.attn.probabilities"),
        ("Softmax", f"{attn}.sink_logits", False, _STRUCTURE),
        ("Softmax", f"{attn}.output_gate", "head", _STRUCTURE),
        ("Softmax", f"{attn}.clip_qkv", 0.91, f"{_L0}.attn.[qkv]"),
        ("QkNorm", f"{attn}.qk_norm.place", "before_rope", f"{_L0}.attn.q"),
        ("QkNorm", f"{attn}.qk_norm.scope", "own_heads", _STRUCTURE),
        ("QkNorm", f"{second}.qk_norm.scope", "head", _STRUCTURE, " of one's own"),
        ("QueryTemperature", f"{attn}.query_temperature.beta", 0.51, f"{_L0}.attn.q"),
        ("QueryTemperature", f"{attn}.query_temperature.original_length", 4, f"{_L0}.attn.q"),
        ("QueryTemperature", f"{attn}.query_temperature.offset", 0, f"{_L0}.attn.q"),
        ("Alibi", f"{second}.position.max_bias", 3.1, f"{_L1}.attn.probabilities"),
        ("ClampedGlu", f"{_FIRST}.ffn.limit", 0.71, f"{_L0}.ffn.hidden"),
        ("ClampedGlu", f"{_FIRST}.ffn.alpha", 1.31, f"{_L0}.ffn.hidden"),
        ("ClampedGlu", f"{_FIRST}.ffn.bias", False, _STRUCTURE),
        ("ClampedGlu", f"{_FIRST}.ffn.hidden_dim", 13, _STRUCTURE),
        ("Glu", f"{_SECOND}.ffn.expansion_factor", 1.2, _STRUCTURE),
        ("Glu", f"{_SECOND}.ffn.multiple_of", 4, _STRUCTURE),
    ]
    return [on_field("scores", *row) for row in wrong]


def _around() -> list[Mutation]:
    wrong = [
        ("RMSNorm", f"{_FIRST}.norm.weight", "scale", f"{_L0}.attn_norm|init"),
        ("RMSNorm", f"{_FIRST}.norm.cast", "before_weight", "casts stack.layers.0.attn_norm"),
        ("ScaleNorm", f"{_SECOND}.norm.eps", 0.31, f"{_L1}.attn_norm"),
        ("ScaleNorm", f"{_SECOND}.norm.eps_rule", "clamp", f"{_L1}.attn_norm"),
        ("ScaleNorm", f"{_SECOND}.norm.init", "sqrt_dim", "init"),
        ("Block", f"{_FIRST}.parallel", None, f"{_L0}.ffn_norm"),
        ("Block", f"{_FIRST}.parallel", "shared", _STRUCTURE, " shared"),
        ("Block", f"{_FIRST}.residual_scale", 0.71, f"{_L0}.ffn_out_norm|{_L0}.output"),
        ("Block", f"{_SECOND}.placement", "pre", _STRUCTURE),
        ("Embedding", "embedding.scale", 1.71, "forward embed"),
        ("Embedding", "embedding.dim", None, _STRUCTURE),
        ("Embedding", "embedding.num_token_types", 2, _STRUCTURE),
        ("Embedding", "embedding.projection_bias", False, _STRUCTURE),
        ("Learned", "embedding.position.offset", 1, _STRUCTURE),
        ("Head", "head.softcap", 1.51, "forward logits"),
        ("Head", "head.scale", 0.61, "forward logits"),
    ]
    return [on_field("scores", *row) for row in wrong]


def _mixers() -> list[Mutation]:
    turned, latent, biased = "stack.first.0.attention", f"{_FIRST}.attention", f"{_SECOND}.attention"
    sizes = {"num_heads": 2, "head_dim": 6, "qkv_bias": False, "o_bias": False}
    ranks = {
        "num_heads": 2,
        "q_rank": 6,
        "kv_rank": 4,
        "nope_dim": 3,
        "rope_dim": 4,
        "v_dim": 5,
        "down_bias": False,
        "o_bias": False,
    }
    wrong = [
        *(("Complex", f"{turned}.{name}", value, _STRUCTURE) for name, value in sizes.items()),
        ("Complex", f"{turned}.scale", 0.31, f"{_L0}.attn.probabilities"),
        ("Complex", f"{turned}.rope_base", 51.0, f"{_L0}.attn.q"),
        ("Complex", f"{turned}.window", 3, f"{_L0}.attn.probabilities"),
        ("Complex", f"{turned}.sink_tokens", 2, f"{_L0}.attn.probabilities"),
        *(("Mla", f"{latent}.{name}", value, _STRUCTURE) for name, value in ranks.items()),
        ("Mla", f"{latent}.scale", 0.41, f"{_L1}.attn.probabilities"),
        ("Mla", f"{latent}.window", 3, f"{_L1}.attn.probabilities"),
        ("Mla", f"{latent}.sink_tokens", 2, f"{_L1}.attn.probabilities"),
        ("T5Bias", f"{biased}.position.num_buckets", 10, _STRUCTURE),
        ("T5Bias", f"{biased}.position.max_distance", 12, f"{_L3}.attn.probabilities"),
        ("L2Norm", f"{_SECOND}.norm.eps", 0.11, f"{_L3}.attn_norm"),
        ("LayerNorm", f"{_FIRST}.norm.weight", "scale", f"{_L1}.attn_norm|init"),
        ("Mlp", f"{_SECOND}.ffn.expansion_factor", 1.6, _STRUCTURE),
        ("Mlp", f"{_SECOND}.ffn.multiple_of", 5, _STRUCTURE),
        ("ClampedGlu", f"{_FIRST}.ffn.expansion_factor", 1.6, _STRUCTURE),
        ("ClampedGlu", f"{_FIRST}.ffn.multiple_of", 5, _STRUCTURE),
        ("Stack", "stack.hybrid_ratio", 1, _STRUCTURE),
        ("Sinusoidal", "embedding.position.base", 31.0, "forward embed"),
        ("Sinusoidal", "embedding.position.layout", "halves", "forward embed"),
        ("Sinusoidal", "embedding.position.denominator", "half_minus_one", "forward embed"),
        ("Sinusoidal", "embedding.position.offset", 0, "forward embed"),
    ]
    return [on_field("mixers", *row) for row in wrong]


def _chunks() -> list[Mutation]:
    owners = ("Softmax", "Complex", "Mla")
    return [
        on_field(
            "chunks",
            owner,
            f"stack.pattern.{layer}.attention.chunk_size",
            5,
            f"forward stack.layers.{layer}.attn.probabilities",
        )
        for layer, owner in enumerate(owners)
    ]


def _ends() -> list[Mutation]:
    wrong = [
        ("Block", "stack.first.0.attention_norm", True, _STRUCTURE),
        ("Transform", "head.transform.activation", "gelu_tanh", "forward logits"),
        ("Transform", "head.transform.bias", False, _STRUCTURE),
        ("Head", "head.transform", None, _STRUCTURE),
    ]
    return [on_field("mixers", *row) for row in wrong]


def _ropes() -> list[Mutation]:
    wrong: list[tuple[int, str, str, object]] = [
        (0, "LinearScaling", "factor", 3.1),
        (1, "NtkScaling", "factor", 2.6),
        (2, "DynamicNtkScaling", "factor", 3.1),
        (2, "DynamicNtkScaling", "original_length", 5),
        (3, "YarnScaling", "factor", 4.1),
        (3, "YarnScaling", "original_length", 19),
        (3, "YarnScaling", "beta_fast", 1.4),
        (3, "YarnScaling", "beta_slow", 0.21),
        (3, "YarnScaling", "truncate", True),
        (3, "YarnScaling", "attention_factor", 1.0),
        (4, "Llama3Scaling", "factor", 4.1),
        (4, "Llama3Scaling", "original_length", 41),
        (4, "Llama3Scaling", "low_frequency_factor", 1.1),
        (4, "Llama3Scaling", "high_frequency_factor", 4.1),
        (5, "LongRopeScaling", "factor", 2.1),
        (5, "LongRopeScaling", "original_length", 6),
        (5, "LongRopeScaling", "short_factors", (1.0, 1.5, 2.0, 2.6)),
        (5, "LongRopeScaling", "long_factors", (1.5, 2.0, 4.0, 8.1)),
        (5, "LongRopeScaling", "attention_factor", 1.0),
    ]
    return [
        on_field(
            "ropes",
            owner,
            f"stack.pattern.{layer}.attention.position.scaling.{name}",
            value,
            f"forward stack.layers.{layer}.attn.q",
        )
        for layer, owner, name, value in wrong
    ]


def _encoders() -> list[Mutation]:
    bert = [
        ("Encoder", "vocab_size", 20, _STRUCTURE),
        ("Encoder", "d_model", 12, _STRUCTURE),
        ("Softmax", f"{_FIRST}.attention.window", 3, f"{_L0}.attn.probabilities", " bidirectional"),
        ("Block", f"{_FIRST}.placement", "output", _STRUCTURE, " output for post"),
        ("MlmHead", "head.activation", "gelu_tanh", "forward logits"),
        ("MlmHead", "head.dense_bias", False, _STRUCTURE),
        ("MlmHead", "head.transform", False, _STRUCTURE),
        ("MlmHead", "head.tied", False, _STRUCTURE),
        ("MlmHead", "head.bias", False, _STRUCTURE),
    ]
    classifier = [
        ("ClassifierHead", "head.num_classes", 4, _STRUCTURE),
        ("ClassifierHead", "head.pool", "first", "forward logits"),
        ("ClassifierHead", "head.pool", "mean", "forward logits", " mean"),
        ("ClassifierHead", "head.dense", "relu", "forward logits"),
        ("ClassifierHead", "head.dense", None, _STRUCTURE, " dropped"),
        ("ClassifierHead", "head.dense_bias", False, _STRUCTURE),
        ("ClassifierHead", "head.norm", None, _STRUCTURE),
        ("ClassifierHead", "head.bias", False, _STRUCTURE),
    ]
    return [*(on_field("bert", *row) for row in bert), *(on_field("classifier", *row) for row in classifier)]


def _encoder_decoders() -> list[Mutation]:
    path, first = "decoder.stack.pattern.0.cross_attention", "forward decoder.stack.layers.0.cross_attn"
    sizes = {"num_heads": 4, "num_kv_heads": 3, "head_dim": 6, "qkv_bias": False, "o_bias": False, "sink_logits": False}
    wrong = [
        *(("CrossAttention", f"{path}.{name}", value, _STRUCTURE) for name, value in sizes.items()),
        ("CrossAttention", f"{path}.output_gate", "head", _STRUCTURE),
        ("CrossAttention", f"{path}.scale", 0.51, f"{first}.probabilities"),
        ("CrossAttention", f"{path}.softcap", 0.91, f"{first}.probabilities"),
        ("EncoderDecoder", "vocab_size", 20, _STRUCTURE),
        ("EncoderDecoder", "d_model", 12, _STRUCTURE),
        ("EncoderDecoder", "share_embedding", False, _STRUCTURE),
        (
            "T5Bias",
            "encoder.stack.shared_bias.max_distance",
            30,
            "forward encoder.stack.layers.0.attn.probabilities",
            " shared",
        ),
    ]
    # The shared table keeps its width: a linear layer leads from it to the encoder's.
    narrower = (("encoder.embedding.dim", WIDTH), ("encoder.d_model", 12))
    return [*(on_field("seq2seq", *row) for row in wrong), Mutation("Tower.d_model", "seq2seq", narrower, first=_STRUCTURE)]


COMPONENT_MUTATIONS = [
    *_scores(),
    *_around(),
    *_mixers(),
    *_chunks(),
    *_ends(),
    *_ropes(),
    *_encoders(),
    *_encoder_decoders(),
]
