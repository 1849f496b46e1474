"""What files of hybrids and later families have beside weights: old keys, further heads, tensors that the config implies."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jax_transformer.config.errors import ConfigError, WeightsError
from jax_transformer.convert.hf import FAMILY
from jax_transformer.convert.hf.depth import FULL
from jax_transformer.convert.hf.flat import Flat, flatten
from jax_transformer.convert.hub import open_weights
from jax_transformer.convert.pretrained import convert
from parity_tests.hf.cases import CASES
from parity_tests.hf.checkpoints import assert_same_tensors, rewrite, save

SIZES = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 6, "num_attention_heads": 4, "vocab_size": 100}
DELTA = {"linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 8, "linear_value_head_dim": 8}


def values(family: str, **keys: Any) -> Flat:
    return flatten(FAMILY[family].read_config(SIZES | keys | {"model_type": family}, family))


def kinds(flat: Flat) -> str:
    return "".join(flat[f"layers.{layer}.attention.kind"][0] for layer in range(flat["stack.num_layers"]))


def test_old_files_count_the_layers_between_full_ones():
    old = {"rope_theta": 1e7, "partial_rotary_factor": 0.25, "rope_scaling": None, "head_dim": 16, "num_key_value_heads": 2}
    for family in ("qwen3_next", "qwen3_5_text"):
        assert kinds(values(family, **old)) == "gggsgg"
        assert kinds(values(family, **old, full_attention_interval=3)) == "ggsggs"
        types = ["linear_attention"] * 5 + [FULL]
        assert kinds(values(family, **old, full_attention_interval=3, layer_types=types)) == "gggggs"
    assert values("qwen3_next", **old)["layers.3.attention.position.base"] == 1e7


def test_a_hybrid_without_full_layers_is_refused():
    with pytest.raises(ConfigError, match="at least one of them full"):
        values("qwen3_5_text", layer_types=["linear_attention"] * 6)


def test_olmo_hybrid_rotates_unless_its_theta_is_null():
    for keys in ({"rope_theta": None}, {"rope_parameters": {"rope_theta": None, "rope_type": "default"}}):
        assert values("olmo_hybrid", **keys)["layers.3.attention.position.kind"] == "none"
    assert values("olmo_hybrid")["layers.3.attention.position.base"] == 10_000.0
    with pytest.raises(ConfigError, match="rope_parameters is null: add rope_theta"):
        values("olmo_hybrid", rope_parameters=None)


def test_a_theta_that_versions_read_differently_is_refused():
    assert values("apertus")["layers.0.attention.position.scaling.factor"] == 8.0
    with pytest.raises(ConfigError, match=r"rope_theta=5000\.0 without a scaling"):
        values("apertus", rope_theta=5e3)


def test_heads_of_further_tokens_are_read_over(tmp_path: Path):
    save("qwen3_5", tmp_path / "hf")
    rewrite(tmp_path / "hf", lambda tensors: tensors.update({"mtp.layers.0.mlp.up_proj.weight": np.ones((2, 3), np.float32)}))
    convert(tmp_path / "hf", tmp_path / "ours")
    convert(tmp_path / "ours", tmp_path / "back", format="hf", family="qwen3_5_text")
    assert set(open_weights(tmp_path / "hf")) - set(open_weights(tmp_path / "back")) == {"mtp.layers.0.mlp.up_proj.weight"}


def test_decays_stay_float32_among_16_bits(tmp_path: Path):
    def widen(tensors: dict[str, np.ndarray]) -> None:
        names = [name for name in tensors if name.endswith(("A_log", "dt_bias"))]
        tensors.update({name: tensors[name].astype(np.float32) / 3 for name in names})

    save("qwen3_5", tmp_path / "hf", dtype="bfloat16")
    rewrite(tmp_path / "hf", widen)
    convert(tmp_path / "hf", tmp_path / "ours")
    convert(tmp_path / "ours", tmp_path / "back", format="hf", family="qwen3_5_text")
    assert_same_tensors(tmp_path / "hf", tmp_path / "back")


@pytest.mark.parametrize(
    ("case", "name"),
    [("apertus", "model.layers.1.mlp.act_fn.beta"), ("pegasus", "model.encoder.embed_positions.weight")],
)
def test_a_tensor_that_the_config_implies_may_be_absent_but_not_different(case: str, name: str, tmp_path: Path):
    save(case, tmp_path / "hf")
    whole = dict(open_weights(tmp_path / "hf").tensors())
    rewrite(tmp_path / "hf", lambda tensors: tensors.update({name: whole[name] + np.float32(0.1)}))
    with pytest.raises(WeightsError, match=rf"{name}.* is not what follows from config.json"):
        convert(tmp_path / "hf", tmp_path / "ours")
    rewrite(tmp_path / "hf", lambda tensors: tensors.pop(name))
    convert(tmp_path / "hf", tmp_path / "ours")
    convert(tmp_path / "ours", tmp_path / "back", format="hf", family=CASES[case][0])
    assert open_weights(tmp_path / "back").read(name).tobytes() == whole[name].tobytes()
