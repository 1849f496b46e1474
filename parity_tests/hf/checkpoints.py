"""Tiny random models of ``transformers`` as folders, and what two folders have in common."""

import shutil
from collections.abc import Callable
from copy import deepcopy
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jax_transformer.convert.hub import open_weights, write_weights
from parity_tests.hf.bases import TOKENS
from parity_tests.hf.cases import CASES
from parity_tests.tolerances import OPERATION

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")


def their_config(case: str) -> Any:
    """The config of a case. It gets a copy of the keys, which transformers completes in place."""
    name, keys = CASES[case]
    return transformers.AutoConfig.for_model(name, **deepcopy(keys))


def save(case: str, folder: Path, dtype: str = "float32", seed: int = 0, matrices: float = 0.25, biases: float = 0.3) -> Any:
    """The model of a case, every parameter random, and its folder; ``matrices`` and ``biases`` are their spreads."""
    name, config = CASES[case][0], their_config(case)
    config._attn_implementation = config._experts_implementation = "eager"
    model = _class(config).from_config(config)
    generator = torch.Generator().manual_seed(seed)
    buffers = [(path, buffer) for path, buffer in model.named_buffers() if path.endswith("e_score_correction_bias")]
    with torch.no_grad():
        for path, parameter in chain(model.named_parameters(), buffers):
            spread = torch.randn(parameter.shape, generator=generator)
            if path.endswith("embed_positions.weight") and name in ("marian", "pegasus"):
                continue  # sinusoids
            norm = parameter.ndim == 1 and not path.endswith("bias")
            table = parameter.shape[:1] == (TOKENS,)
            width = biases if parameter.ndim == 1 else 0.25 if table else matrices
            parameter.copy_(1.0 + 0.3 * spread if norm else spread * width)
    model = model.to(getattr(torch, dtype)).eval()
    model.save_pretrained(folder)
    if name == "olmo_hybrid":
        rewrite(folder, lambda tensors: _as_released(tensors, config))
    return model


def rewrite(folder: Path, edit: Callable[[dict[str, np.ndarray]], None]) -> None:
    """Changes the tensors of a folder of one file."""
    tensors = dict(open_weights(folder).tensors())
    edit(tensors)
    specs = {name: (array.shape, array.dtype) for name, array in tensors.items()}
    write_weights(folder / "new", specs, tensors.items())
    (folder / "new" / "model.safetensors").replace(folder / "model.safetensors")
    shutil.rmtree(folder / "new")


def _as_released(tensors: dict[str, np.ndarray], config: Any) -> None:
    """Tensors of OLMo Hybrid as Ai2 writes them. transformers reads these, but saves others: it cuts the three filters into
    equal parts, whatever their sizes, and renames a norm of the full layers as if it were one of the linear layers."""
    keys = config.linear_num_key_heads * config.linear_key_head_dim
    for layer, kind in enumerate(config.layer_types):
        own = f"model.layers.{layer}."
        if kind == "full_attention":
            tensors[f"{own}post_attention_layernorm.weight"] = tensors.pop(f"{own}feedforward_layer_norm.weight")
            continue
        names = [f"{own}linear_attn.{name}_conv1d.weight" for name in "qkv"]
        filters = np.concatenate([tensors[name] for name in names])
        tensors |= dict(zip(names, np.split(filters, [keys, 2 * keys]), strict=True))


def inputs(case: str) -> dict[str, np.ndarray]:
    """Token ids: longer than the windows of the cases."""
    rng = np.random.default_rng(3)
    ids = rng.integers(3, TOKENS, (2, 14))
    return {"tokens": ids, "source": rng.integers(3, TOKENS, (2, 11))}


def their_logits(model: Any, case: str) -> np.ndarray:
    """What transformers computes."""
    given = {name: torch.from_numpy(ids) for name, ids in inputs(case).items()}
    with torch.no_grad():
        if model.config.is_encoder_decoder:
            return model(input_ids=given["source"], decoder_input_ids=given["tokens"]).logits.numpy()
        return model(input_ids=given["tokens"]).logits.numpy()


def our_inputs(model: Any, case: str) -> tuple[np.ndarray, ...]:
    """The same for a model of ours."""
    given = inputs(case)
    return (given["source"], given["tokens"]) if model.config.kind == "encoder_decoder" else (given["tokens"],)


def reload(folder: Path) -> tuple[Any, dict[str, Any]]:
    """A folder as transformers opens it, and what it says about keys."""
    config = transformers.AutoConfig.from_pretrained(folder)
    config._attn_implementation = config._experts_implementation = "eager"
    model, report = _class(config).from_pretrained(folder, config=config, output_loading_info=True, dtype="auto")
    return model.eval(), report


def assert_same_tensors(one: Path, other: Path) -> None:
    """Both folders hold the same tensors, byte for byte."""
    left, right = open_weights(one), open_weights(other)
    assert set(left) == set(right)
    for name in left:
        assert left[name].dtype == right[name].dtype, name
        assert left[name].shape == right[name].shape, name
        assert left.read(name).tobytes() == right.read(name).tobytes(), name


def assert_same_meaning(one: Path, other: Path) -> None:
    """transformers reads the same config from both folders, except for what names files, versions and special tokens."""
    left, right = (transformers.AutoConfig.from_pretrained(folder).to_dict() for folder in (one, other))
    skipped = ("_name_or_path", "transformers_version", "initializer_range")
    skipped += ("max_window_layers", "multi_query", "num_kv_heads", "attention_types")  # what other keys override
    for key in (left.keys() & right.keys()) - set(skipped):
        default = left[key] is None and key in ("n_inner", "intermediate_size", "head_dim")
        free = default or "drop" in key or key.endswith("token_id")
        assert free or _agree(left[key], right[key]), (key, left[key], right[key])


def _agree(left: Any, right: Any) -> bool:
    """Equal, but for special tokens and for keys that only one of two dicts has: those are defaults written out."""
    if isinstance(left, dict) and isinstance(right, dict):
        return all(_agree(left[key], right[key]) for key in left.keys() & right.keys() if not str(key).endswith("token_id"))
    if isinstance(left, float) and isinstance(right, int | float):
        return abs(left - right) <= OPERATION["rtol"] * abs(left)
    return left == right or (left, right) == ("swish", "silu")


def _class(config: Any) -> Any:
    if config.is_encoder_decoder:
        return transformers.AutoModelForSeq2SeqLM
    if any(name.endswith("ForSequenceClassification") for name in config.architectures or ()):
        return transformers.AutoModelForSequenceClassification
    masked = config.model_type in ("bert", "roberta", "distilbert", "electra", "eurobert", "modernbert")
    return transformers.AutoModelForMaskedLM if masked else transformers.AutoModelForCausalLM
