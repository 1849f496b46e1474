"""What cannot be converted exactly is refused by name, in either direction, and everything that is wrong is said at once."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from jax_transformer import config
from jax_transformer.config.errors import ConfigError, WeightsError
from jax_transformer.convert.hf import FAMILY, choose
from jax_transformer.convert.hub import open_weights
from jax_transformer.convert.pretrained import convert
from parity_tests.hf.checkpoints import rewrite, save, their_config, torch


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of transformers."""
    folder = tmp_path_factory.mktemp("llama") / "hf"
    save("llama", folder)
    return folder


@pytest.fixture
def copied(llama: Path, tmp_path: Path) -> Path:
    """The same, to be damaged."""
    return Path(shutil.copytree(llama, tmp_path / "hf"))


def change(folder: Path, **keys) -> None:
    values = json.loads((folder / "config.json").read_text()) | keys
    (folder / "config.json").write_text(json.dumps({key: value for key, value in values.items() if value != "absent"}))


def refused(folder: Path, error: type[Exception], *messages: str) -> None:
    import torch_reference as tr

    for load in (tr.load_pretrained, lambda path: convert(path, path.parent / "converted")):
        with pytest.raises(error) as caught:
            load(folder)
        for message in messages:
            assert message in str(caught.value)
    assert not (folder.parent / "converted").exists()


def test_every_tensor_that_is_wrong_is_listed(copied: Path):
    def edit(tensors):
        del tensors["model.norm.weight"]
        tensors["model.layers.0.extra.weight"] = np.zeros(3, np.float32)
        tensors["lm_head.weight"] = np.zeros((2, 24), np.float32)

    rewrite(copied, edit)
    refused(
        copied,
        WeightsError,
        "missing: model.norm.weight [24]",
        "unexpected: model.layers.0.extra.weight [3]",
        "shape: lm_head.weight is [2, 24], wanted [43, 24]",
    )


def test_a_head_in_two_shards_is_listed_with_the_rest(tmp_path: Path):
    folder = tmp_path / "hf"
    save("llama, tied", folder)
    table = "model.embed_tokens.weight"
    rewrite(folder, lambda tensors: tensors.update({"lm_head.weight": tensors[table]}))
    shutil.copytree(folder, tmp_path / "other")
    rewrite(folder, lambda tensors: tensors.pop("model.norm.weight"))

    def keep(tensors):
        for name in set(tensors) - {table, "lm_head.weight"}:
            del tensors[name]

    rewrite(tmp_path / "other", keep)
    (folder / "model.safetensors").rename(folder / "a.safetensors")
    (tmp_path / "other" / "model.safetensors").rename(folder / "b.safetensors")
    weight_map = dict.fromkeys(open_weights(folder / "a.safetensors"), "a.safetensors") | {table: "b.safetensors"}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    both = "is in a.safetensors and b.safetensors"
    refused(folder, WeightsError, f"{table} {both}", f"lm_head.weight {both}", "missing: model.norm.weight")


def test_an_index_that_leaves_the_folder_is_refused(copied: Path):
    (copied / "model.safetensors").rename(copied.parent / "model.safetensors")
    index = {"weight_map": {"model.norm.weight": "../model.safetensors"}}
    (copied / "model.safetensors.index.json").write_text(json.dumps(index))
    refused(copied, WeightsError, "wanted the plain name of a .safetensors file")


def test_pickles_that_do_more_than_hold_tensors_are_refused(copied: Path):
    (copied / "model.safetensors").unlink()
    torch.save({"model": torch.nn.Linear(2, 2)}, copied / "pytorch_model.bin")
    refused(copied, WeightsError, "pytorch_model.bin", "convert them to safetensors")


BAD_KEYS = {
    "unknown": ({"attention_twist": 3}, "'attention_twist': 3"),
    "family": ({"model_type": "lama"}, "'lama' is not supported; did you mean 'llama'?"),
    "activation": ({"hidden_act": "gelu_fast"}, "hidden_act='gelu_fast'"),
    "rotation": ({"rope_parameters": {"rope_type": "spiral", "rope_theta": 1e4}}, "rope_type='spiral'"),
    "key of a rotation": ({"rope_scaling": {"type": "linear", "factor": 2.0, "twist": 1}, "rope_parameters": None}, "twist"),
    "two spellings": ({"rope_scaling": {"rope_type": "linear", "factor": 2.0}}, "differ in ['rope_type']"),
    "partial rotation": ({"partial_rotary_factor": 0.5}, "partial_rotary_factor=0.5"),
    "quantised": ({"quantization_config": {"quant_method": "gptq"}}, "quantised weights are not read, got quantization_config"),
    "compressed": ({"compression_config": {"format": "int4"}}, "quantised weights are not read, got compression_config"),
    "not alike": ({"model_type": "mamba"}, "'mamba' is not supported; no name is like it, the closest is"),
    "images and text": ({"model_type": "gemma3"}, "'gemma3' is not supported; did you mean 'gemma3_text'?"),
    "text inside": (
        {"model_type": "kimi_vl", "text_config": {"model_type": "deepseek_v3"}, "vision_config": {"model_type": "vit"}},
        "'kimi_vl' is not supported; its text_config is a 'deepseek_v3', which is: save that model alone",
    ),
    "missing": ({"hidden_size": "absent"}, "hidden_size is missing"),
    "scaling as text": ({"rope_scaling": "linear"}, "a key has a value that no llama has"),
    "layers as text": ({"num_hidden_layers": "3"}, "num_hidden_layers"),
    "too many layers": ({"num_hidden_layers": 10**9}, "wanted a number of layers from 1 to 10000"),
    "no heads": ({"num_attention_heads": 0, "head_dim": None}, "a key has a value that no llama has"),
    "heads": ({"num_key_value_heads": 3}, "num_key_value_heads"),
    "width of heads": ({"model_type": "helium"}, "head_dim=10 = 40 is not hidden_size=24"),
}


@pytest.mark.parametrize("case", BAD_KEYS)
def test_a_key_that_matters_is_refused(copied: Path, case: str):
    keys, message = BAD_KEYS[case]
    change(copied, **keys)
    if case == "heads":
        message = "num_kv_heads=3"
    refused(copied, ConfigError, message)


@pytest.mark.parametrize("case", ["umt5", "bart", "mbart", "marian", "pegasus"])
def test_untied_matrices_that_versions_read_differently_are_refused(case: str):
    keys = json.loads(their_config(case).to_json_string()) | {"tie_word_embeddings": False}
    with pytest.raises(ConfigError, match="tie_word_embeddings=False cannot be expressed"):
        FAMILY[case].read_config(keys, case)


def test_harmless_and_null_keys_are_read_over(copied: Path):
    change(copied, attention_twist=None, pretraining_tp=4, use_cache=False, torch_dtype="float16", some_new_thing=None)
    convert(copied, copied.parent / "converted")


def test_both_spellings_say_the_same(copied: Path):
    import torch_reference as tr

    change(copied, rope_parameters="absent", rope_theta=5e5, rope_scaling={"type": "linear", "factor": 2.0})
    old = tr.load_pretrained(copied).config
    change(copied, rope_theta="absent", rope_scaling="absent")
    change(copied, rope_parameters={"rope_type": "linear", "factor": 2.0, "rope_theta": 5e5})
    assert tr.load_pretrained(copied).config == old


def model(**changes) -> config.Decoder:
    """A small model of ours, which is a llama; changes by path."""
    tree = {
        "vocab_size": 17,
        "d_model": 12,
        "max_length": 16,
        "stack": {
            "num_layers": 2,
            "pattern": [
                {
                    "attention": {"kind": "softmax", "num_heads": 2, "head_dim": 6},
                    "ffn": {"kind": "glu", "hidden_dim": 20},
                    "norm": {"kind": "rms_norm"},
                }
            ],
        },
        "final_norm": {"kind": "rms_norm"},
    }
    for path, value in changes.items():
        *parents, leaf = path.split("__")
        node = tree
        for parent in parents:
            node = node["pattern"][0] if parent == "block" else node.setdefault(parent, {})
        node[leaf] = value
    return config.Decoder.model_validate(tree)


NTK = {"kind": "rope", "scaling": {"kind": "ntk", "factor": 2.0}}
UNEXPRESSED = {
    "position": ({"stack__block__attention__position": {"kind": "alibi"}}, "attention.position.kind: the model has 'alibi'"),
    "scale": ({"stack__block__attention__scale": 0.3}, "layers.0.attention.scale: the model has 0.3"),
    "sinks": ({"stack__block__attention__sink_logits": True}, "sink_logits: the model has True, the family False"),
    "norm": ({"final_norm": {"kind": "layer_norm"}}, "final_norm.kind"),
    "cap": ({"head": {"softcap": 5.0}}, "head.softcap: the model has 5.0, the family None"),
    "scaling": ({"stack__block__attention__position": NTK}, "position.scaling.kind: the model has 'ntk'"),
}  # fmt: skip


@pytest.mark.parametrize("case", UNEXPRESSED)
def test_what_a_family_cannot_express_is_named(case: str):
    changes, message = UNEXPRESSED[case]
    with pytest.raises(ConfigError) as caught:
        choose(model(**changes), "llama")
    assert message in str(caught.value)


def test_a_model_of_no_family_names_the_closest():
    with pytest.raises(ConfigError, match=r"no family .* the closest: llama cannot express(.|\n)*sink_logits"):
        choose(model(stack__block__attention__sink_logits=True))


def test_an_export_without_a_name_is_the_first_family_that_fits():
    assert choose(model()).name == "llama"
    assert choose(model(stack__block__attention__window=5)).name == "mistral"
    assert choose(model(stack__block__attention__qkv_bias=True)).name == "qwen2"
    assert choose(model(stack__block__attention__qk_norm={"norm": {"kind": "rms_norm"}})).name == "qwen3"
    with pytest.raises(ConfigError, match="did you mean 'mistral'"):
        choose(model(), "mistrel")


def test_training_settings_do_not_matter_to_an_export():
    assert choose(model(stack__drop_path=0.1, stack__block__dropout=0.1, stack__remat="full")) is FAMILY["llama"]
