"""Loading onto a mesh: a process reads from the files what its devices hold, and nothing else."""

import io
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

import jax_transformer as jt
from jax_transformer.config.errors import WeightsError
from jax_transformer.convert.pretrained import convert, open_pretrained, structure
from jax_transformer.nn.params import get_params
from parity_tests.hf.checkpoints import save, transformers
from parity_tests.tolerances import FLOAT32_MODEL, relative_error

DEVICES = 4
Shape = tuple[int, ...]


def header(folder: Path) -> int:
    """Bytes of a file that are no tensor's."""
    return 8 + int.from_bytes((folder / "model.safetensors").read_bytes()[:8], "little")


def size(folder: Path) -> int:
    """Bytes of all tensors."""
    return (folder / "model.safetensors").stat().st_size - header(folder)


@pytest.fixture
def count(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """What every read from a file of weights gave, hashing included."""
    counted: list[int] = []

    class Counting(io.FileIO):
        def readinto(self, buffer: Any) -> int:
            counted.append(super().readinto(buffer) or 0)
            return counted[-1]

    plain = Path.open

    def opened(self: Path, *arguments: Any, **options: Any) -> Any:
        return Counting(self) if self.suffix == ".safetensors" else plain(self, *arguments, **options)

    monkeypatch.setattr(Path, "open", opened)
    return counted


def shardings(folder: Path, mesh: Mesh, choose: Callable[[list[int]], int]) -> dict[str, NamedSharding]:
    """Each parameter split along one of its dimensions that the first axis of the mesh divides."""
    layouts = {}
    for path, spec in structure(open_pretrained(folder, verify=False)[0]).items():
        even = [axis for axis, size in enumerate(spec.shape) if size % mesh.shape["x"] == 0]
        cut = choose(even) if even else None
        layouts[path] = NamedSharding(mesh, PartitionSpec(*("x" if axis == cut else None for axis in range(len(spec.shape)))))
    return layouts


def load_one_device(monkeypatch: pytest.MonkeyPatch, folder: Path, layouts: dict[str, NamedSharding], number: int) -> int:
    """Loads as a process would whose only device is ``number``; the bytes that it keeps."""
    kept = 0

    def one(shape: Shape, sharding: NamedSharding, part: Callable[[Any], np.ndarray]) -> jax.Array:
        nonlocal kept
        array = part(sharding.devices_indices_map(shape)[jax.devices()[number]])
        kept += array.nbytes
        return jnp.zeros(shape, array.dtype)

    with monkeypatch.context() as patch:
        patch.setattr(jax, "make_array_from_callback", one)
        jt.load_pretrained(folder, shardings=layouts)
    return kept


FOLDERS = ["llama", "gpt2", "phi3", "mixtral", "falcon", "gpt_neox", "deepseek_v3", "exchange"]


@pytest.fixture(scope="module", params=[*FOLDERS, "gpt_oss"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Transposed, fused, grouped tensors, experts one by one and by turns, and a folder of ours."""
    path = tmp_path_factory.mktemp("parts") / request.param
    save("phi3" if request.param == "exchange" else request.param, path)
    if request.param == "exchange":
        path.rename(path.with_name("hf"))
        convert(path.with_name("hf"), path)
    return path


@pytest.mark.parametrize("choose", [min, max], ids=["first dimension", "last dimension"])
def test_a_process_reads_what_its_devices_hold(
    folder: Path, choose: Callable[[list[int]], int], count: list[int], monkeypatch: pytest.MonkeyPatch
):
    """To the byte; of columns that are stored by turns (gpt-oss), those of the other tensor too, so at most twice as much."""
    layouts = shardings(folder, Mesh(np.array(jax.devices()[:DEVICES]), ("x",)), choose)
    count.clear()
    kept = load_one_device(monkeypatch, folder, layouts, 2)
    read = sum(count) - header(folder)
    assert kept < 0.6 * size(folder)
    assert kept <= read <= (2 * kept if folder.name == "gpt_oss" else kept)


def test_what_several_devices_of_a_process_hold_is_read_once(folder: Path, count: list[int]):
    mesh = Mesh(np.array(jax.devices()[:DEVICES]).reshape(2, 2), ("x", "y"))
    layouts = shardings(folder, mesh, min)
    count.clear()
    parts = get_params(jt.load_pretrained(folder, shardings=layouts))
    read = sum(count) - header(folder)
    assert size(folder) <= read <= size(folder) * (2 if folder.name == "gpt_oss" else 1)
    for path, array in get_params(jt.load_pretrained(folder)).items():
        assert np.asarray(parts[path]).tobytes() == np.asarray(array).tobytes(), path


def test_one_process_verifies_and_those_of_a_mesh_on_demand(tmp_path: Path):
    save("llama", tmp_path / "hf")
    convert(tmp_path / "hf", tmp_path / "ours")
    layouts = shardings(tmp_path / "ours", Mesh(np.array(jax.devices()[:2]), ("x",)), min)
    damaged = bytearray((tmp_path / "ours" / "model.safetensors").read_bytes())
    damaged[-4] ^= 1
    (tmp_path / "ours" / "model.safetensors").write_bytes(damaged)
    jt.load_pretrained(tmp_path / "ours", shardings=layouts)
    jt.load_pretrained(tmp_path / "ours", verify=False)
    for options in ({}, {"shardings": layouts, "verify": True}):
        with pytest.raises(WeightsError, match=r"does not match model\.sha256"):
            jt.load_pretrained(tmp_path / "ours", **options)


LOAD = """
import io, json, sys
from pathlib import Path
import jax
jax.config.update("jax_num_cpu_devices", 2)
port, index, folder, out = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]), Path(sys.argv[4])
jax.distributed.initialize(f"127.0.0.1:{port}", 2, index)
import numpy as np
from flax import nnx
from jax.sharding import NamedSharding, PartitionSpec
from jax_transformer import config
from jax_transformer.convert.pretrained import load_pretrained, open_pretrained, structure
from jax_transformer.nn.params import get_params
from jax_transformer.sharding.mesh import build_mesh
from jax_transformer.sharding.rules import partition_spec

def read_chars():
    return int(Path("/proc/self/io").read_text().split()[1])

mesh = build_mesh(config.Mesh(data=1, fsdp=4, tensor=1))
specs = structure(open_pretrained(folder, verify=False)[0])
layouts = {path: NamedSharding(mesh, partition_spec(path, spec, mesh)) for path, spec in specs.items()}
before = read_chars()
model = load_pretrained(folder, shardings=layouts)
read = read_chars() - before
shards = [{str(s.index): s.data for s in a.addressable_shards}.values() for a in get_params(model).values()]
kept = sum(part.nbytes for parts in shards for part in parts)
graph, state = nnx.split(model)
whole = NamedSharding(mesh, PartitionSpec())
forward = jax.jit(lambda state, tokens: nnx.merge(graph, state)(tokens)[0], out_shardings=whole)
logits = forward(state, np.load(out / "tokens.npy"))
np.save(out / f"{index}.npy", np.asarray(logits.addressable_data(0)))
print(json.dumps({"read": read, "kept": kept}))
"""


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/io").exists(), reason="counts bytes by /proc")
@pytest.mark.parametrize("name", ["gpt2", "exchange"])
def test_two_processes_read_half_each_and_compute_the_same(name: str, tmp_path: Path):
    folder = tmp_path / "hf"
    transformers.GPT2LMHeadModel(transformers.GPT2Config(n_embd=256, n_layer=2, n_head=4, vocab_size=512)).save_pretrained(
        folder
    )
    if name == "exchange":
        convert(folder, tmp_path / "ours")
        folder = tmp_path / "ours"
    tokens = np.random.default_rng(0).integers(0, 512, (2, 9))
    np.save(tmp_path / "tokens.npy", tokens)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-c", LOAD, str(port)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    started = [
        subprocess.Popen([*command, str(index), str(folder), str(tmp_path)], env=environment, **pipes) for index in range(2)
    ]
    wanted = np.asarray(jt.load_pretrained(folder)(tokens)[0])
    for index, process in enumerate(started):
        output, errors = process.communicate(timeout=240)
        assert process.returncode == 0, errors
        figures = json.loads(output.splitlines()[-1])
        # Beside the tensors: the header, config.json, and what Python itself opens.
        assert figures["kept"] <= figures["read"] <= figures["kept"] + 2**16
        assert figures["read"] < 0.55 * size(folder)
        assert relative_error(np.load(tmp_path / f"{index}.npy"), wanted) < FLOAT32_MODEL
