"""Pickled checkpoints: torch's safe reader opens what holds tensors and nothing else; the rest is refused and never run."""

import json
import os
import pickle
import shutil
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jax_transformer.config.errors import WeightsError
from jax_transformer.convert.hub import check_shapes, open_weights
from jax_transformer.convert.pickled import open_stored
from jax_transformer.convert.pretrained import convert
from parity_tests.hf.checkpoints import assert_same_tensors, save, torch
from parity_tests.structure.test_imports import TORCH, run

SINGLE, INDEX = "pytorch_model.bin", "pytorch_model.bin.index.json"
DTYPES = ["bool", "uint8", "int8", "int16", "int32", "int64", "float16", "bfloat16", "float32", "float64"]


def pickled(folder: Path, shards: int = 0, **options: Any) -> None:
    """Puts pickles in the place of a folder's safetensors: one, or some shards and their index."""
    from torch_reference.checkpoint import to_tensor

    state = OrderedDict((name, to_tensor(array)) for name, array in open_weights(folder).tensors())
    (folder / "model.safetensors").unlink()
    if not shards:
        torch.save(state, folder / SINGLE, **options)
        return
    files = {f"pytorch_model-{i + 1:05}-of-{shards:05}.bin": list(state)[i::shards] for i in range(shards)}
    for file, names in files.items():
        torch.save({name: state[name] for name in names}, folder / file, **options)
    weight_map = {name: file for file, names in files.items() for name in names}
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))


class Hostile:
    """Runs a command where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "float64"])
@pytest.mark.parametrize("shards", [0, 3])
def test_a_safe_pickle_is_converted_to_the_bytes_of_its_safetensors(tmp_path: Path, shards: int, dtype: str):
    save("gpt2", tmp_path / "hf", dtype=dtype)
    shutil.copytree(tmp_path / "hf", tmp_path / "old")
    pickled(tmp_path / "old", shards)
    for name in ("hf", "old"):
        convert(tmp_path / name, tmp_path / f"{name} converted")
    assert_same_tensors(tmp_path / "hf converted", tmp_path / "old converted")


def test_the_format_before_zip_files_is_read(tmp_path: Path):
    save("gpt2", tmp_path / "hf")
    wanted = dict(open_weights(tmp_path / "hf").tensors())
    pickled(tmp_path / "hf", _use_new_zipfile_serialization=False)
    weights = open_stored(tmp_path / "hf")
    assert weights.keys() == wanted.keys()
    assert all(weights.read(name).tobytes() == array.tobytes() for name, array in wanted.items())


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_and_every_view_is_read(tmp_path: Path, dtype: str):
    """Tied tensors, parts, transposed and repeated ones share a storage; what is read shares none."""
    from torch_reference.checkpoint import to_array

    base = torch.arange(24).remainder(7).reshape(4, 6).to(getattr(torch, dtype))
    state = {"base": base, "tied": base, "part": base[1:3, 2:], "turned": base.T, "wide": base[:1].expand(3, 6)}
    state |= {"one": base[0, 0], "none": base[:0]}
    torch.save(state, tmp_path / SINGLE)
    weights = open_stored(tmp_path)
    for name, tensor in state.items():
        wanted = to_array(tensor)
        assert (weights[name].shape, weights[name].dtype) == (wanted.shape, wanted.dtype), name
        assert weights.read(name).tobytes() == wanted.tobytes(), name
        if wanted.ndim:
            assert weights.read(name, slice(1, 3)).tobytes() == wanted[1:3].tobytes(), name
    weights.read("tied")[...] = 1
    assert weights.read("base").tobytes() == to_array(base).tobytes()


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("form", ["torch", "bare", "in a state"])
def test_a_hostile_pickle_is_refused_and_not_run(tmp_path: Path, form: str, protocol: int):
    save("llama", tmp_path / "hf")
    (tmp_path / "hf" / "model.safetensors").unlink()
    bomb = Hostile(tmp_path / "pwned")
    if form == "bare":
        (tmp_path / "hf" / SINGLE).write_bytes(pickle.dumps(bomb, protocol))
    else:
        state = {"model.norm.weight": torch.ones(3), "x": bomb} if form == "in a state" else bomb
        torch.save(state, tmp_path / "hf" / SINGLE, pickle_protocol=protocol)
    with pytest.raises(WeightsError, match=rf"{SINGLE}: a pickle that (.|\n)*convert them to safetensors") as caught:
        convert(tmp_path / "hf", tmp_path / "ours")
    assert "weights_only=False" not in str(caught.value)
    assert not (tmp_path / "pwned").exists()
    assert not (tmp_path / "ours").exists()
    if form == "bare":
        pickle.loads((tmp_path / "hf" / SINGLE).read_bytes())
        assert (tmp_path / "pwned").exists(), "the file was harmless"


BAD: dict[str, tuple[Any, str]] = {
    "list": ([torch.ones(2)], "holds a list, wanted tensors by name"),
    "number": ({"step": 3, "w": torch.ones(2)}, "'step': a int"),
    "nested": ({"state_dict": {"w": torch.ones(2)}}, "'state_dict': a dict"),
    "key": ({3: torch.ones(2)}, "3: cannot be a tensor name"),
    "control character": ({"a\x1b[31m": torch.ones(2)}, "cannot be a tensor name"),
    "sparse": ({"w": torch.eye(2).to_sparse()}, "'w': a tensor with layout torch.sparse_coo"),
    "meta": ({"w": torch.ones(2, device="meta")}, "on meta"),
    "float8": ({"w": torch.ones(2).to(torch.float8_e4m3fn)}, "'w': a tensor of torch.float8_e4m3fn"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_is_not_tensors_by_name_is_refused(tmp_path: Path, case: str):
    state, message = BAD[case]
    torch.save(state, tmp_path / SINGLE)
    with pytest.raises(WeightsError) as caught:
        open_stored(tmp_path)
    assert f"{tmp_path / SINGLE}: " in str(caught.value)
    assert message in str(caught.value)


def test_a_truncated_pickle_is_refused(tmp_path: Path):
    torch.save({"w": torch.ones(1000)}, tmp_path / SINGLE)
    whole = (tmp_path / SINGLE).read_bytes()
    for size in (0, 3, 100, len(whole) // 2, len(whole) - 1):
        (tmp_path / SINGLE).write_bytes(whole[:size])
        with pytest.raises(WeightsError, match=SINGLE):
            open_stored(tmp_path)


def test_an_index_of_pickles_stays_inside_the_folder_and_describes_them(tmp_path: Path):
    folder = tmp_path / "hf"
    save("gpt2", folder)
    pickled(folder, 2)
    (folder / "pytorch_model-00001-of-00002.bin").rename(tmp_path / "outside.bin")
    index = json.loads((folder / INDEX).read_text())
    for shard, message in (
        ("../outside.bin", "plain name of a .bin file"),
        ("pytorch_model-00002-of-00002.bin", "in no shard"),
    ):
        names = {name: shard if "00001" in file else file for name, file in index["weight_map"].items()}
        (folder / INDEX).write_text(json.dumps({"weight_map": names}))
        with pytest.raises(WeightsError, match=message):
            open_stored(folder)


def test_tensors_of_two_pickles_are_refused(tmp_path: Path):
    files = {f"{name}.bin": {"w": torch.ones(2), name: torch.ones(1)} for name in "ab"}
    for file, state in files.items():
        torch.save(state, tmp_path / file)
    (tmp_path / INDEX).write_text(json.dumps({"weight_map": {"w": "a.bin", "a": "a.bin", "b": "b.bin"}}))
    weights = open_stored(tmp_path)
    with pytest.raises(WeightsError, match=r"in two shards: w is in a\.bin and b\.bin"):
        check_shapes({"w": (2,), "a": (1,), "b": (1,)}, weights)
    with pytest.raises(WeightsError, match="in two shards"):
        weights.read("w")


def test_safetensors_go_first(tmp_path: Path):
    save("llama", tmp_path / "hf")
    (tmp_path / "hf" / SINGLE).write_bytes(b"no pickle at all")
    convert(tmp_path / "hf", tmp_path / "ours")


def test_without_torch_the_message_names_the_extra(tmp_path: Path):
    torch.save({"w": torch.ones(2)}, tmp_path / SINGLE)
    code = f"from jax_transformer.convert.pickled import open_stored\nopen_stored({str(tmp_path)!r})"
    done = run(code, (*TORCH, "jax"))
    assert "WeightsError" in done.stderr
    assert "torch is not installed: install it (the extra 'torch')" in done.stderr


def test_values_are_read_when_they_are_asked_for(tmp_path: Path):
    torch.save({"w": torch.ones(1000), "x": torch.zeros(3)}, tmp_path / SINGLE)
    weights = open_stored(tmp_path)
    content = bytearray((tmp_path / SINGLE).read_bytes())
    at = content.index(np.ones(1000, np.float32).tobytes())
    with (tmp_path / SINGLE).open("r+b") as file:
        file.seek(at)
        file.write(np.full(1, 7.0, np.float32).tobytes())
    assert weights.read("w", slice(0, 2)).tolist() == [7.0, 1.0]
