"""A small set of tensors and ways to write and compare them."""

import subprocess
import sys
from pathlib import Path

import numpy as np

from jax_transformer.convert.hub import open_weights, write_weights

TENSORS = {f"layers.{i}.weight": np.full((4, 8), i, np.float32) for i in range(12)}
SPECS = {name: (array.shape, array.dtype) for name, array in TENSORS.items()}
INDEX = "model.safetensors.index.json"


def write(folder, **options):
    """Writes TENSORS."""
    write_weights(folder, SPECS, TENSORS.items(), **options)


def contents(folder):
    """Name to bytes of every file."""
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def assert_holds(folder):
    """The folder opens, and holds TENSORS."""
    weights = open_weights(folder)
    assert set(weights) == set(TENSORS)
    assert all(np.array_equal(weights.read(name), array) for name, array in TENSORS.items())


def run_python(code, *arguments, **options):
    """A Python process that can import this checkout."""
    root = Path(__file__).resolve().parents[2]
    return subprocess.Popen([sys.executable, "-c", code, *map(str, arguments)], cwd=root, **options)
