"""ModernBERT and its decoder: windows on most layers, one rotation for each kind of layer, a first layer that reads the
embedding's norm as it is."""

from typing import Any

from jax_transformer.config.errors import ConfigError
from jax_transformer.convert.byte_ops import Fuse
from jax_transformer.convert.hf.depth import FULL, SLIDING, Context, Rope, Window
from jax_transformer.convert.hf.family import Family
from jax_transformer.convert.hf.flat import Flat
from jax_transformer.convert.hf.parts import ACTIVATION, Choice, Field, Fixed, Keys, Only, Part
from jax_transformer.convert.hf.skeleton import DECODER, QKV, feed_forward, fused, heads, modules

THETAS = {FULL: 160_000.0, SLIDING: 10_000.0}
OLD_THETAS = {FULL: "global_rope_theta", SLIDING: "local_rope_theta"}
EVERY, CLASSES, PADDING = "global_attn_every_n_layers", "ModernBertForSequenceClassification", 50_283


def every_first(hf: Keys, count: int) -> list[str]:
    """One layer in so many is full, the first of each group."""
    group = hf.get(EVERY, 3)
    return [SLIDING if layer % group else FULL for layer in range(count)]


WINDOW = Window(every_first)
ROPE = Rope(window=WINDOW, thetas=THETAS)


class Layers:
    """``local_attention``, twice the window, and ``rope_parameters``, each with what transformers 4 has in its place."""

    def read(self, hf: Keys) -> Flat:
        """Window and rotation of each layer."""
        own = Keys({**hf.values, "sliding_window": _window(hf), "rope_parameters": _rotations(hf)}, hf.label)
        values = WINDOW.read(own) | ROPE.read(own)
        hf.asked |= own.asked | {EVERY}
        return values

    def write(self, flat: Flat) -> dict[str, Any]:
        """Both spellings; the window where there is one."""
        read, rotations = WINDOW.write(flat), ROPE.write(flat)["rope_parameters"]
        types = read["layer_types"]
        keys = {"layer_types": types, "rope_parameters": rotations}
        keys |= {old: rotations[kind]["rope_theta"] for kind, old in OLD_THETAS.items()}
        group = next((layer for layer in range(1, len(types)) if types[layer] == FULL), len(types))
        if types == every_first(Keys({EVERY: group}, ""), len(types)):
            keys[EVERY] = group
        return keys if read["sliding_window"] is None else keys | {"local_attention": 2 * read["sliding_window"]}


def _window(hf: Keys) -> int:
    local = 0 if hf.is_null("local_attention") else hf.get("local_attention", 128)
    if (window := hf.get("sliding_window", local // 2)) != local // 2:
        raise ConfigError(f"{hf.label}: sliding_window={window} is not half of local_attention={local}: keep one of them")
    return window


def _rotations(hf: Keys) -> dict[str, dict[str, Any]]:
    given = hf.get("rope_parameters", {})
    if not given.keys() <= THETAS.keys():
        raise ConfigError(f"{hf.label}: rope_parameters={given}: wanted a rotation each for {FULL} and {SLIDING}")
    old = {kind: hf.get(key, THETAS[kind]) for kind, key in OLD_THETAS.items()}
    if hf.is_null(OLD_THETAS[SLIDING]):
        old[SLIDING] = old[FULL]
    return {kind: {"rope_theta": theta} | (given.get(kind) or {}) for kind, theta in old.items()}


class Task:
    """What the head predicts: classes where the name of the class says so, else masked tokens."""

    def read(self, hf: Keys) -> Flat:
        """The head."""
        parts = SCORES if hf.get("architectures", []) == [CLASSES] else MASKED
        return {path: value for part in parts for path, value in part.read(hf).items()}

    def write(self, flat: Flat) -> dict[str, Any]:
        """The keys of the head, and the name of the class if it is not the usual one."""
        scores = flat["head.kind"] == "classifier"
        keys = {key: value for part in (SCORES if scores else MASKED) for key, value in part.write(flat).items()}
        return keys | ({"architectures": [CLASSES]} if scores else {})


class Labels:
    """``id2label``, one name for each class; or, in files of two classes, nothing."""

    def read(self, hf: Keys) -> Flat:
        """The number of classes."""
        return {"head.num_classes": len(hf.get("id2label", {})) or hf.get("num_labels", 2)}

    def write(self, flat: Flat) -> dict[str, Any]:
        """The names that transformers gives to classes without any."""
        names = [f"LABEL_{number}" for number in range(flat["head.num_classes"])]
        return {
            "id2label": {str(i): name for i, name in enumerate(names)},
            "label2id": {name: i for i, name in enumerate(names)},
        }


class Padding:
    """``pad_token_id``, which may not be null and has to be a row of the table."""

    def read(self, hf: Keys) -> Flat:
        """Nothing: it changes no number."""
        return {}

    def write(self, flat: Flat) -> dict[str, Any]:
        """The usual id, or the last row."""
        return {"pad_token_id": min(PADDING, flat["vocab_size"] - 1)}


def dense(activation: str, bias: str, norm: str) -> tuple[Part, ...]:
    """The layer before the output: the paths of its activation, bias and norm."""
    return (
        Field(activation, "classifier_activation", "gelu", ACTIVATION),
        Field(bias, "classifier_bias", False),
        *norms(norm),
    )


def norms(*paths: str) -> tuple[Part, ...]:
    """Layer norms of one epsilon, all with a bias or none."""
    return (
        Fixed({f"{path}.kind": "layer_norm" for path in paths}),
        Field(tuple(f"{path}.eps" for path in paths), "norm_eps", 1e-5),
        Field(tuple(f"{path}.bias" for path in paths), "norm_bias", False),
    )


OUTPUT = (Field("head.tied", "tie_word_embeddings", True), Field("head.bias", "decoder_bias", True))
MASKED = (Fixed({"head.kind": "mlm"}), *dense("head.activation", "head.dense_bias", "head.norm"), *OUTPUT)
SCORES = (
    Fixed({"head.kind": "classifier", "head.bias": True}),
    Labels(),
    Choice("classifier_pooling", "cls", {"cls": {"head.pool": "first"}, "mean": {"head.pool": "mean"}}),
    *dense("head.dense", "head.dense_bias", "head.norm"),
)
PARTS = (
    Field("vocab_size", "vocab_size"),
    Field("d_model", "hidden_size"),
    Field("stack.num_layers", "num_hidden_layers"),
    Context(8192),
    *heads(kv_heads=None, own_head_dim=False),
    Field("layer.ffn.hidden_dim", "intermediate_size"),
    *feed_forward("glu", "gelu", "hidden_activation"),
    Field(("layer.attention.qkv_bias", "layer.attention.o_bias"), "attention_bias", False),
    Field("layer.ffn.bias", "mlp_bias", False),
    *norms("layer.norm", "embedding.norm", "final_norm"),
    Only("rope_scaling", (None,), "versions of transformers disagree on which layers it means; write rope_parameters"),
    Layers(),
    Fixed({"layers.0.attention_norm": False}),
)

LAYER = "model.layers.{layer}."
ENDS = {"model.embeddings.tok_embeddings": "embed", "model.embeddings.norm": "inputs.norm", "model.final_norm": "final_norm"}
NAMES = {"attn_norm": "attn_norm", "attn.Wo": "attn.o_proj", "mlp_norm": "ffn_norm", "mlp.Wo": "ffn.down_proj"}
ROWS = modules(LAYER, NAMES) + fused(f"{LAYER}mlp.Wi", ("ffn.gate_proj", "ffn.up_proj"), Fuse())
HEAD = {"dense": "head.dense", "norm": "head.norm"}
TABLE = ("decoder.weight", "model.embeddings.tok_embeddings.weight")
HARMLESS = (
    "classifier_pooling cls_token_id decoder_bias deterministic_flash_attn initializer_cutoff_factor layer_norm_eps "
    "position_embedding_type reference_compile repad_logits_with_grad sparse_pred_ignore_index sparse_prediction "
    "tie_word_embeddings"
)
"""What does nothing in one of the two, or for one of its heads, is in its files all the same."""

MODERNBERT = Family(
    name="modernbert",
    architecture="ModernBertForMaskedLM",
    parts=(Fixed({"kind": "encoder", "layer.attention.kind": "softmax"}), *PARTS, Task()),
    rows=(
        *modules("", ENDS | {"decoder": "head", "classifier": "head.scores"}, ""),
        *modules("head.", HEAD, ""),
        *fused(f"{LAYER}attn.Wqkv", QKV, Fuse()),
        *ROWS,
    ),
    prefix="model.",
    head=TABLE,
    harmless=HARMLESS,
)

MODERNBERT_DECODER = Family(
    name="modernbert-decoder",
    architecture="ModernBertDecoderForCausalLM",
    parts=(
        DECODER,
        *PARTS,
        *dense("head.transform.activation", "head.transform.bias", "head.transform.norm"),
        *OUTPUT,
        Padding(),
    ),
    rows=(
        *modules("", ENDS | {"decoder": "head"}, ""),
        *modules("lm_head.", HEAD, ""),
        *modules(LAYER, {f"attn.{name}_proj": f"attn.{name}_proj" for name in "qkv"}),
        *ROWS,
    ),
    prefix="model.",
    head=TABLE,
    null_ids=("eos_token_id",),
    harmless=HARMLESS,
)
