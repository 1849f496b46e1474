"""Whole conversions, under SIGKILL, on a disk that refuses, and against a checkpoint many times the memory they may take."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from jax_transformer import config
from jax_transformer.config.load import save_config
from jax_transformer.convert.hf import FAMILY
from jax_transformer.convert.hub import open_weights, write_weights
from jax_transformer.convert.pretrained import structure
from jax_transformer.train.checkpoint import Checkpointer
from parity_tests.convert.folders import contents, run_python

WIDTH, VOCAB = 256, 64
ROW = WIDTH * WIDTH * 4
"""Bytes of the largest tensor."""


def make_llama(folder: Path, layers: int) -> None:
    """A checkpoint in Hugging Face layout, its tensors of one size."""
    modules = [*(f"self_attn.{name}_proj" for name in "qkvo"), *(f"mlp.{name}_proj" for name in ("gate", "up", "down"))]
    shapes: dict[str, tuple[int, ...]] = {
        f"model.layers.{layer}.{name}.weight": (WIDTH, WIDTH) for layer in range(layers) for name in modules
    }
    norms = ("input_layernorm", "post_attention_layernorm")
    shapes |= {f"model.layers.{layer}.{name}.weight": (WIDTH,) for layer in range(layers) for name in norms}
    shapes |= {"model.norm.weight": (WIDTH,)} | dict.fromkeys(("model.embed_tokens.weight", "lm_head.weight"), (VOCAB, WIDTH))
    values = {"model_type": "llama", "hidden_size": WIDTH, "intermediate_size": WIDTH, "num_attention_heads": 8}
    values |= {"num_hidden_layers": layers, "vocab_size": VOCAB, "tie_word_embeddings": False, "max_position_embeddings": 32}
    specs = {name: (shape, np.dtype(np.float32)) for name, shape in shapes.items()}
    tensors = ((name, np.full(shape, number, np.float32)) for number, (name, shape) in enumerate(shapes.items()))
    write_weights(folder, specs, tensors, {"config.json": json.dumps(values).encode()}, max_shard_bytes=20 * ROW)


KILLED = """
import os, signal, sys
from pathlib import Path
from jax_transformer.convert.pretrained import convert

for line in sys.stdin:
    source, target, format, moment = line.split()
    child = os.fork()  # shares the imports, which take longer than the conversion
    if child == 0:
        convert(source, target, format=format, overwrite=True)
        os._exit(0)
    status = None
    while status is None:
        done, value = os.waitpid(child, os.WNOHANG)
        if done:
            status = value
        elif any(Path(target).parent.glob(moment)):
            os.kill(child, signal.SIGKILL)
            status = os.waitpid(child, 0)[1]
    print(status, flush=True)
"""

MOMENTS = ("T.tmp-*", "T.tmp-*/*.safetensors", "T.tmp-*/model.sha256", "T.tmp-*/config.json", "T")
"""What there is to see when the kill comes; T is the target."""
REPLACING = ("T.tmp-*/model.sha256", "T.tmp-*/config.json", "T.old-*")


class Converter:
    """A process that converts on request, in a child that it kills at a moment."""

    def __init__(self) -> None:
        self.process = run_python(KILLED, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def convert(self, source: Path, target: Path, format: str, moment: str = "never") -> bool:
        """Whether the child came to its end."""
        print(source, target, format, moment.replace("T", target.name), file=self.process.stdin, flush=True)
        assert self.process.stdout is not None
        return self.process.stdout.readline() == "0\n"


@pytest.fixture
def converter() -> Iterator[Converter]:
    converter = Converter()
    yield converter
    converter.process.communicate()


@pytest.mark.fault
def test_a_killed_conversion_leaves_the_whole_target_or_none(converter: Converter, tmp_path: Path):
    """SIGKILL from the first file to the last rename, in both directions, with a folder to replace and without."""
    make_llama(tmp_path / "hf", 20)
    killed = unfinished = 0
    for source, target, format in (("hf", "ours", "exchange"), ("ours", "back", "hf")):
        goal = tmp_path / target
        assert converter.convert(tmp_path / source, goal, format)
        whole = contents(goal)
        for moment, replacing in [*((moment, False) for moment in MOMENTS), *((moment, True) for moment in REPLACING)]:
            if not replacing:
                shutil.rmtree(goal)
            killed += not converter.convert(tmp_path / source, goal, format, moment)
            unfinished += any(tmp_path.glob(f"{target}.tmp-*"))
            # Between the two renames of a replacement the old folder waits under another name.
            kept = goal if goal.exists() else next(iter(tmp_path.glob(f"{target}.old-*")), None)
            assert contents(kept) == whole if kept else not replacing
            assert converter.convert(tmp_path / source, goal, format)
            assert contents(goal) == whole
            assert not [*tmp_path.glob("*.tmp-*"), *tmp_path.glob("*.old-*")]
    before, after = open_weights(tmp_path / "hf"), open_weights(tmp_path / "back")
    assert all(before.read(name).tobytes() == after.read(name).tobytes() for name in before)
    assert killed >= 8
    assert unfinished >= 4


@pytest.mark.fault
def test_a_full_disk_is_a_users_error_and_leaves_nothing(tmp_path: Path):
    """A limit on the size of files stands for the disk: writing fails half-way through."""
    make_llama(tmp_path / "hf", 2)
    command = f"ulimit -f 1000; exec {sys.executable} -m jax_transformer convert {tmp_path / 'hf'} {tmp_path / 'ours'}"
    environment = os.environ | {"JAX_PLATFORMS": "cpu"}
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 2
    assert f"error: {tmp_path / 'ours'}: cannot be written: File too large" in done.stderr
    assert "Traceback" not in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["hf"]


PEAK = """
import re, sys
from jax_transformer.convert.pretrained import convert
def status(name):
    return int(re.search(name + r":\\s+(\\d+) kB", open("/proc/self/status").read())[1]) * 1024
convert(sys.argv[1], sys.argv[2], format="exchange")
convert(sys.argv[2], sys.argv[3], format="hf")
print(status("VmHWM"))
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="measures memory by /proc")
def test_memory_does_not_grow_with_the_model(tmp_path: Path):
    """Resident memory, mapped pages included, of a model and of one that is 35 MB, 140 tensors, larger."""
    peaks = []
    for layers in (2, 22):
        folder = tmp_path / str(layers)
        make_llama(folder / "hf", layers)
        process = run_python(PEAK, *(folder / name for name in ("hf", "ours", "back")), stdout=subprocess.PIPE, text=True)
        peaks.append(int(process.communicate()[0]))
        assert sum(file.stat().st_size for file in (folder / "back").iterdir()) > layers * 7 * ROW
    assert peaks[1] - peaks[0] < 8 * 10**6


PEAK_OF_A_RUN = """
import re, sys
from jax_transformer.convert.pretrained import convert
def status(name):
    return int(re.search(name + r":\\s+(\\d+) kB", open("/proc/self/status").read())[1]) * 1024
small, large, target, format = sys.argv[1:]
convert(small, target + "-small", format=format)
before = status("VmRSS")
convert(large, target, format=format)
print(status("VmHWM") - before)
"""


def make_run(folder: Path, layers: int) -> int:
    """A run with one committed step of a Llama, whose layers are seven large arrays; the bytes of the largest."""
    values = {"model_type": "llama", "hidden_size": WIDTH, "intermediate_size": WIDTH, "num_attention_heads": 8}
    values |= {"num_hidden_layers": layers, "vocab_size": VOCAB, "max_position_embeddings": 32}
    model = FAMILY["llama"].read_config(values, "test")
    data = config.Data(sequence_length=8, tokenizer=config.CharTokenizer())
    run = config.Run(model=model, data=data, train=config.Train(steps=10, batch_size=8, warmup_steps=1))
    folder.mkdir()
    save_config(run, folder / "config.yaml")
    params = {path: jnp.full(spec.shape, 0.5, jnp.float32) for path, spec in structure(model).items()}
    checkpointer = Checkpointer(folder / "checkpoints", keep_last=1, keep_best=False)
    checkpointer.save(1, {"params": params}, {}, 1.0)
    checkpointer.close()
    return max(array.nbytes for array in params.values())


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="measures memory by /proc")
@pytest.mark.parametrize("format", ["exchange", "hf"])
def test_a_run_is_converted_array_by_array(format: str, tmp_path: Path):
    """Twice the largest array and a constant, above what a small conversion takes.

    Seven arrays have that size, 42 MB: glibc keeps for itself what was smaller than 32 MB and is freed.
    """
    make_run(tmp_path / "small", 1)
    largest = make_run(tmp_path / "large", 160)
    process = run_python(
        PEAK_OF_A_RUN, *(tmp_path / name for name in ("small", "large", "to")), format, stdout=subprocess.PIPE, text=True
    )
    peak = int(process.communicate()[0])
    assert sum(file.stat().st_size for file in (tmp_path / "to").iterdir()) > 7 * largest
    assert peak < 2 * largest + 32 * 10**6
