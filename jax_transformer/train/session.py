"""Everything that a training loop works with, put together before the first step."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
from jax.sharding import NamedSharding, PartitionSpec

from jax_transformer import config
from jax_transformer.config.errors import CheckpointError, ConfigError
from jax_transformer.data.corpus import Corpus, open_corpus
from jax_transformer.data.loader import TrainLoader, validation_batches
from jax_transformer.sharding.mesh import build_mesh
from jax_transformer.sharding.rules import BATCH
from jax_transformer.train.checkpoint import Checkpointer, Restored
from jax_transformer.train.folder import DATA
from jax_transformer.train.objective import Batch, has_segments
from jax_transformer.train.schedule import Schedule, dropout_scale, learning_rate
from jax_transformer.train.state import Recipe, make_recipe
from jax_transformer.train.step import State, StepSettings, make_eval_step, make_train_step


@dataclass(frozen=True)
class Session:
    """A run made ready: compiled lazily, placed on its mesh, with its data open."""

    run: config.Run
    recipe: Recipe
    corpus: Corpus
    loader: TrainLoader
    train_step: Callable[[State, Batch], tuple[State, dict[str, jax.Array]]]
    eval_step: Callable[[Any, Batch], dict[str, jax.Array]]
    learning_rate: Schedule
    batch_sharding: NamedSharding

    def place(self, batch: Batch) -> Batch:
        """This process's rows as part of the global batch on the mesh."""
        return {name: jax.make_array_from_process_local_data(self.batch_sharding, rows) for name, rows in batch.items()}

    def validation(self) -> Iterator[Batch]:
        """The validation batches, placed; micro-batches in size, as that is what is known to fit."""
        size = self.run.train.batch_size // self.run.train.accumulation
        limit = self.run.train.evaluate_batches
        rows = validation_batches(self.corpus, size, jax.process_index(), jax.process_count(), limit)
        return map(self.place, rows)


def open_session(run: config.Run, folder: Path) -> Session:
    """Check the run against the devices and the data, in that order, before any long work.

    Raises ConfigError for a mesh, batch or parameter that does not fit the devices, DataError for text that cannot be used.
    """
    mesh = build_mesh(run.mesh)
    _check_batch(run, mesh)
    recipe = make_recipe(run, mesh)
    objective, segmented = run.effective_objective, has_segments(run)
    corpus = open_corpus(run.data, folder / DATA, run.model.vocab_size, objective, run.start_token)
    place = jax.process_index(), jax.process_count()
    loader = TrainLoader(corpus, run.train.batch_size, run.data.seed, *place, corpus.corrupt)
    c = run.train
    settings = StepSettings(c.seed, c.accumulation, dropout_scale(c), segmented, objective, c.choice_bias_rate)
    batch_sharding = NamedSharding(mesh, BATCH)
    replicated = NamedSharding(mesh, PartitionSpec())
    train_step = jax.jit(
        make_train_step(recipe.skeleton, recipe.optimizer, settings),
        donate_argnums=0,
        in_shardings=(recipe.shardings, batch_sharding),
        out_shardings=(recipe.shardings, replicated),
    )
    eval_step = jax.jit(
        make_eval_step(recipe.skeleton, segmented=segmented, objective=objective),
        in_shardings=(recipe.shardings["params"], batch_sharding),
        out_shardings=replicated,
    )
    return Session(run, recipe, corpus, loader, train_step, eval_step, learning_rate(run.train), batch_sharding)


def restore_session(session: Session, checkpoints: Checkpointer) -> Restored:
    """The newest checkpoint that can be trusted, with the data moved to where it was.

    Raises CheckpointError if the data is not what the checkpoint was trained on, or no checkpoint can be trusted.
    """
    restored = checkpoints.restore(session.recipe.state)
    saved, now = restored.record["fingerprint"], session.corpus.fingerprint
    if saved != now:
        raise CheckpointError(
            f"the data (fingerprint {now[:12]}) is not what step {restored.step} was trained on (fingerprint {saved[:12]}): "
            "restore the text, or start a new run in another folder"
        )
    session.loader.restore(restored.record["position"])
    return restored


def _check_batch(run: config.Run, mesh: jax.sharding.Mesh) -> None:
    rows = run.train.batch_size // run.train.accumulation
    devices = mesh.shape["data"] * mesh.shape["fsdp"]
    if rows % devices:
        raise ConfigError(
            f"train.batch_size={run.train.batch_size} / train.accumulation={run.train.accumulation} = {rows} rows do not "
            f"divide over mesh.data * mesh.fsdp = {devices} devices; choose a multiple"
        )
