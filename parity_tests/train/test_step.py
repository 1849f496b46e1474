"""The training step: the same numbers on every mesh and for every split into micro-batches."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import NamedSharding

from jax_transformer import config
from jax_transformer.models import abstract_model, build_model
from jax_transformer.nn.params import get_params, param_specs
from jax_transformer.sharding.mesh import build_mesh
from jax_transformer.sharding.rules import BATCH
from jax_transformer.train.optimizer import build_optimizer, decay_mask
from jax_transformer.train.schedule import dropout_scale, learning_rate
from jax_transformer.train.state import init_state, make_recipe
from jax_transformer.train.step import Batch, State, StepSettings, all_finite, make_train_step
from parity_tests.tolerances import FLOAT32_OPERATION, MODULE, OPERATION
from parity_tests.train.runs import tiny_model, tiny_run

MESHES = {
    "one device": (config.Mesh(data=1, fsdp=1), 1),
    "DP": (config.Mesh(data=8, fsdp=1), 8),
    "FSDP": (config.Mesh(data=1, fsdp=8), 8),
    "DP x FSDP": (config.Mesh(data=2, fsdp=4), 8),
    "FSDP x TP": (config.Mesh(fsdp=4, tensor=2), 8),
}


def packed_batch(rng: np.random.Generator, rows: int = 16, length: int = 13) -> Batch:
    """Random tokens in rows of two documents and padding, every row with its own number of real tokens."""
    tokens = rng.integers(0, 264, (rows, length)).astype(np.int32)
    segments = np.ones_like(tokens)
    for row in range(rows):
        segments[row, row % 7 + 2 :] = 2
        segments[row, length - row % 4 :] = 0
    return {"tokens": tokens, "segments": segments}


def losses(mesh: config.Mesh, devices: int, batches: Sequence[Batch]) -> list[float]:
    """Losses of successive steps, dropout included, on the first ``devices`` devices."""
    run = tiny_run(mesh, tiny_model(stack=config.Stack(pattern=tiny_model().stack.pattern[:1], num_layers=2)))
    placed = build_mesh(mesh, jax.devices()[:devices])
    recipe = make_recipe(run, placed)
    settings = StepSettings(0, 1, dropout_scale(run.train), segmented=True)
    step = jax.jit(
        make_train_step(recipe.skeleton, recipe.optimizer, settings),
        in_shardings=(recipe.shardings, NamedSharding(placed, BATCH)),
        out_shardings=(recipe.shardings, None),
    )
    state = init_state(run, recipe)
    result = []
    with jax.set_mesh(placed):
        for batch in batches:
            state, metrics = step(state, jax.device_put(batch, NamedSharding(placed, BATCH)))
            result.append(float(metrics["loss"]))
    assert step._cache_size() == 1
    return result


@pytest.fixture(scope="module")
def one_device_losses() -> tuple[list[Batch], list[float]]:
    rng = np.random.default_rng(3)
    batches = [packed_batch(rng) for _ in range(5)]
    return batches, losses(*MESHES["one device"], batches)


@pytest.mark.parametrize("name", [name for name in MESHES if name != "one device"])
def test_loss_does_not_depend_on_the_mesh(name: str, one_device_losses: tuple[list[Batch], list[float]]) -> None:
    batches, expected = one_device_losses
    assert max(expected) - min(expected) > 1e-3
    np.testing.assert_allclose(losses(*MESHES[name], batches), expected, **FLOAT32_OPERATION)


def test_every_array_of_the_state_is_laid_out_like_its_parameter() -> None:
    recipe = make_recipe(tiny_run(), build_mesh(config.Mesh(fsdp=4, tensor=2)))
    state = init_state(tiny_run(), recipe)
    name = "stack.slots.0.attn.q_proj.kernel"
    adam = next(part for part in jax.tree.leaves(state["opt_state"], is_leaf=_is_adam) if _is_adam(part))
    for array in (state["params"][name], adam.mu[name], adam.nu[name]):
        assert array.shape == (2, 16, 4, 6)
        assert array.addressable_shards[0].data.shape == (2, 4, 2, 6)
    assert state["params"]["embed.embedding"].addressable_shards[0].data.shape == (132, 4)


def _is_adam(part: object) -> bool:
    return isinstance(part, optax.ScaleByAdamState)


class Float64:
    """A step of the tiny model in float64, without dropout."""

    def __init__(self, accumulation: int = 1, clip_norm: float | None = 1.0):
        model = tiny_model(dtype=config.Dtype(param="float64", compute="float64", logits="float64"))
        self.skeleton = abstract_model(model)
        self.optimizer = build_optimizer(config.AdamW(), param_specs(self.skeleton), 1e-2, clip_norm)
        settings = StepSettings(0, accumulation, lambda step: jnp.zeros(()), segmented=True)
        self.step = jax.jit(make_train_step(self.skeleton, self.optimizer, settings))
        params = get_params(build_model(model))
        self.state: State = {"params": params, "opt_state": self.optimizer.init(params), "step": np.int32(0)}


def test_micro_batches_are_averaged_over_tokens(rng: np.random.Generator) -> None:
    batch = packed_batch(rng)
    whole, split = Float64(1), Float64(4)
    (one, measured), (four, measured_split) = whole.step(whole.state, batch), split.step(split.state, batch)
    np.testing.assert_allclose(measured["loss"], measured_split["loss"], **OPERATION)
    np.testing.assert_allclose(measured["grad_norm"], measured_split["grad_norm"], **OPERATION)
    for name, value in one["params"].items():
        np.testing.assert_allclose(value, four["params"][name], **MODULE, err_msg=name)


def test_a_step_that_is_not_finite_changes_nothing_but_the_count(rng: np.random.Generator) -> None:
    setup = Float64()
    state, _ = setup.step(setup.state, packed_batch(rng))
    huge = state | {"params": state["params"] | {"embed.embedding": state["params"]["embed.embedding"] * 1e308}}
    after, metrics = setup.step(huge, packed_batch(rng))
    assert not metrics["finite"]
    assert int(after["step"]) == int(huge["step"]) + 1
    before_leaves, after_leaves = (jax.tree.leaves((s["params"], s["opt_state"])) for s in (huge, after))
    for before, later in zip(before_leaves, after_leaves, strict=True):
        np.testing.assert_array_equal(before, later)


def test_all_finite_sees_one_value(rng: np.random.Generator) -> None:
    params = {"a": jnp.ones((3, 4)), "b": jnp.ones(2)}
    assert all_finite(params)
    assert not all_finite(params | {"a": params["a"].at[1, 2].set(jnp.nan)})


def test_only_matmul_weights_and_the_embedding_decay() -> None:
    specs = param_specs(abstract_model(tiny_model(head=config.Head(tied=False, bias=True))))
    mask = decay_mask(config.AdamW(), specs)
    assert {name for name, decays in mask.items() if not decays} == {
        name for name in specs if name.endswith((".bias", ".scale"))
    }
    assert mask["embed.embedding"]
    assert not decay_mask(config.AdamW(decay_embedding=False), specs)["embed.embedding"]


def test_warmup_starts_above_zero_and_the_cosine_ends_at_the_minimum() -> None:
    rate = learning_rate(config.Train(steps=100, batch_size=1, warmup_steps=10, learning_rate=0.5, min_learning_rate=0.1))
    assert float(rate(0)) == pytest.approx(0.05)
    assert float(rate(9)) == pytest.approx(0.5)
    assert float(rate(10)) == pytest.approx(0.5)
    assert float(rate(55)) == pytest.approx(0.3)
    assert float(rate(100)) == pytest.approx(0.1)


def test_dropout_anneals_without_another_compilation(rng: np.random.Generator) -> None:
    anneal = config.DropoutAnneal(start=1.0, end=0.0, steps=2)
    scale = dropout_scale(config.Train(steps=1000, batch_size=1, dropout_anneal=anneal))
    assert [float(scale(step)) for step in (0, 1, 2, 9)] == [1.0, 0.5, 0.0, 0.0]
    model = tiny_model()
    skeleton, params = abstract_model(model), get_params(build_model(model))
    optimizer = optax.sgd(0.0)
    noisy, still = (
        jax.jit(make_train_step(skeleton, optimizer, StepSettings(0, 1, schedule, segmented=True)))
        for schedule in (scale, lambda step: jnp.zeros((), jnp.float32))
    )
    batch = packed_batch(rng)
    found = []
    for step in (0, 1, 2):
        state = {"params": params, "opt_state": optimizer.init(params), "step": np.int32(step)}
        found.append(float(noisy(state, batch)[1]["loss"]) - float(still(state, batch)[1]["loss"]))
    assert found[0] != 0
    assert found[1] != 0
    assert found[2] == 0
    assert noisy._cache_size() == 1
