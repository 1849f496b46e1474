"""Mixtures of experts are those of transformers, weight for weight."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from transformers import DeepseekV3Config, GptOssConfig, MixtralConfig, Qwen3NextConfig
from transformers.models.deepseek_v3.modeling_deepseek_v3 import DeepseekV3MoE
from transformers.models.gpt_oss.modeling_gpt_oss import GptOssMLP
from transformers.models.mixtral.modeling_mixtral import MixtralSparseMoeBlock
from transformers.models.qwen3_next.modeling_qwen3_next import Qwen3NextSparseMoeBlock

from jax_transformer import config as c
from parity_tests.nn.test_moe import GLU, GROUPS, LENGTH, RECIPE, ROWS, D, E, F
from parity_tests.ops.pairs import array
from parity_tests.tolerances import FLOAT32_MODULE, MODULE
from torch_reference.nn.context import Context
from torch_reference.nn.ffn.moe import Moe
from torch_reference.nn.params import Maker
from torch_reference.ops.mask import causal_mask

SIZES: dict[str, Any] = {"hidden_size": D, "num_local_experts": E, "num_experts_per_tok": 2, "num_attention_heads": 1}
DEEPSEEK = {"n_group": 4, "topk_group": 2, "norm_topk_prob": True, "routed_scaling_factor": 2.5, "n_shared_experts": 2}
FAMILIES: dict[str, tuple[c.Moe, Callable[[], nn.Module]]] = {
    "mixtral": (
        c.Moe(num_experts=E, routing=c.SoftmaxTopK(top_k=2), expert=GLU),
        lambda: MixtralSparseMoeBlock(MixtralConfig(**SIZES, intermediate_size=F)),
    ),
    "qwen3_next": (
        c.Moe(num_experts=E, routing=c.SoftmaxTopK(top_k=2), expert=GLU, shared=c.Glu(hidden_dim=4), shared_gate=True),
        lambda: Qwen3NextSparseMoeBlock(
            Qwen3NextConfig(**SIZES, num_experts=E, moe_intermediate_size=F, shared_expert_intermediate_size=4)
        ),
    ),
    "deepseek_v3": (
        c.Moe(
            num_experts=E,
            routing=c.SigmoidTopK(top_k=2, choice_bias=True, groups=GROUPS, scale=2.5),
            expert=GLU,
            shared=c.Glu(hidden_dim=2 * F),
        ),
        lambda: DeepseekV3MoE(DeepseekV3Config(**SIZES, **DEEPSEEK, n_routed_experts=E, moe_intermediate_size=F)),
    ),
    "gpt_oss": (
        c.Moe(
            num_experts=E,
            routing=c.TopKSoftmax(top_k=2),
            expert=c.ClampedGlu(hidden_dim=F, limit=0.8, bias=True),
            router_bias=True,
        ),
        lambda: GptOssMLP(GptOssConfig(**SIZES, intermediate_size=F, swiglu_limit=0.8)),
    ),
}
RENAMED = {
    "gate.weight": "router.weight",
    "gate.e_score_correction_bias": "choice_bias",
    "shared_expert_gate.weight": "shared_gate_proj.weight",
}


def from_transformers(family: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Their values by our names."""
    ours = {}
    for name, value in state.items():
        if name.startswith("experts."):
            leaf = "bias" if name.endswith("_bias") else "weight"
            parts = [value]
            if "gate_up" in name:
                out = -1 if family == "gpt_oss" else 1
                parts = [value[..., 0::2], value[..., 1::2]] if family == "gpt_oss" else list(value.chunk(2, dim=out))
            names = ("gate_proj", "up_proj") if "gate_up" in name else ("down_proj",)
            turned = family == "gpt_oss" and leaf == "weight"
            ours |= {
                f"experts.{part}.{leaf}": own.transpose(1, 2) if turned else own for part, own in zip(names, parts, strict=True)
            }
        else:
            ours[RENAMED.get(name, name.replace("shared_experts.", "shared.").replace("shared_expert.", "shared."))] = value
    return ours


@pytest.mark.parametrize("family", FAMILIES)
def test_a_mixture_is_that_of_its_family(family: str, rng: np.random.Generator):
    own, build = FAMILIES[family]
    theirs = build().double()
    theirs.load_state_dict({name: torch.tensor(rng.normal(size=v.shape)) for name, v in theirs.state_dict().items()})
    mirror = Moe(own, D, Maker(torch.Generator(), *RECIPE))
    mirror.load_state_dict(from_transformers(family, theirs.state_dict()))
    x = torch.tensor(rng.normal(size=(ROWS, LENGTH, D)))
    found = theirs(x)
    want = array(found[0] if isinstance(found, tuple) else found)
    got, _ = mirror(x, Context(causal_mask(LENGTH)))
    # Their routers compute weights in float32.
    tolerance = MODULE if family == "gpt_oss" else FLOAT32_MODULE
    np.testing.assert_allclose(array(got), want, **tolerance)
