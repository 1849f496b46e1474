"""Training a mixture of experts: its balance, its choice bias, what is reported of both; on every mesh, resumed, exported."""

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
from jax.sharding import NamedSharding

from jax_transformer import config
from jax_transformer.convert.pretrained import load_pretrained
from jax_transformer.models import abstract_model, build_model
from jax_transformer.nn.params import get_params, param_specs, with_params
from jax_transformer.ops.balance import Usage, balanced_bias
from jax_transformer.sharding.mesh import build_mesh
from jax_transformer.sharding.rules import BATCH
from jax_transformer.train.balance import balanced_params, expert_metrics
from jax_transformer.train.loop import train
from jax_transformer.train.state import make_recipe
from jax_transformer.train.step import Batch, StepSettings, make_train_step
from parity_tests.tolerances import (
    FLOAT32_MODEL,
    FLOAT32_MODULE,
    FLOAT32_OPERATION,
    MODULE,
    OPERATION,
    SEQUENCE,
    relative_error,
)
from parity_tests.train.runs import killed_after, tiny_model, tiny_run
from parity_tests.train.test_step import packed_batch
from torch_reference.checkpoint import load_pretrained as load_torch

RATE = 0.01
LAYERS = [f"stack.layers.{layer}" for layer in range(1, 6)]
BIASED = ["stack.slots.0.ffn.choice_bias", "stack.tail.0.ffn.choice_bias"]
"""Layers 1 and 3, and layer 5."""


def experts_model(noise: float = 0.0, **changes: Any) -> config.Decoder:
    """A dense layer, then two kinds of mixtures, twice, and the first of them again."""
    dense, _ = tiny_model().stack.pattern
    glu = config.Glu(hidden_dim=8)
    kinds = (
        config.Moe(num_experts=5, routing=config.SigmoidTopK(top_k=2, choice_bias=True), expert=glu, shared=glu),
        config.Moe(num_experts=4, routing=config.SoftmaxTopK(top_k=1), expert=glu, capacity_factor=1.5, router_noise=noise),
    )
    pattern = tuple(dense.model_copy(update={"ffn": kind}) for kind in kinds)
    return tiny_model(stack=config.Stack(first=(dense,), pattern=pattern, num_layers=6), **changes)


BATCH_OF_ALL = packed_batch(np.random.default_rng(0))
WIDE = config.Dtype(param="float64", compute="float64", logits="float64")


@cache
def first_params() -> dict[str, jax.Array]:
    """Weights in float64, of the size that makes routing uneven."""
    rng = np.random.default_rng(1)
    specs = param_specs(abstract_model(experts_model(dtype=WIDE)))
    return {name: jnp.asarray(0.3 * rng.normal(size=spec.shape) + name.endswith("scale")) for name, spec in specs.items()}


@cache
def stepper(mesh: config.Mesh, devices: int, accumulation: int) -> Callable[[dict[str, jax.Array], Batch], tuple[Any, Any]]:
    """``(params, batch) -> (params, metrics)`` after one step from there."""
    run = tiny_run(mesh, experts_model(dtype=WIDE), warmup_steps=0, learning_rate=1e-2)
    placed = build_mesh(mesh, jax.devices()[:devices])
    recipe = make_recipe(run, placed)
    settings = StepSettings(0, accumulation, lambda step: jnp.zeros(()), segmented=True, choice_bias_rate=RATE)
    shardings = recipe.shardings, NamedSharding(placed, BATCH)
    step = make_train_step(recipe.skeleton, recipe.optimizer, settings)
    compiled = jax.jit(step, in_shardings=shardings, out_shardings=(recipe.shardings, None))

    def run_step(params: dict[str, jax.Array], batch: Batch) -> tuple[Any, Any]:
        state = {"params": params, "opt_state": recipe.optimizer.init(params), "step": np.int32(0)}
        with jax.set_mesh(placed):
            after, metrics = compiled(jax.device_put(state, recipe.shardings), jax.device_put(batch, shardings[1]))
        return jax.tree.map(np.asarray, after["params"]), {name: float(value) for name, value in metrics.items()}

    return run_step


ALONE = config.Mesh(data=1, fsdp=1), 1


@cache
def one_step() -> tuple[Any, Any]:
    """From the first weights, on one device."""
    return stepper(*ALONE, 1)(first_params(), BATCH_OF_ALL)


def usage_of(batch: Batch) -> dict[str, Usage]:
    """How the first weights use their experts."""
    model = with_params(abstract_model(experts_model(dtype=WIDE)), first_params())
    tokens, segments = (batch[name][:, :-1] for name in ("tokens", "segments"))
    return jax.jit(lambda tokens, segments: model(tokens, segments=segments)[1]["experts"])(tokens, segments)


def test_a_step_moves_each_bias_by_its_own_layer_s_load_and_reports_it() -> None:
    params, metrics = one_step()
    usage = usage_of(BATCH_OF_ALL)
    assert list(usage) == LAYERS
    for path, layers in zip(BIASED, ([1, 3], [5]), strict=True):
        before = first_params()[path]
        rows = before if before.ndim == 2 else before[None]
        want = [balanced_bias(row, usage[f"stack.layers.{i}"].counts, RATE) for row, i in zip(rows, layers, strict=True)]
        np.testing.assert_allclose(params[path], np.reshape(want, before.shape), **OPERATION)
        assert np.any(params[path] != before)
    for layer, used in usage.items():
        np.testing.assert_allclose(metrics[f"load_balance/{layer}"], used.load_balance, **MODULE)
        np.testing.assert_allclose(metrics[f"router_z/{layer}"], used.router_z, **MODULE)
        counts = np.asarray(used.counts)
        load = counts * counts.size / counts.sum()
        np.testing.assert_allclose(metrics[f"expert_load_max/{layer}"], load.max(), **FLOAT32_OPERATION)
        np.testing.assert_allclose(metrics[f"expert_load_min/{layer}"], load.min(), **FLOAT32_OPERATION)
    mean = np.mean([0.01 * used.load_balance + 0.001 * used.router_z for used in usage.values()])
    np.testing.assert_allclose(metrics["balance_loss"], mean, **MODULE)


def test_micro_batches_count_together_and_average_their_terms() -> None:
    params, metrics = stepper(*ALONE, 2)(first_params(), BATCH_OF_ALL)
    halves = [usage_of({name: rows[part::2] for name, rows in BATCH_OF_ALL.items()}) for part in (0, 1)]
    for layer in LAYERS:
        terms = [half[layer] for half in halves]
        np.testing.assert_allclose(metrics[f"load_balance/{layer}"], np.mean([t.load_balance for t in terms]), **MODULE)
        counts = np.asarray(terms[0].counts + terms[1].counts)
        load = counts.max() * counts.size / counts.sum()
        np.testing.assert_allclose(metrics[f"expert_load_max/{layer}"], load, **FLOAT32_OPERATION)
    counts = halves[0][LAYERS[4]].counts + halves[1][LAYERS[4]].counts
    np.testing.assert_allclose(params[BIASED[1]], balanced_bias(first_params()[BIASED[1]], counts, RATE), **OPERATION)


def test_a_step_on_a_mesh_is_that_on_one_device() -> None:
    want, measured = one_step()
    got, metrics = stepper(config.Mesh(fsdp=4, tensor=2), 8, 1)(first_params(), BATCH_OF_ALL)
    for name, value in measured.items():
        np.testing.assert_allclose(metrics[name], value, **MODULE, err_msg=name)
    for name, value in want.items():
        np.testing.assert_allclose(got[name], value, **SEQUENCE, err_msg=name)


def test_a_step_that_is_not_finite_leaves_the_biases() -> None:
    huge = first_params() | {"embed.embedding": first_params()["embed.embedding"] * 1e308}
    params, metrics = stepper(*ALONE, 1)(huge, BATCH_OF_ALL)
    assert not metrics["finite"]
    for path in BIASED:
        np.testing.assert_array_equal(params[path], first_params()[path])


def test_a_load_of_one_is_an_even_share() -> None:
    usage = {"a": Usage(jnp.ones(()), jnp.zeros(()), jnp.asarray([3, 1, 0, 0]))}
    metrics = expert_metrics(usage)
    assert (float(metrics["expert_load_max/a"]), float(metrics["expert_load_min/a"])) == (3.0, 0.0)


def test_without_experts_nothing_is_balanced_or_reported() -> None:
    params = {"stack.slots.0.ffn.up_proj.kernel": jnp.ones((1, 2, 3))}
    specs = param_specs(abstract_model(tiny_model()))
    assert balanced_params(params, {}, specs, RATE) == params
    _, aux = jax.eval_shape(lambda: build_model(tiny_model())(np.zeros((1, 3), np.int32)))
    assert aux == {}


def rows(folder: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name != "tokens_per_second"} for line in lines]


def test_a_run_learns_resumes_to_the_same_bits_and_is_read_by_torch(tmp_path: Path) -> None:
    run = tiny_run(config.Mesh(data=1, fsdp=8), experts_model(noise=0.1), steps=8, evaluate_every=4, learning_rate=1e-2)
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    train(run, whole)
    found = rows(whole)
    assert found[-1]["loss"] < found[0]["loss"]
    per_layer = ("load_balance", "router_z", "expert_load_max", "expert_load_min")
    named = {f"{name}/{layer}" for name in per_layer for layer in LAYERS}
    assert named | {"balance_loss", "loss", "validation_loss"} <= found[-1].keys()
    assert all(row["balance_loss"] > 0 for row in found)
    killed_after(4, whole, cut)
    train(run, cut, resume=True)
    assert rows(cut) == found
    ours, theirs = load_pretrained(whole / "export"), load_torch(whole / "export")
    assert np.any(np.asarray(get_params(ours)[BIASED[1]]) != 0)
    tokens = np.arange(24).reshape(2, 12) * 7 % 256
    with torch.no_grad():
        logits, aux = theirs(torch.tensor(tokens))
    want, own = ours(tokens)
    assert relative_error(logits.numpy(), np.asarray(want)) <= FLOAT32_MODEL
    np.testing.assert_allclose(aux["balance_loss"], own["balance_loss"], **FLOAT32_MODULE)
