"""The commands on an encoder and an encoder-decoder, as a user types them."""

from pathlib import Path

import numpy as np
import pytest

import torch_reference
from jax_transformer import config as c
from jax_transformer import load_pretrained
from jax_transformer.config.load import save_config
from jax_transformer.convert import hub
from jax_transformer.convert.pretrained import save_pretrained
from jax_transformer.data.tokenizer import build_tokenizer
from parity_tests.builders import block, cross, encoder_decoder, tower
from parity_tests.cli.test_commands import run
from parity_tests.generate.sides import encoder_config, jax_side, source_config, weights

BYTES = build_tokenizer(c.ByteTokenizer(), [])
CONFIGS = {
    "encoder": encoder_config(c.MlmHead(), BYTES.vocab_size),
    "classifier": encoder_config(c.ClassifierHead(num_classes=3), BYTES.vocab_size),
    "encoder_decoder": source_config(vocab_size=BYTES.vocab_size + 6),
}
EVERY = pytest.mark.parametrize("name", CONFIGS)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """An exchange folder of each."""
    root = tmp_path_factory.mktemp("exported")
    for name, config in CONFIGS.items():
        save_pretrained(jax_side(config, weights(config)).model, root / name, BYTES)
    return {name: root / name for name in CONFIGS}


@EVERY
def test_a_folder_travels_through_both_frameworks_unchanged(name: str, folders: dict[str, Path], tmp_path: Path) -> None:
    mirror = torch_reference.load_pretrained(folders[name])
    assert mirror.config == CONFIGS[name]
    torch_reference.save_pretrained(mirror, tmp_path / "torch", folders[name] / "tokenizer.json")
    save_pretrained(load_pretrained(tmp_path / "torch"), tmp_path / "jax", BYTES)
    for file in folders[name].iterdir():
        assert (tmp_path / "torch" / file.name).read_bytes() == (tmp_path / "jax" / file.name).read_bytes() == file.read_bytes()


@EVERY
def test_convert_casts_every_tensor(name: str, folders: dict[str, Path], tmp_path: Path) -> None:
    result = run("convert", folders[name], tmp_path / "cast", "--dtype", "float64")
    assert result.returncode == 0, result.stderr
    first, second = (hub.open_weights(folder) for folder in (folders[name], tmp_path / "cast"))
    assert list(first) == list(second)
    assert all(np.array_equal(first.read(tensor), second.read(tensor)) for tensor in first)
    assert {str(info.dtype) for info in second.values()} == {"float64"}


def test_inspect_names_tensors_of_both_halves(folders: dict[str, Path]) -> None:
    result = run("inspect", folders["encoder_decoder"])
    assert result.returncode == 0, result.stderr
    names = {tuple(line.split()[:1]) + tuple(line.split()[-4:-3]) for line in result.stdout.splitlines()}
    assert "encoder.stack.layers.0.attn.q_proj.weight and 1 more" in result.stdout
    assert ("decoder.stack.slots.0.cross_attn.q_proj.kernel", "decoder.stack.layers.0.cross_attn.q_proj.weight") in names
    assert ("decoder.stack.tail.0.cross_attn.q_proj.kernel", "decoder.stack.layers.2.cross_attn.q_proj.weight") in names


def test_inspect_counts_the_parameters_of_a_classifier(folders: dict[str, Path]) -> None:
    result = run("inspect", folders["classifier"])
    assert result.returncode == 0, result.stderr
    reader = hub.open_weights(folders["classifier"])
    assert f"{sum(reader.read(name).size for name in reader):,} parameters" in result.stdout


def test_both_frameworks_write_the_same_target_and_not_the_source(folders: dict[str, Path]) -> None:
    options = ("--prompt", "The source", "--temperature", "0", "--max-new-tokens", "8")
    results = [run("generate", folders["encoder_decoder"], "--framework", name, *options) for name in ("jax", "torch")]
    assert [result.returncode for result in results] == [0, 0], results[0].stderr + results[1].stderr
    assert results[0].stdout == results[1].stdout
    assert len(results[0].stdout) > 1
    assert "The source" not in results[0].stdout


def test_an_encoder_does_not_generate(folders: dict[str, Path]) -> None:
    result = run("generate", folders["classifier"], "--prompt", "x")
    assert result.returncode == 2
    assert "reads whole texts and writes none" in result.stderr
    assert not result.stdout


def test_parity_is_proven(tmp_path: Path) -> None:
    save_config(encoder_decoder(tower(block()), tower(block(cross_attention=cross()))), tmp_path / "model.yaml")
    result = run("parity", tmp_path / "model.yaml", "--steps", "1")
    assert result.returncode == 0, result.stdout + result.stderr
    assert "cross_attn" in result.stdout
