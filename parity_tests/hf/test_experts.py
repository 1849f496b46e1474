"""What files of mixtures have beside their weights: router tensors in float32, layers that predict further tokens, lists."""

import json
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

import jax_transformer as jt
from jax_transformer.config import Decoder
from jax_transformer.config.errors import ConfigError, WeightsError
from jax_transformer.config.load import load_config
from jax_transformer.convert.hf import FAMILY, choose, open_hf
from jax_transformer.convert.hf.flat import flatten
from jax_transformer.convert.hub import WeightsReader, open_weights, write_weights
from jax_transformer.convert.pretrained import convert
from parity_tests.hf.cases import CASES
from parity_tests.hf.checkpoints import assert_same_tensors, save, torch

FLOAT32 = {
    "deepseek_v3": ("e_score_correction_bias",),
    "minimax_m2": ("e_score_correction_bias",),
    "ernie4_5_moe": ("e_score_correction_bias", "mlp.gate.weight"),
    "hunyuan_moe": ("gate.wg.weight",),
}
"""Tensors that published checkpoints in 16 bits have in float32."""


def edit(folder: Path, tensors: dict[str, np.ndarray] | None = None, **keys: Any) -> None:
    """Other tensors and other keys in a folder."""
    if tensors is not None:
        specs = {name: (array.shape, array.dtype) for name, array in tensors.items()}
        write_weights(folder / "new", specs, tensors.items())
        (folder / "new" / "model.safetensors").replace(folder / "model.safetensors")
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | keys))


@pytest.mark.parametrize(
    "case", [pytest.param(case, marks=() if case == "ernie4_5_moe" else pytest.mark.slow) for case in FLOAT32]
)
def test_what_chooses_experts_stays_float32_among_16_bits(case: str, tmp_path: Path):
    import torch_reference as tr

    save(case, tmp_path / "hf", dtype="bfloat16")
    tensors = dict(open_weights(tmp_path / "hf").tensors())
    wide = {name: array.astype(np.float32) / 3 for name, array in tensors.items() if name.endswith(FLOAT32[case])}
    assert wide
    edit(tmp_path / "hf", tensors | wide)
    convert(tmp_path / "hf", tmp_path / "ours")
    convert(tmp_path / "ours", tmp_path / "back", format="hf", family=CASES[case][0])
    assert_same_tensors(tmp_path / "hf", tmp_path / "back")
    for module, folder in ((jt, "jax"), (tr, "torch")):
        module.save_pretrained(module.load_pretrained(tmp_path / "hf"), tmp_path / folder, format="hf", family=CASES[case][0])
        assert_same_tensors(tmp_path / "hf", tmp_path / folder)
    state = tr.load_pretrained(tmp_path / "ours").state_dict()
    kept = {name.rpartition("ffn.")[2] for name, tensor in state.items() if tensor.dtype == torch.float32}
    assert len(kept) == len(FLOAT32[case])
    logits, _ = jt.load_pretrained(tmp_path / "ours")(jnp.zeros((1, 3), int))
    assert np.isfinite(np.asarray(logits, np.float32)).all()


def test_of_some_experts_only_their_tensors_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from torch_reference.models import abstract_model

    save("mixtral", tmp_path / "hf")
    _, view = open_hf(tmp_path / "hf", lambda c: {name: tuple(p.shape) for name, p in abstract_model(c).state_dict().items()})
    name = "stack.layers.1.ffn.experts.up_proj.weight"
    read: list[str] = []
    whole, stored = view.read(name), WeightsReader.read_part
    monkeypatch.setattr(WeightsReader, "read_part", lambda self, one, part: read.append(one) or stored(self, one, part))
    assert np.array_equal(view.read(name, slice(2, 4)), whole[2:4])
    assert read == [f"model.layers.1.block_sparse_moe.experts.{expert}.w3.weight" for expert in (2, 3)]


FUSED = {name: case for case, (name, keys) in reversed(CASES.items()) if "num_experts_per_tok" in keys or "moe_k" in keys}
"""A case of every family with experts: the first."""
QUICK = ("mixtral", "qwen3_moe", "granitemoe", "ernie4_5_moe", "minimax_m2")
"""Those whose names differ, and one of the others."""


@pytest.mark.parametrize("name", [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in FUSED])
def test_experts_saved_as_transformers_has_them_in_memory_are_the_same_model(name: str, tmp_path: Path):
    model = save(FUSED[name], tmp_path / "hf")
    model.save_pretrained(tmp_path / "arrays", save_original_format=False)
    assert any(tensor.endswith("experts.gate_up_proj") for tensor in open_weights(tmp_path / "arrays"))
    convert(tmp_path / "hf", tmp_path / "one")
    convert(tmp_path / "arrays", tmp_path / "other")
    assert_same_tensors(tmp_path / "one", tmp_path / "other")
    convert(tmp_path / "arrays", tmp_path / "back", format="hf", family=name)
    assert_same_tensors(tmp_path / "hf", tmp_path / "back")


def test_an_array_of_experts_beside_their_matrices_is_refused(tmp_path: Path):
    """Which of the two a model should have is not for us to say."""
    save("mixtral", tmp_path / "hf")
    tensors = dict(open_weights(tmp_path / "hf").tensors())
    own = "model.layers.1.block_sparse_moe.experts.{}.w2.weight"
    array = np.stack([tensors[own.format(expert)] for expert in range(5)])
    edit(tmp_path / "hf", tensors | {"model.layers.1.mlp.experts.down_proj": array})
    with pytest.raises(WeightsError, match=r"unexpected: model\.layers\.1\.block_sparse_moe\.experts\.0\.w2\.weight") as caught:
        convert(tmp_path / "hf", tmp_path / "ours")
    assert "missing" not in str(caught.value)


@pytest.fixture
def further(tmp_path: Path) -> Path:
    """A DeepSeek-V3 of three layers, with a fourth that predicts the token after the next."""
    save("deepseek_v3", tmp_path / "hf")
    tensors = dict(open_weights(tmp_path / "hf").tensors())
    last = {name.replace("layers.2.", "layers.3."): array for name, array in tensors.items() if "layers.2." in name}
    extra = {"model.layers.3.eh_proj.weight": np.ones((24, 48), np.float32)}
    edit(tmp_path / "hf", tensors | last | extra, num_nextn_predict_layers=1)
    return tmp_path / "hf"


def test_layers_that_predict_further_tokens_are_read_over_and_not_announced(further: Path, tmp_path: Path):
    convert(further, tmp_path / "back", format="hf", family="deepseek_v3")
    assert not any("layers.3." in name for name in open_weights(tmp_path / "back"))
    assert json.loads((tmp_path / "back" / "config.json").read_text())["num_nextn_predict_layers"] == 0


def test_layers_that_no_key_announces_are_refused(further: Path, tmp_path: Path):
    edit(further, num_nextn_predict_layers=0)
    with pytest.raises(WeightsError, match=r"unexpected: model\.layers\.3\.eh_proj\.weight"):
        convert(further, tmp_path / "back")
    edit(further, num_nextn_predict_layers=1, num_hidden_layers=2)
    with pytest.raises(WeightsError, match=r"unexpected: model\.layers\.3\.") as caught:
        convert(further, tmp_path / "back")
    assert "layers.2." not in str(caught.value)


UNSAID = {"num_experts_per_tok": None}
REFUSED: dict[str, tuple[str, dict[str, Any], str]] = {
    "clamp after the norm": (
        "olmoe",
        {"clip_qkv": 8.0},
        "clip_qkv=8.0 cannot be expressed: this family clamps after",
    ),
    "four bits": ("gpt_oss", {"quantization_config": {"quant_method": "mxfp4"}}, "quantised weights are not read, got .*mxfp4"),
    "no rotation": ("gpt_oss", {"rope_parameters": None}, "rope_parameters is missing"),
    "another activation": ("gpt_oss", {"hidden_act": "gelu"}, "hidden_act='gelu'"),
    "another score": ("deepseek_v3", {"scoring_func": "softmax"}, "scoring_func='softmax'"),
    "another choice": ("deepseek_v2", {"topk_method": "noaux_tc"}, "topk_method='noaux_tc'"),
    "sparse by turns": ("deepseek_v3", {"moe_layer_freq": 2}, "moe_layer_freq=2"),
    "shared keys": ("deepseek_v3", {"num_key_value_heads": 2}, "num_key_value_heads=2 is not num_attention_heads=4"),
    "more groups than there are": ("glm4_moe", {"topk_group": 4}, "topk_group=4 of n_group=3"),
    "two counts": ("qwen3_moe", {"num_local_experts": 7}, "are spellings of one value and differ"),
    "experts of each layer": (
        "hunyuan_moe",
        {"moe_topk": [1, 2, 2], "num_experts_per_tok": None},
        "is nothing that our config can express",
    ),
    "no bias": ("minimax_m2", {"use_routing_bias": False}, "use_routing_bias=False"),
    "chunks of no size": (
        "llama4",
        {"attention_chunk_size": None},
        "attention_chunk_size is null, but layers are of type chunked",
    ),
    "windows among chunks": (
        "llama4",
        {"layer_types": ["sliding_attention"] * 5},
        "wanted 5 of full_attention and chunked_attention",
    ),
    "an unknown key": ("mixtral", {"expert_twist": 3}, "'expert_twist': 3"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_would_compute_something_else_is_refused(name: str):
    case, keys, message = REFUSED[name]
    family, values = CASES[case]
    with pytest.raises(ConfigError, match=message):
        FAMILY[family].read_config(values | keys, "config.json")


@pytest.mark.parametrize(
    "case", [case for case, (_, keys) in CASES.items() if "num_experts_per_tok" in keys or "moe_k" in keys]
)
def test_a_config_says_the_same_after_a_round_trip(case: str):
    name, keys = CASES[case]
    model = FAMILY[name].read_config(keys, case)
    again = FAMILY[name].read_config(FAMILY[name].write_config(model), case)
    assert flatten(again) == flatten(model)


def test_both_names_of_the_number_of_experts_are_written():
    name, keys = CASES["qwen3_moe"]
    written = FAMILY[name].write_config(FAMILY[name].read_config(keys, name))
    assert written["num_experts"] == written["num_local_experts"] == 5


def test_factors_of_yarn_are_given_back_as_they_were():
    name, keys = CASES["deepseek_v3, yarn"]
    written = FAMILY[name].write_config(FAMILY[name].read_config(keys, name))
    assert {key: written["rope_scaling"][key] for key in ("mscale", "mscale_all_dim")} == {
        "mscale": 1.0,
        "mscale_all_dim": 0.707,
    }


def test_a_mixture_of_ours_is_a_mixtral_unless_experts_overflow():
    tree = load_config("mixtral_tiny").model_dump(mode="json")
    ffn = tree["stack"]["pattern"][0]["ffn"]
    ffn |= {"load_balance_weight": 0.5, "router_z_weight": 0.0, "router_noise": 0.1}
    assert choose(Decoder.model_validate(tree)).name == "mixtral"
    ffn["capacity_factor"] = 1.25
    with pytest.raises(ConfigError, match=r"layers\.0\.ffn\.capacity_factor: the model has 1\.25, the family None"):
        choose(Decoder.model_validate(tree), "mixtral")


def test_chunks_and_weighed_inputs_are_lost_on_no_other_family():
    name, keys = CASES["llama4"]
    with pytest.raises(ConfigError) as caught:
        choose(FAMILY[name].read_config(keys, name), "mixtral")
    assert "layers.0.attention.chunk_size: the model has 5, the family None" in str(caught.value)
    assert "layers.0.ffn.weigh: the model has 'input', the family 'output'" in str(caught.value)


def test_keys_that_some_loaders_look_for_are_written():
    name, keys = CASES["deepseek_v3"]
    written = FAMILY[name].write_config(FAMILY[name].read_config(keys, name))
    assert (written["scoring_func"], written["topk_method"], written["moe_layer_freq"]) == ("sigmoid", "noaux_tc", 1)
