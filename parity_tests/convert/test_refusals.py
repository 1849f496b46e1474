"""Weights that do not fit their config, or cannot be trusted, are refused by name, by every loader alike."""

import json
import shutil

import numpy as np
import pytest

from jax_transformer.config.errors import ConfigError, WeightsError
from jax_transformer.config.load import to_json
from jax_transformer.convert.hub import open_weights, write_weights
from jax_transformer.convert.pretrained import convert, load_pretrained
from jax_transformer.nn.params import get_params
from parity_tests.convert.models import tiny


@pytest.fixture
def copied(exported, tmp_path):
    """An export that a test may damage; without checksums, which would notice first."""
    shutil.copytree(exported, tmp_path / "copy")
    (tmp_path / "copy" / "model.sha256").unlink()
    return tmp_path / "copy"


def rewrite(folder, change):
    """Rewrites the weights of ``folder`` with ``change(tensors)`` applied."""
    weights = open_weights(folder)
    tensors = {name: weights.read(name) for name in weights}
    change(tensors)
    (folder / "model.safetensors").unlink()
    write_weights(folder / "new", {name: (array.shape, array.dtype) for name, array in tensors.items()}, tensors.items())
    (folder / "new" / "model.safetensors").rename(folder / "model.safetensors")
    shutil.rmtree(folder / "new")


def loaders():
    yield load_pretrained
    yield lambda folder: convert(folder, folder.parent / "converted")
    yield lambda folder: pytest.importorskip("torch_reference.checkpoint").load_pretrained(folder)


@pytest.fixture(params=list(loaders()), ids=["jax", "convert", "torch"])
def load(request):
    return request.param


def refused(load, folder, message, error=WeightsError):
    with pytest.raises(error, match=message):
        load(folder)
    assert not (folder.parent / "converted").exists()


def test_mixed_dtypes_are_refused(copied, load):
    rewrite(copied, lambda tensors: tensors.update({"head.bias": np.zeros(17, np.float16)}))
    refused(load, copied, r"'float16': 'head\.bias'")


def test_a_config_with_another_dtype_is_refused(copied, load):
    (copied / "config.json").write_text(to_json(tiny(dtype="bfloat16")))
    refused(load, copied, r"dtype\.param=bfloat16")


def test_missing_extra_and_misshapen_tensors_are_listed_at_once(copied, load):
    def change(tensors):
        del tensors["stack.layers.1.attn.o_proj.bias"]
        tensors["stack.layers.9.ffn.up_proj.weight"] = np.zeros((2, 3), np.float32)
        tensors["head.weight"] = np.ascontiguousarray(tensors["head.weight"].T)

    rewrite(copied, change)
    refused(
        load,
        copied,
        r"missing: stack\.layers\.1\.attn\.o_proj\.bias \[10\]\n.*unexpected: stack\.layers\.9\.ffn\.up_proj\.weight \[2, 3\]\n"
        r".*shape: head\.weight is \[10, 17\], wanted \[17, 10\]",
    )


def test_tensors_in_two_shards_are_listed_with_all_that_is_wrong(copied, load):
    """Three tensors are there twice, two are missing, one is too many: one message has all six."""
    weights = open_weights(copied)
    tensors = {name: weights.read(name) for name in weights}
    for name in ("stack.layers.1.attn.o_proj.bias", "head.bias"):
        del tensors[name]
    tensors["extra.weight"] = np.zeros((2, 3), np.float32)
    twice = ("embed.weight", "head.weight", "stack.layers.0.attn.o_proj.bias")
    (copied / "model.safetensors").unlink()
    for file, part in {"a": tensors, "b": {name: tensors[name] for name in twice}}.items():
        specs = {name: (array.shape, array.dtype) for name, array in part.items()}
        write_weights(copied / "new", specs, part.items())
        (copied / "new" / "model.safetensors").rename(copied / f"{file}.safetensors")
        shutil.rmtree(copied / "new")
    weight_map = {name: "b.safetensors" if name == twice[0] else "a.safetensors" for name in tensors}
    (copied / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    with pytest.raises(WeightsError) as caught:
        load(copied)
    for name in twice:
        assert f"in two shards: {name} is in a.safetensors and b.safetensors" in str(caught.value)
    for name in ("missing: stack.layers.1.attn.o_proj.bias", "missing: head.bias", "unexpected: extra.weight"):
        assert name in str(caught.value)
    assert len(str(caught.value).splitlines()) == 7


def test_all_tensors_that_are_not_finite_are_named(copied, load):
    def change(tensors):
        tensors["stack.layers.3.ffn.up_proj.weight"].flat[[3, 5]] = np.nan
        tensors["embed.weight"].flat[7] = -np.inf
        tensors["head.bias"].fill(np.inf)

    rewrite(copied, change)
    wanted = {"stack.layers.3.ffn.up_proj.weight': 2 of 130", "embed.weight': 1 of 170", "head.bias': 17 of 17"}
    with pytest.raises(WeightsError) as caught:
        load(copied)
    assert all(f"tensor '{text} values are not finite" in str(caught.value) for text in wanted), caught.value
    assert len(str(caught.value).splitlines()) == 4


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (tiny(tied=True), r"unexpected: head\.weight"),
        (tiny(layers=6), r"missing: stack\.layers\.5\.attn"),
        (tiny().model_copy(update={"vocab_size": 19}), r"embed\.weight is \[17, 10\], wanted \[19, 10\]"),
    ],
    ids=["tied", "deeper", "vocabulary"],
)
def test_a_config_that_does_not_fit_is_refused(copied, load, changed, message):
    (copied / "config.json").write_text(to_json(changed))
    refused(load, copied, message)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite_are_refused(copied, load, value):
    def change(tensors):
        tensors["stack.layers.3.ffn.up_proj.weight"].flat[[3, 5]] = value

    rewrite(copied, change)
    refused(load, copied, r"stack\.layers\.3\.ffn\.up_proj\.weight': 2 of 130 values are not finite")


def test_weights_that_are_not_finite_load_on_request(copied):
    rewrite(copied, lambda tensors: tensors["head.bias"].fill(np.nan))
    assert np.isnan(get_params(load_pretrained(copied, check_finite=False))["head.bias"]).all()
    convert(copied, copied.parent / "converted", check_finite=False)
    mirror = pytest.importorskip("torch_reference.checkpoint").load_pretrained(copied, check_finite=False)
    assert mirror.head.bias.isnan().all()


def test_damage_is_noticed(copied, exported, load):
    shutil.copy(exported / "model.sha256", copied)
    content = bytearray((copied / "model.safetensors").read_bytes())
    content[-3] ^= 1
    (copied / "model.safetensors").write_bytes(content)
    refused(load, copied, "damaged")


CONFIGS = {
    "hugging face": ('{"model_type": "llama", "hidden_size": 8}', ConfigError, "vocab_size is missing"),
    "unknown family": ('{"model_type": "lama"}', ConfigError, "did you mean 'llama'"),
    "list": ("[]", ConfigError, r"config\.json"),
    "typo": (to_json(tiny()).replace("vocab_size", "vocab_sise"), ConfigError, "vocab_size"),
    "empty": ("", ConfigError, r"config\.json"),
}


@pytest.mark.parametrize(("text", "error", "message"), CONFIGS.values(), ids=CONFIGS.keys())
def test_a_config_that_is_not_ours_is_refused(copied, load, text, error, message):
    (copied / "config.json").write_text(text)
    refused(load, copied, message, error)


def test_a_folder_without_config_is_refused(copied, load):
    (copied / "config.json").unlink()
    refused(load, copied, r"config\.json")
