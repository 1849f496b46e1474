"""``inspect --all``: every tensor of a checkpoint has a line, under its names and with its shape and size on each side."""

import math
import re
from pathlib import Path

import pytest

from jax_transformer.convert.hub import open_weights
from parity_tests.cli.test_commands import run


def lines(folder: Path, *options: str) -> list[list[str]]:
    done = run("inspect", folder, *options)
    assert done.returncode == 0, done.stderr
    return [re.split(" {2,}", line) for line in done.stdout.partition("\n\n")[0].splitlines()]


@pytest.mark.parametrize("case", ["gpt2", "mixtral"])
def test_every_tensor_of_a_checkpoint_has_a_line(case: str, tmp_path: Path):
    import torch_reference as tr
    from parity_tests.hf.checkpoints import save

    save(case, tmp_path / "hf", dtype="bfloat16")
    stored = open_weights(tmp_path / "hf")
    ours = tr.load_pretrained(tmp_path / "hf").state_dict()
    rows = lines(tmp_path / "hf", "--all")[1:]
    sizes = {"bfloat16": 2, "float32": 4}
    assert {(row[6], row[7]) for row in rows} == {(name, " x ".join(map(str, one.shape))) for name, one in stored.items()}
    assert {(row[4], row[5]) for row in rows} == {(name, " x ".join(map(str, one.shape))) for name, one in ours.items()}
    parts = {row[0]: row for row in rows}
    assert len(parts) == len(ours), "each is one part of a parameter of JAX"
    for row in parts.values():
        assert math.prod(map(int, row[1].split(" x "))) == int(row[3].replace(",", "")) == ours[row[4]].numel()
        assert sizes[row[2]] == ours[row[4]].element_size()
    assert len(lines(tmp_path / "hf")) < len(rows)


def test_without_a_file_every_tensor_of_pytorch_has_a_line():
    header, *rows = lines(Path("mini_tiny"), "--all")
    assert header[4:] == ["PyTorch parameter", "shape"]
    assert len({row[4] for row in rows}) == len(rows) > len(lines(Path("mini_tiny")))
