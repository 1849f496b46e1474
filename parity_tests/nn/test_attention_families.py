"""Softmax attention with options is the attention of the model families that brought them, as ``transformers`` has it."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from transformers.models.gemma2 import modeling_gemma2
from transformers.models.gpt_oss import modeling_gpt_oss
from transformers.models.llama4 import modeling_llama4
from transformers.models.ministral3.modeling_ministral3 import get_llama_4_attn_scale
from transformers.models.olmo2 import modeling_olmo2
from transformers.models.qwen3 import modeling_qwen3
from transformers.models.qwen3_next import modeling_qwen3_next

from jax_transformer import config
from parity_tests.nn.twins import run, twins
from parity_tests.ops.pairs import PACKAGES, array, tensor
from parity_tests.tolerances import FLOAT32_MODULE, FLOAT32_OPERATION, OPERATION

D_MODEL, LENGTH = 18, 7
POSITIONS = np.arange(LENGTH)[None, :]

OURS = {"num_heads": 6, "num_kv_heads": 2, "head_dim": 4}
THEIRS = {
    "hidden_size": D_MODEL,
    "num_attention_heads": 6,
    "num_key_value_heads": 2,
    "head_dim": 4,
    "num_hidden_layers": 2,
    "max_position_embeddings": 16,
    "rms_norm_eps": 0.1,
    "rope_parameters": {"rope_type": "default", "rope_theta": 50.0},
    "attn_implementation": "eager",
}
ROPE = config.Rope(base=50.0)


def qk_norm(scope: Any, **options: Any) -> config.QkNorm:
    return config.QkNorm(norm=config.RMSNorm(eps=0.1, **options), scope=scope)


FAMILIES: dict[str, tuple[Any, str, dict[str, Any], config.Softmax]] = {
    "qwen3": (modeling_qwen3, "Qwen3", {}, config.Softmax(**OURS, qk_norm=qk_norm("head"), position=ROPE)),
    "olmo2": (modeling_olmo2, "Olmo2", {}, config.Softmax(**OURS, qk_norm=qk_norm("full"), position=ROPE)),
    "gemma2": (
        modeling_gemma2,
        "Gemma2",
        {"attn_logit_softcapping": 0.8, "query_pre_attn_scalar": 9, "sliding_window": 3},
        config.Softmax(**OURS, softcap=0.8, scale=1 / 3, window=3, position=ROPE),
    ),
    "gpt_oss": (
        modeling_gpt_oss,
        "GptOss",
        {"attention_bias": True, "sliding_window": 3},
        config.Softmax(**OURS, sink_logits=True, qkv_bias=True, o_bias=True, window=3, position=ROPE),
    ),
    "qwen3_next": (
        modeling_qwen3_next,
        "Qwen3Next",
        {"partial_rotary_factor": 0.5, "rope_parameters": THEIRS["rope_parameters"] | {"partial_rotary_factor": 0.5}},
        config.Softmax(
            **OURS,
            qk_norm=qk_norm("head", weight="one_plus", cast="after_weight"),
            output_gate="element",
            position=config.Rope(base=50.0, fraction=0.5),
        ),
    ),
}


def theirs(file: Any, prefix: str, options: dict[str, Any], weights: dict[str, torch.Tensor]) -> Callable[..., np.ndarray]:
    """The family's attention in float64, as a function of input and mask."""
    family = getattr(__import__(file.__name__.replace("modeling", "configuration"), fromlist=["x"]), f"{prefix}Config")
    settings = family(**(THEIRS | options))
    module = getattr(file, f"{prefix}Attention")(settings, layer_idx=0).double().eval()
    if prefix == "Qwen3Next":
        # Each head's rows of queries are followed by those of its gate.
        q, gate = (weights.pop(f"{name}_proj.weight").reshape(6, 4, D_MODEL) for name in "qg")
        weights["q_proj.weight"] = torch.cat([q, gate], dim=1).reshape(-1, D_MODEL)
    module.load_state_dict(weights)
    rotary = getattr(file, f"{prefix}RotaryEmbedding")(config=settings)

    def attend(x: np.ndarray, allowed: np.ndarray) -> np.ndarray:
        given = torch.tensor(x)
        additive = torch.zeros(allowed.shape, dtype=torch.float64).masked_fill(~torch.tensor(allowed), -torch.inf)
        with torch.no_grad():
            return module(given, rotary(given, torch.tensor(POSITIONS)), additive[None, None])[0].numpy()

    return attend


@pytest.mark.parametrize("family", FAMILIES)
def test_attention_is_that_of_the_family(family: str, rng: np.random.Generator):
    file, prefix, options, c = FAMILIES[family]
    pair = twins("nn.attention:ATTENTION:", c, D_MODEL, rng=rng)
    x = rng.normal(size=(2, LENGTH, D_MODEL))
    later = np.arange(LENGTH)[:, None] - np.arange(LENGTH)[None, :]
    allowed = (later >= 0) & (later < (c.window or LENGTH))
    want = theirs(file, prefix, options, dict(pair[1].module.state_dict()))(x, allowed)
    for twin in pair:
        got = run(twin, x, twin.context(POSITIONS, POSITIONS))[0]["output"]
        # Their norms, softmax and angles are float32 whatever the input is.
        np.testing.assert_allclose(got, want, **FLOAT32_MODULE)


def tempered(package: str, q: np.ndarray, **options: Any) -> np.ndarray:
    function = __import__(f"{package}.nn.attention.query_key", fromlist=["temper_queries"]).temper_queries
    positions = tensor(package, np.arange(q.shape[1])[None, :])
    return array(function(tensor(package, q), positions, config.QueryTemperature(**options)))


@pytest.mark.parametrize("package", PACKAGES)
def test_temperature_is_that_of_llama4_and_ministral3(package: str, rng: np.random.Generator):
    q = rng.normal(size=(2, LENGTH, 6, 4))
    ministral = get_llama_4_attn_scale(torch.tensor(POSITIONS).double(), 0.3, 2).numpy()  # [B, 1, T, 1]
    got = tempered(package, q, beta=0.3, original_length=2)
    np.testing.assert_allclose(got, q * ministral.transpose(0, 2, 1, 3), **OPERATION)
    llama = llama4_queries(q)
    np.testing.assert_allclose(tempered(package, q, beta=0.3, original_length=2, offset=1), llama, **FLOAT32_OPERATION)


def llama4_queries(q: np.ndarray) -> np.ndarray:
    """What Llama 4's attention makes of these queries on a layer without rotation: seen by an attention function of ours."""
    settings = modeling_llama4.Llama4TextConfig(
        **(THEIRS | {"hidden_size": 24, "attn_scale": 0.3, "floor_scale": 2, "no_rope_layers": [0, 0], "use_qk_norm": False})
    )
    module = modeling_llama4.Llama4TextAttention(settings, layer_idx=0).double()
    module.q_proj.weight.data = torch.eye(24, dtype=torch.float64)
    seen: list[torch.Tensor] = []

    def spy(module: Any, query: torch.Tensor, *others: Any, **options: Any) -> tuple[torch.Tensor, None]:
        seen.append(query)
        return query.transpose(1, 2), None

    modeling_llama4.ALL_ATTENTION_FUNCTIONS.register("spy", spy)
    settings._attn_implementation = "spy"
    x = torch.tensor(q.reshape(*q.shape[:2], 24))
    with torch.no_grad():
        module(x, None, None)
    return seen[0].transpose(1, 2).numpy()
