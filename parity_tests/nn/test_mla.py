"""Multi-head latent attention is DeepSeek's, and its cache is small."""

import numpy as np
import pytest
import torch
from transformers.models.deepseek_v3 import modeling_deepseek_v3
from transformers.models.deepseek_v3.configuration_deepseek_v3 import DeepseekV3Config

from jax_transformer import config
from parity_tests.nn.twins import run, twins
from parity_tests.ops.pairs import array
from parity_tests.tolerances import FLOAT32_MODULE, MODULE

D_MODEL, LENGTH = 10, 7
POSITIONS = np.arange(LENGTH)[None, :]
DIMS = {"num_heads": 3, "kv_rank": 5, "nope_dim": 6, "rope_dim": 4, "v_dim": 7}
ROPE = config.Rope(base=50.0, layout="interleaved")


def deepseek(c: config.Mla, weights: dict[str, torch.Tensor], x: np.ndarray) -> np.ndarray:
    """What ``transformers`` computes with these weights, causally."""
    settings = DeepseekV3Config(
        hidden_size=D_MODEL,
        num_attention_heads=c.num_heads,
        num_key_value_heads=c.num_heads,
        q_lora_rank=c.q_rank,
        kv_lora_rank=c.kv_rank,
        qk_nope_head_dim=c.nope_dim,
        qk_rope_head_dim=c.rope_dim,
        v_head_dim=c.v_dim,
        rope_interleave=c.position == ROPE,
        attention_bias=c.down_bias,
        max_position_embeddings=16,
        rope_parameters={"rope_type": "default", "rope_theta": 50.0},
        attn_implementation="eager",
    )
    module = modeling_deepseek_v3.DeepseekV3Attention(settings, layer_idx=0).double().eval()
    module.load_state_dict(fused(c, weights))
    given = torch.tensor(x)
    causal = torch.full((LENGTH, LENGTH), -torch.inf, dtype=torch.float64).triu(1)[None, None]
    rotation = modeling_deepseek_v3.DeepseekV3RotaryEmbedding(config=settings)(given, torch.tensor(POSITIONS))
    with torch.no_grad():
        return module(given, rotation, causal)[0].numpy()


def fused(c: config.Mla, weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """DeepSeek's tensors: latent and rotated key come from one projection; keys and values of a head from another."""
    renamed = {"q_proj": "q_proj", "q_down_proj": "q_a_proj", "q_norm": "q_a_layernorm", "q_up_proj": "q_b_proj"}
    renamed |= {"kv_norm": "kv_a_layernorm", "o_proj": "o_proj"}
    leaves = ("weight", "bias") if c.down_bias else ("weight",)
    pair = ("kv_down_proj", "k_rope_proj")
    out = {f"kv_a_proj_with_mqa.{leaf}": torch.cat([weights[f"{name}.{leaf}"] for name in pair]) for leaf in leaves}
    ups = (weights[f"{name}_up_proj.weight"].reshape(c.num_heads, -1, c.kv_rank) for name in "kv")
    out["kv_b_proj.weight"] = torch.cat([*ups], dim=1).reshape(-1, c.kv_rank)
    for name, value in weights.items():
        module, _, leaf = name.partition(".")
        if module in renamed:
            out[f"{renamed[module]}.{leaf}"] = value
    return out


@pytest.mark.parametrize(
    "c",
    [
        config.Mla(**DIMS, q_rank=8, down_bias=True, o_bias=True, position=ROPE),
        config.Mla(**DIMS, position=config.Rope(base=50.0)),
    ],
    ids=["latent queries", "direct queries"],
)
def test_mla_is_that_of_deepseek(c: config.Mla, rng: np.random.Generator):
    pair, x = twins("nn.attention:ATTENTION:", c, D_MODEL, rng=rng), rng.normal(size=(2, LENGTH, D_MODEL))
    want = deepseek(c, dict(pair[1].module.state_dict()), x)
    for twin in pair:
        got = run(twin, x, twin.context(POSITIONS, POSITIONS))[0]["output"]
        # Their norms, softmax and angles are float32 whatever the input is.
        np.testing.assert_allclose(got, want, **FLOAT32_MODULE)


def test_heads_share_one_rotated_key_beside_their_own(rng: np.random.Generator):
    x = rng.normal(size=(2, LENGTH, D_MODEL))
    for twin in twins("nn.attention:ATTENTION:", config.Mla(**DIMS), D_MODEL, rng=rng):
        values = run(twin, x, twin.context(POSITIONS, POSITIONS))[0]
        own, shared = values["k"][..., :6], values["k"][..., 6:]
        np.testing.assert_array_equal(shared, np.broadcast_to(shared[:, :, :1], shared.shape))
        assert np.abs(own[:, :, 0] - own[:, :, 1]).min() > 0
        # Positions move the last dimensions only, and the first token is at position 0, which turns nothing.
        unmoved = run(twin, x, twin.context(0 * POSITIONS, POSITIONS, causal=False))[0]
        for name in "qk":
            moved = np.abs(values[name] - unmoved[name])
            assert moved[:, 0].max() == moved[..., :6].max() == 0
            assert moved[:, 1:, :, 6:].min() > 0


def test_the_cache_holds_latents_and_one_rotated_key_only(rng: np.random.Generator):
    x = rng.normal(size=(2, LENGTH, D_MODEL))
    for twin in twins("nn.attention:ATTENTION:", config.Mla(**DIMS, q_rank=8), D_MODEL, rng=rng):
        cache = (twin.module.empty_cache(2, LENGTH), *twin.tensors(np.array(0)))
        values, memory = run(twin, x, twin.context(POSITIONS, POSITIONS), cache=cache)
        held = {name: array(value) for name, value in vars(memory).items()}
        assert {name: value.shape for name, value in held.items()} == {"latents": (2, 7, 5), "rope_keys": (2, 7, 4)}
        weights = twin.weights
        latents = x @ weights["kv_down_proj.weight"].T
        latents = latents / np.sqrt((latents**2).mean(-1, keepdims=True) + 1e-6) * weights["kv_norm.weight"]
        np.testing.assert_allclose(held["latents"], latents, **MODULE)
        np.testing.assert_array_equal(held["rope_keys"], values["k"][:, :, 0, 6:])
        np.testing.assert_allclose(values["v"].reshape(2, LENGTH, -1), latents @ weights["v_up_proj.weight"].T, **MODULE)
