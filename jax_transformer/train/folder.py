"""The folder of a run: what is in it, and whether a run may begin or continue there."""

from pathlib import Path

import jax

from jax_transformer import config
from jax_transformer.config.errors import CheckpointError, ConfigError
from jax_transformer.config.load import load_config, save_config
from jax_transformer.train.committed import list_steps

CHECKPOINTS = "checkpoints"
CONFIG = "config.yaml"
DATA = "data"
EXPORT = "export"

CHANGEABLE = (
    "checkpoints",
    "mesh",
    "model.stack.remat",
    "model.stack.unroll",
    "train.evaluate_batches",
    "train.evaluate_every",
    "train.log_every",
    "train.max_skipped_steps",
    "train.steps",
)
"""What may differ between a run and its continuation."""


def prepare_folder(folder: Path, run: config.Run, resume: bool) -> None:
    """Write ``config.yaml``, after checking that ``run`` may use ``folder``.

    Raises CheckpointError if the folder holds checkpoints and ``resume`` is off, and ConfigError, naming each field, if it is
    on and the config differs from the one saved there in anything that would make it another run.
    """
    if jax.process_index() != 0:
        return
    steps = list_steps(folder / CHECKPOINTS)
    if steps and not resume:
        raise CheckpointError(
            f"{folder} holds a run, saved at step {steps[-1]}: pass --resume to continue it, or choose another folder"
        )
    if steps:
        _check_same(load_config(folder / CONFIG), run, folder / CONFIG)
    save_config(run, folder / CONFIG)


def _check_same(saved: config.Config, run: config.Run, where: Path) -> None:
    before, after = (_flat(c.model_dump(mode="json")) for c in (saved, run))
    different = [
        f"{key}: saved {before.get(key)!r}, now {after.get(key)!r}"
        for key in sorted(before.keys() | after.keys())
        if before.get(key) != after.get(key) and not key.startswith(CHANGEABLE)
    ]
    if different:
        raise ConfigError(
            f"{where}: the config differs from the run to be resumed:\n  " + "\n  ".join(different) + "\n"
            f"A continuation may change only {', '.join(CHANGEABLE)}."
        )


def _flat(value: object, path: str = "") -> dict[str, object]:
    if isinstance(value, dict):
        items = [(f"{path}.{key}" if path else key, item) for key, item in value.items()]
    elif isinstance(value, list):
        items = [(f"{path}[{index}]", item) for index, item in enumerate(value)]
    else:
        return {path: value}
    return {key: leaf for name, item in items for key, leaf in _flat(item, name).items()}
