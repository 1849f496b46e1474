"""The commands, as a user types them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from jax_transformer.config.load import load_config, save_config
from jax_transformer.convert import hub
from parity_tests.train.runs import tiny_run

VERBS = ("train", "generate", "convert", "parity", "verify", "inspect")


def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """``python -m jax_transformer`` in a process of its own."""
    command = [sys.executable, "-m", "jax_transformer", *map(str, arguments)]
    return subprocess.run(command, env=os.environ | {"JAX_PLATFORMS": "cpu"}, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run folder that the train command has left."""
    root = tmp_path_factory.mktemp("cli")
    save_config(tiny_run(steps=6, warmup_steps=2), root / "run.yaml")
    result = run("train", root / "run.yaml", "train.learning_rate=2e-3", "--folder", root / "run")
    assert result.returncode == 0, result.stderr
    return root / "run"


@pytest.mark.parametrize("verb", VERBS)
def test_help_shows_an_example_and_imports_no_framework(verb: str) -> None:
    code = (
        "import sys; sys.argv = ['jax-transformer', sys.argv[1], '--help']\n"
        "from jax_transformer.cli import main\n"
        "try: main()\n"
        "except SystemExit as done: assert done.code == 0\n"
        "assert not {'jax', 'torch', 'flax'} & set(sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code, verb], capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert "Example" in result.stdout


def test_a_config_error_is_one_message_and_needs_no_framework(tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text("model: mini_tiny\ntrain: {steps: 10, batch_sise: 4}\ndata: {sequence_length: 8}\n")
    result = run("train", tmp_path / "bad.yaml", "--folder", tmp_path / "run")
    assert result.returncode == 2
    assert "bad.yaml:2: train.batch_sise: unknown field; did you mean 'batch_size'?" in result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "run").exists()


def test_training_leaves_everything_that_the_readme_names(trained: Path) -> None:
    expected = {"config.yaml", "metrics.jsonl", "tensorboard", "loss.png", "checkpoints", "tokenizer.json", "export"}
    assert expected <= {path.name for path in trained.iterdir()}
    assert {path.name for path in (trained / "export").iterdir()} >= {"config.json", "model.safetensors", "tokenizer.json"}
    assert load_config(trained).train.learning_rate == 2e-3


def test_a_folder_with_a_run_is_not_overwritten(trained: Path) -> None:
    result = run("train", trained.parent / "run.yaml", "--folder", trained)
    assert result.returncode == 2
    assert "--resume" in result.stderr


def test_a_run_is_not_resumed_as_another(trained: Path) -> None:
    result = run("train", trained.parent / "run.yaml", "--folder", trained, "--resume")
    assert result.returncode == 2
    assert "train.learning_rate: saved 0.002, now 0.001" in result.stderr


def test_both_frameworks_write_the_same_greedy_text(trained: Path) -> None:
    options = ("--prompt", "The", "--temperature", "0", "--max-new-tokens", "8")
    texts = [run("generate", trained, "--framework", name, *options) for name in ("jax", "torch")]
    assert [text.returncode for text in texts] == [0, 0], texts[0].stderr + texts[1].stderr
    assert texts[0].stdout == texts[1].stdout
    assert len(texts[0].stdout) > 3


def test_a_prompt_beyond_the_context_is_refused(trained: Path) -> None:
    result = run("generate", trained, "--prompt", "x" * 50, "--max-new-tokens", "4")
    assert result.returncode == 2
    assert "max_length=20" in result.stderr


def test_convert_writes_the_same_weights_again(trained: Path, tmp_path: Path) -> None:
    result = run("convert", trained / "export", tmp_path / "copy")
    assert result.returncode == 0, result.stderr
    first, second = (hub.open_weights(folder) for folder in (trained / "export", tmp_path / "copy"))
    assert list(first) == list(second)
    assert all((first.read(name) == second.read(name)).all() for name in first)


def test_a_run_is_verified_against_its_export(trained: Path) -> None:
    result = run("verify", trained, trained / "export", "--dtype", "float64")
    assert result.returncode == 0, result.stdout + result.stderr
    assert "the same" in result.stdout


def test_inspect_names_tensors_on_both_sides(trained: Path) -> None:
    result = run("inspect", trained / "export")
    assert result.returncode == 0, result.stderr
    assert "stack.slots.0.attn.q_proj.kernel" in result.stdout
    assert "stack.layers.0.attn.q_proj.weight and 1 more" in result.stdout


def test_a_training_state_leaves_a_run_and_does_not_come_back_unchanged(trained: Path, tmp_path: Path) -> None:
    result = run("convert", trained, tmp_path / "state", "--training", "--step", "latest")
    assert result.returncode == 0, result.stderr
    assert {path.name for path in (tmp_path / "state").iterdir()} == {"weights", "exp_avg", "exp_avg_sq", "training.json"}
    assert not list((tmp_path / "state").rglob("*.pt"))
    result = run("convert", tmp_path / "state", trained, "--training")
    assert result.returncode == 2
    assert "is at step 6, wanted one after the newest" in result.stderr
    result = run("convert", trained, tmp_path / "other", "--training", "--dtype", "float64")
    assert result.returncode == 2
    assert "leave --dtype, --overwrite and --dequantize out" in result.stderr
