"""Checkpoints: what is saved comes back bit for bit on any mesh, and what does not fit is refused by name."""

import json
import shutil
import threading
from collections import namedtuple
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from jax_transformer.config.errors import CheckpointError
from jax_transformer.train import checkpoint as checkpoint_module
from jax_transformer.train import manifest as manifest_module
from jax_transformer.train.checkpoint import Checkpointer
from jax_transformer.train.named_arrays import flatten
from parity_tests.train.restored import restore_params

RECORD = {"config": {"d_model": 8}, "data": {"next_index": 3, "fingerprint": "abc"}}


def make_state(rng: np.random.Generator) -> dict[str, Any]:
    params = {
        "embed.embedding": jnp.asarray(rng.normal(size=(16, 8)), jnp.float32),
        "stack.slots.0.attn.q_proj.kernel": jnp.asarray(rng.normal(size=(2, 8, 8, 4)), jnp.bfloat16),
        "final_norm.scale": jnp.asarray(rng.normal(size=(8,)), jnp.float64),
    }
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(lambda step: 0.1 / (1 + step)))
    return {"params": params, "opt_state": optimizer.init(params), "step": jnp.int32(7)}


def abstract(state: Any, sharding: NamedSharding | None = None) -> Any:
    return jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding or leaf.sharding), state)


def assert_same_bits(got: Any, wanted: Any) -> None:
    assert jax.tree.structure(got) == jax.tree.structure(wanted)
    for name, leaf in flatten(wanted).items():
        other = flatten(got)[name]
        assert other.dtype == leaf.dtype, name
        assert np.asarray(other).tobytes() == np.asarray(leaf).tobytes(), name


@pytest.fixture
def state(rng: np.random.Generator) -> dict[str, Any]:
    return make_state(rng)


@pytest.fixture
def checkpointer(tmp_path: Path):
    checkpointer = Checkpointer(tmp_path / "checkpoints", keep_last=2, keep_best=True)
    yield checkpointer
    checkpointer.close()


def save_all(checkpointer: Checkpointer, state: Any, losses: dict[int, float | None]) -> None:
    for step, loss in losses.items():
        checkpointer.save(step, state, RECORD | {"step": step}, loss)
    checkpointer.wait()


def test_round_trip_keeps_every_bit_dtype_and_the_optimizer_structure(checkpointer: Checkpointer, state: Any):
    save_all(checkpointer, state, {7: 2.5})
    restored = checkpointer.restore(abstract(state))
    assert_same_bits(restored.state, state)
    assert (restored.step, restored.record, restored.skipped) == (7, RECORD | {"step": 7}, ())


def test_state_that_is_donated_during_the_save_is_saved_as_it_was(checkpointer: Checkpointer):
    advance = jax.jit(lambda tree: jax.tree.map(lambda leaf: leaf + 1, tree), donate_argnums=0)
    state = advance({"params": {"w": jnp.arange(2_000_000, dtype=jnp.float32)}, "step": jnp.int32(0)})
    wanted = jax.tree.map(lambda leaf: np.array(leaf, copy=True), state)
    like = abstract(state)
    checkpointer.save(1, state, {}, None)
    while not checkpointer.poll():
        state = advance(state)
    assert_same_bits(checkpointer.restore(like).state, wanted)


MESHES = [(1,), (4,), (8,), (2, 4), (1,)]


def test_restore_on_any_mesh_is_bit_equal(checkpointer: Checkpointer):
    array = jnp.arange(16 * 8, dtype=jnp.float32).reshape(16, 8) / 7
    state = {"params": {"w": array, "b": array.astype(jnp.bfloat16)}, "step": jnp.int32(3)}
    wanted = jax.tree.map(np.asarray, state)
    for step, shape in enumerate(MESHES):
        names = ("fsdp", "tensor")[: len(shape)]
        mesh = jax.make_mesh(
            shape, names, axis_types=(AxisType.Auto,) * len(shape), devices=jax.devices()[: int(np.prod(shape))]
        )
        spread, whole = NamedSharding(mesh, PartitionSpec(*names)), NamedSharding(mesh, PartitionSpec())
        like = jax.tree.map(
            lambda leaf, s=spread, w=whole: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=s if leaf.ndim else w), state
        )
        if step:
            state = checkpointer.restore(like).state
            assert state["params"]["w"].sharding == spread
        assert_same_bits(state, wanted)
        save_all(checkpointer, state, {step: None})


def test_keeps_the_newest_and_the_best(checkpointer: Checkpointer, tmp_path: Path):
    state = {"params": {"w": jnp.ones(3)}}
    save_all(checkpointer, state, {1: 3.0, 2: 1.0, 3: None, 4: 2.0, 5: 2.8})
    assert checkpointer.steps() == (2, 4, 5)
    assert checkpointer.best_step() == 2
    assert checkpointer.restore(abstract(state)).step == 5
    assert checkpointer.restore(abstract(state), "best").step == 2
    assert checkpointer.restore(abstract(state), 4).record["step"] == 4
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["2", "4", "5"]


def test_without_keep_best_only_the_newest_stay(tmp_path: Path):
    checkpointer = Checkpointer(tmp_path, keep_last=2, keep_best=False)
    save_all(checkpointer, {"params": {"w": jnp.ones(3)}}, {1: 1.0, 2: 2.0, 3: 3.0})
    assert checkpointer.steps() == (2, 3)
    checkpointer.close()


def test_a_step_is_reported_only_when_its_manifest_is_on_disk(
    checkpointer: Checkpointer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    gate = threading.Event()

    def write_late(*args: Any) -> None:
        assert gate.wait(timeout=60)
        manifest_module.write_manifest(*args)

    monkeypatch.setattr(checkpoint_module, "write_manifest", write_late)
    checkpointer.save(1, {"params": {"w": jnp.ones(3)}}, {}, None)
    checkpointer._orbax.wait_until_finished()
    assert checkpointer.poll() == checkpointer.steps() == ()
    gate.set()
    checkpointer.wait()
    assert checkpointer.poll() == checkpointer.steps() == (1,)
    assert checkpointer.poll() == ()
    assert (tmp_path / "checkpoints" / "1" / "MANIFEST.json").exists()


@pytest.mark.parametrize("loss", [float("nan"), float("inf")])
def test_loss_that_is_not_finite_is_refused(checkpointer: Checkpointer, state: Any, loss: float):
    with pytest.raises(CheckpointError, match=f"step 3 has loss {loss}"):
        checkpointer.save(3, state, {}, loss)
    assert checkpointer.steps() == ()


def test_mismatch_names_every_differing_array(checkpointer: Checkpointer, state: Any):
    save_all(checkpointer, state, {1: None})
    other = abstract(state)
    params = other["params"]
    params["embed.embedding"] = jax.ShapeDtypeStruct((17, 8), jnp.float32)
    params["stack.slots.0.attn.q_proj.kernel"] = jax.ShapeDtypeStruct((2, 8, 8, 4), jnp.float32)
    params["head.kernel"] = jax.ShapeDtypeStruct((8, 16), jnp.float32)
    del params["final_norm.scale"]
    with pytest.raises(CheckpointError) as caught:
        checkpointer.restore(other)
    text = str(caught.value)
    assert "params/embed.embedding: the checkpoint has float32[16, 8], this run wants float32[17, 8]" in text
    assert (
        "params/stack.slots.0.attn.q_proj.kernel: the checkpoint has bfloat16[2, 8, 8, 4], this run wants float32[2, 8, 8, 4]"
        in text
    )
    assert "params/head.kernel: the checkpoint has nothing, this run wants float32[8, 16]" in text
    assert "params/final_norm.scale: the checkpoint has float64[8], this run wants nothing" in text
    assert "4 of 12 arrays differ" in text
    assert checkpointer.steps() == (1,), "a mismatch is no damage: nothing is set aside"


def test_restore_params_reads_parameters_alone(checkpointer: Checkpointer, state: Any, tmp_path: Path):
    save_all(checkpointer, state, {1: 1.0, 2: 2.0})
    params, record = restore_params(tmp_path / "checkpoints", "best")
    assert record["step"] == 1
    assert params.keys() == state["params"].keys()
    assert all(type(array) is np.ndarray for array in params.values())
    assert params["stack.slots.0.attn.q_proj.kernel"].dtype == ml_dtypes.bfloat16
    assert_same_bits(params, state["params"])


def test_restore_params_reports_damage_and_renames_nothing(checkpointer: Checkpointer, state: Any, tmp_path: Path):
    save_all(checkpointer, state, {1: None})
    (tmp_path / "checkpoints" / "1" / "record.json").unlink()
    with pytest.raises(CheckpointError, match=r"1/record\.json: missing"):
        restore_params(tmp_path / "checkpoints")
    assert checkpointer.steps() == (1,)


def test_empty_folder_and_unknown_step_say_what_there_is(checkpointer: Checkpointer, state: Any):
    with pytest.raises(CheckpointError, match="no committed checkpoint"):
        checkpointer.restore(abstract(state))
    save_all(checkpointer, state, {1: None, 2: None})
    with pytest.raises(CheckpointError, match="no step 9; committed are 1, 2"):
        checkpointer.restore(abstract(state), 9)
    with pytest.raises(CheckpointError, match="no step has a validation loss"):
        checkpointer.restore(abstract(state), "best")


def test_committed_step_is_not_written_twice(checkpointer: Checkpointer, tmp_path: Path):
    save_all(checkpointer, {"params": {"w": jnp.ones(3)}}, {1: None})
    save_all(checkpointer, {"params": {"w": jnp.zeros(3)}}, {1: None})
    params, _ = restore_params(tmp_path / "checkpoints")
    np.testing.assert_array_equal(params["w"], np.ones(3))


def test_leftovers_of_killed_saves_and_deletions_are_swept(tmp_path: Path):
    for name in ("3.tmp/state.orbax-checkpoint-tmp/d", "2.old.tmp/state", "2.corrupt/state", "notes.tmp"):
        (tmp_path / name).mkdir(parents=True)
    Checkpointer(tmp_path, keep_last=1, keep_best=False).close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["2.corrupt", "notes.tmp"]


def test_full_disk_is_seen_before_the_save(checkpointer: Checkpointer, state: Any, monkeypatch: pytest.MonkeyPatch):
    save_all(checkpointer, state, {1: None})
    monkeypatch.setattr(shutil, "disk_usage", lambda _: namedtuple("usage", "total used free")(10**6, 10**6 - 512, 512))
    with pytest.raises(CheckpointError, match=r"step 2 .*too little space.* needs 10\d{5} bytes, 512 are free"):
        checkpointer.save(2, state, {}, None)
    monkeypatch.undo()
    assert_same_bits(checkpointer.restore(abstract(state)).state, state)


def test_newer_format_asks_for_an_upgrade_and_is_not_damage(
    checkpointer: Checkpointer, state: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(manifest_module, "FORMAT", 99)
    save_all(checkpointer, state, {1: None})
    monkeypatch.undo()
    with pytest.raises(CheckpointError, match="format 99, but this version reads up to 1: upgrade"):
        checkpointer.restore(abstract(state))
    assert checkpointer.steps() == (1,)


def test_format_on_disk_knows_nothing_of_the_classes_in_the_state(checkpointer: Checkpointer, state: Any, tmp_path: Path):
    save_all(checkpointer, state, {1: None})
    record = json.loads((tmp_path / "checkpoints" / "1" / "record.json").read_text())
    assert record["arrays"].keys() == flatten(state).keys()
    assert "opt_state/1/0/mu/embed.embedding" in record["arrays"]
    assert all("[" not in name and "State" not in name for name in record["arrays"])
