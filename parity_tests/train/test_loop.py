"""What a run refuses before its first step, and how it ends when its numbers do."""

from pathlib import Path

import numpy as np
import pytest

from jax_transformer import config
from jax_transformer.config.errors import CheckpointError, ConfigError, DataError, NonFiniteError, RunLockedError
from jax_transformer.train.lock import RunLock
from jax_transformer.train.loop import train
from parity_tests.train.restored import restore_params
from parity_tests.train.runs import tiny_model, tiny_run


def small_run(text: Path, **changes: object) -> config.Run:
    """A one-layer run over the bytes of one text file."""
    model = tiny_model(stack=config.Stack(pattern=tiny_model().stack.pattern[1:], num_layers=1))
    run = tiny_run(model=model, **({"steps": 8, "warmup_steps": 0, "evaluate_every": 8} | changes))
    source = config.TextFiles(paths=(str(text),))
    data = config.Data(source=source, sequence_length=12)
    return run.model_copy(update={"data": data, "checkpoints": config.Checkpoints(every=1)})


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text("".join(f"line {number} of a text that is long enough\n" for number in range(400)))
    return path


@pytest.mark.parametrize("allowed", [0, 2])
def test_a_run_that_diverges_stops_with_its_batch_and_keeps_good_checkpoints(text: Path, allowed: int) -> None:
    run = small_run(text, learning_rate=1e36, min_learning_rate=0.0, clip_norm=None, max_skipped_steps=allowed)
    folder = text.parent / "run"
    with pytest.raises(NonFiniteError, match=f"step {2 + allowed}: loss nan.*train.max_skipped_steps={allowed}"):
        train(run, folder)
    for step in range(2, 3 + allowed):
        with np.load(folder / f"nonfinite_step_{step}_process_0.npz") as batch:
            assert batch["tokens"].shape == (16, 13)
    assert not (folder / f"nonfinite_step_{3 + allowed}_process_0.npz").exists()
    params, record = restore_params(folder / "checkpoints")
    assert all(np.isfinite(value).all() for value in params.values())
    assert record["skipped"] <= allowed


def test_a_run_goes_on_only_with_its_own_text(text: Path) -> None:
    folder = text.parent / "run"
    assert train(small_run(text), folder).step == 8
    text.write_text(text.read_text().replace("line 7 ", "line 8 "))
    with pytest.raises(CheckpointError, match=r"the data \(fingerprint .*\) is not what step 8 was trained on"):
        train(small_run(text, steps=9), folder, resume=True)


def test_a_folder_in_use_names_its_owner(text: Path) -> None:
    with RunLock(text.parent / "run"), pytest.raises(RunLockedError, match="in use by process"):
        train(small_run(text), text.parent / "run")


def test_what_does_not_fit_is_refused_before_anything_is_saved(text: Path) -> None:
    folder = text.parent / "run"
    with pytest.raises(ConfigError, match=r"train\.batch_size=12 .* = 12 rows do not divide over mesh\.data \* mesh\.fsdp = 8"):
        train(small_run(text, batch_size=12), folder)
    text.write_text("too short\n")
    with pytest.raises(DataError, match="the corpus of 10 characters is too short to split"):
        train(small_run(text), folder)
    text.write_text("")
    with pytest.raises(DataError, match=r"text\.txt"):
        train(small_run(text), folder)
    assert not (folder / "checkpoints").exists()
