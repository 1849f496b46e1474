"""Wrong values of config fields, and the fields that have none."""

from parity_tests.mutations.mutation import Mutation, on_field

_FIRST = "stack.pattern.0"
_SECOND = "stack.pattern.1"
_STRUCTURE = "structure"


def _field(owner: str, path: str, value: object, first: str = "", base: str = "everything", label: str = "") -> Mutation:
    return on_field(base, owner, path, value, first, label)


def _attention() -> list[Mutation]:
    path = f"{_FIRST}.attention"
    return [
        _field("Softmax", f"{path}.num_heads", 4, _STRUCTURE),
        _field("Softmax", f"{path}.num_kv_heads", 3, _STRUCTURE),
        _field("Softmax", f"{path}.head_dim", 6, _STRUCTURE),
        _field("Softmax", f"{path}.qkv_bias", False, _STRUCTURE),
        _field("Softmax", f"{path}.o_bias", False, _STRUCTURE),
        _field(
            "Softmax",
            f"{path}.scale",
            0.35,
            r"forward stack.layers.0.attn.(probabilities|mixed)",
            label=" default to nearly the same",
        ),
        _field(
            "Softmax",
            f"{_SECOND}.attention.scale",
            None,
            r"forward stack.layers.1.attn.(probabilities|mixed)",
            label=" dropped",
        ),
        _field("Softmax", f"{path}.window", 2, r"forward stack.layers.0.attn.(probabilities|mixed)", label=" one less"),
        _field("Softmax", f"{path}.window", 4, r"forward stack.layers.0.attn.(probabilities|mixed)", label=" one more"),
        _field("Softmax", f"{path}.window", None, r"forward stack.layers.0.attn.(probabilities|mixed)", label=" dropped"),
        _field("Rope", f"{path}.position.base", 51.0, r"forward stack.layers.0.attn.q"),
        _field("Rope", f"{path}.position.fraction", 1.0, r"forward stack.layers.0.attn.q"),
        _field("Rope", f"{path}.position.layout", "interleaved", r"forward stack.layers.0.attn.q"),
        _field("Rope", f"{path}.position.layout", "half", r"forward stack.layers.0.attn.q", base="square", label=" of square"),
    ]


def _ffn() -> list[Mutation]:
    wrong = [("gelu_tanh", "silu", "sigmoid", "relu"), ("gelu_erf", "gelu_tanh", "sigmoid", "relu")]
    glu, mlp = f"{_FIRST}.ffn", f"{_SECOND}.ffn"
    return [
        *(
            _field("Glu", f"{glu}.activation", name, r"forward stack.layers.0.ffn.hidden", label=f" {name}")
            for name in wrong[0]
        ),
        *(
            _field("Mlp", f"{mlp}.activation", name, r"forward stack.layers.1.ffn.hidden", label=f" {name}")
            for name in wrong[1]
        ),
        _field("Glu", f"{glu}.hidden_dim", 13, _STRUCTURE),
        _field("Mlp", f"{mlp}.hidden_dim", 8, _STRUCTURE),
        _field("Glu", f"{glu}.bias", False, _STRUCTURE),
        _field("Mlp", f"{mlp}.bias", False, _STRUCTURE),
    ]


def _model() -> list[Mutation]:
    return [
        _field("RMSNorm", f"{_FIRST}.norm.eps", 1.1e-3, r"forward stack.layers.0.attn_norm"),
        _field("LayerNorm", f"{_SECOND}.norm.eps", 1.1e-3, r"forward stack.layers.1.attn_norm"),
        _field("LayerNorm", "final_norm.eps", 1e-5, r"forward final_norm", label=" of the final norm"),
        _field("LayerNorm", "final_norm.bias", False, _STRUCTURE),
        _field("Stack", "stack.num_layers", 2, _STRUCTURE),
        _field("Decoder", "vocab_size", 20, _STRUCTURE),
        _field("Decoder", "d_model", 12, _STRUCTURE),
        _field("Head", "head.tied", False, _STRUCTURE),
        _field("Head", "head.bias", False, _STRUCTURE),
        _field("Dtype", "dtype.param", "float32", _STRUCTURE),
        _field("Dtype", "dtype.compute", "float32", r"forward embed"),
        _field("Dtype", "dtype.logits", "bfloat16", r"forward logits"),
        _field("Init", "init.std", 0.03, r"init"),
        _field("Init", "init.depth_scaled", False, r"init standard deviation of residual"),
        Mutation(
            "Stack.pattern in another order", "square", _swapped(), first=r"forward stack.layers.0.attn.(probabilities|mixed)"
        ),
    ]


def _swapped() -> tuple[tuple[str, int | None], ...]:
    return (f"{_FIRST}.attention.window", 2), (f"{_SECOND}.attention.window", None)


FIELD_MUTATIONS = [*_attention(), *_ffn(), *_model()]

WITHOUT_MUTATION = {
    "kind": "names the class; the mutations of classes swap them",
    "dropout": "needs noise, which differs between the frameworks: its statistics are tested",
    "Stack.drop_path": "the same",
    "Stack.drop_path_schedule": "the same",
    "Stack.remat": "decides how, not what is computed: a test compares every policy",
    "Stack.unroll": "the same",
    "implementation": "the same: the cases and tests have every form",
    "Linear.chunk": "the same",
    "GatedDelta.chunk": "the same",
    "Moe.router_noise": "needs noise, as dropout does",
    "ExpertChoice.acausal": "only lets a causal model have it",
    "max_length": "only refuses longer sequences",
    "EncoderDecoder.max_source_length": "the same",
    "EncoderDecoder.start_token": "is read by the data and by generation, not by the model",
}
"""Field -> why no wrong value of it can be seen by the ladder. Fields that hold another config are covered by its fields."""
