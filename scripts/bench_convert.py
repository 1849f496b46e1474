"""Memory and time of conversions, in a process of their own each, on a large checkpoint that is made for it.

    python scripts/bench_convert.py [folder] [--layers 22]

Makes a Llama in shards (22 layers: 2.2 GB in bfloat16), converts it to our format and back, and compares the checksums.
Resident memory is the kernel's own high-water mark and counts mapped file pages; anonymous memory is sampled.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import ml_dtypes
import numpy as np

from jax_transformer.convert.hub import write_weights

WIDTH, HIDDEN, HEADS, KV_HEADS, VOCAB = 2048, 5632, 32, 4, 32_000
SHARD_BYTES = 500 * 10**6
MEGA = 10**6

CONVERT = f"""
import sys
from jax_transformer.convert.pretrained import convert
convert(sys.argv[1], sys.argv[2], format=sys.argv[3], overwrite=True, max_shard_bytes={SHARD_BYTES})
"""


@dataclass(frozen=True)
class Usage:
    """Peaks of a process, in bytes, and its time."""

    resident: int
    anonymous: int
    seconds: float


def measure(command: list[str]) -> Usage:
    """Runs a command and watches its memory. Raises CalledProcessError where it fails."""
    start = time.monotonic()
    process = subprocess.Popen(command)
    resident = anonymous = 0
    while process.poll() is None:
        status = Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8")
        resident = max(resident, _kilobytes(status, "VmHWM") * 1024)
        anonymous = max(anonymous, _kilobytes(status, "RssAnon") * 1024)
        time.sleep(0.005)
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    return Usage(resident, anonymous, time.monotonic() - start)


def _kilobytes(status: str, name: str) -> int:
    found = re.search(rf"{name}:\s+(\d+) kB", status)  # a process that has just ended has no such line
    return int(found[1]) if found else 0


def make_llama(folder: Path, layers: int) -> int:
    """Writes a checkpoint in Hugging Face layout; its size in bytes."""
    kv = WIDTH // HEADS * KV_HEADS
    rows = {"q": WIDTH, "k": kv, "v": kv, "o": WIDTH}
    block: dict[str, tuple[int, ...]] = {f"self_attn.{name}_proj": (count, WIDTH) for name, count in rows.items()}
    block |= {"mlp.gate_proj": (HIDDEN, WIDTH), "mlp.up_proj": (HIDDEN, WIDTH), "mlp.down_proj": (WIDTH, HIDDEN)}
    block |= {"input_layernorm": (WIDTH,), "post_attention_layernorm": (WIDTH,)}
    shapes = {f"model.layers.{layer}.{name}.weight": shape for layer in range(layers) for name, shape in block.items()}
    shapes |= {"model.embed_tokens.weight": (VOCAB, WIDTH), "model.norm.weight": (WIDTH,), "lm_head.weight": (VOCAB, WIDTH)}
    values = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_size": WIDTH, "intermediate_size": HIDDEN}
    values |= {"num_hidden_layers": layers, "num_attention_heads": HEADS, "num_key_value_heads": KV_HEADS, "vocab_size": VOCAB}
    values |= {"max_position_embeddings": 2048, "rms_norm_eps": 1e-5, "tie_word_embeddings": False}
    dtype = np.dtype(ml_dtypes.bfloat16)
    files = {"config.json": json.dumps(values).encode()}
    write_weights(
        folder, {name: (shape, dtype) for name, shape in shapes.items()}, _random(shapes), files, SHARD_BYTES, overwrite=True
    )
    return sum(file.stat().st_size for file in folder.iterdir())


def _random(shapes: dict[str, tuple[int, ...]]) -> Iterator[tuple[str, np.ndarray]]:
    noise = np.random.default_rng(0).normal(0, 0.02, 2**20 + 7).astype(ml_dtypes.bfloat16)
    for number, (name, shape) in enumerate(shapes.items()):
        yield name, np.resize(np.roll(noise, number), shape)


def main() -> None:
    """Make, convert both ways, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--layers", type=int, default=22)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        source, ours, back = folder / "llama", folder / "ours", folder / "back"
        size = make_llama(source, arguments.layers)
        print(f"checkpoint: {size / MEGA:.0f} MB, largest tensor {VOCAB * WIDTH * 2 / MEGA:.0f} MB")
        interpreter = measure([sys.executable, "-c", "import time; time.sleep(0.2)"])
        imports = measure([sys.executable, "-c", "import time, jax_transformer.convert.pretrained; time.sleep(0.2)"])
        runs = {
            "Hugging Face -> ours": measure([sys.executable, "-c", CONVERT, str(source), str(ours), "exchange"]),
            "ours -> Hugging Face": measure([sys.executable, "-c", CONVERT, str(ours), str(back), "hf"]),
        }
        print("\n| | peak resident | above the interpreter | above the imports | peak anonymous | seconds |")
        print("|---|---|---|---|---|---|")
        for name, usage in runs.items():
            above = [(usage.resident - base.resident) / MEGA for base in (interpreter, imports)]
            anonymous = usage.anonymous / MEGA
            print(
                f"| {name} | {usage.resident / MEGA:.0f} MB | {above[0]:.0f} MB | {above[1]:.0f} MB | {anonymous:.0f} MB "
                f"| {usage.seconds:.0f} |"
            )
        same = (source / "model.sha256").read_bytes() == (back / "model.sha256").read_bytes()
        print(f"\nthe same bytes after the round trip: {same}")
        sys.exit(not same)


if __name__ == "__main__":
    main()
