"""One safetensors file: the real library agrees in both directions, and nothing hostile gets past the header."""

import json
import os
import string

import ml_dtypes
import numpy as np
import pytest
import safetensors
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st

from jax_transformer.config.errors import WeightsError
from jax_transformer.convert.hub import open_weights, write_weights
from jax_transformer.convert.safetensors_file import DTYPES

SHAPES = st.lists(st.integers(0, 4), max_size=3).map(tuple)
NAMES = st.text(string.ascii_letters + string.digits + "._", min_size=1, max_size=12)
LIBRARY_DTYPES = {name: dtype for name, dtype in DTYPES.items() if name != "BF16"}  # numpy's own; its save has no bfloat16


def random_array(shape, dtype, seed=0):
    rng = np.random.default_rng(seed)
    if dtype == np.bool_:
        return rng.integers(0, 2, shape).astype(bool)
    return rng.integers(0, 256, (*shape, dtype.itemsize), np.uint8).view(dtype).reshape(shape)


def specs_of(tensors):
    return {name: (array.shape, array.dtype) for name, array in tensors.items()}


def same_bits(a, b):
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


@settings(max_examples=60)
@given(st.dictionaries(NAMES, st.tuples(SHAPES, st.sampled_from(sorted(LIBRARY_DTYPES))), max_size=6))
def test_the_file_is_the_one_the_library_writes(tmp_path_factory, drawn):
    tensors = {name: random_array(shape, DTYPES[kind], len(name)) for name, (shape, kind) in drawn.items()}
    folder = tmp_path_factory.mktemp("weights") / "model"
    write_weights(folder, specs_of(tensors), reversed(tensors.items()))
    assert (folder / "model.safetensors").read_bytes() == safetensors.numpy.save(tensors, metadata={"format": "pt"})


@settings(max_examples=40)
@given(st.dictionaries(NAMES, st.tuples(SHAPES, st.sampled_from(sorted(DTYPES))), max_size=6))
def test_round_trip_is_bit_exact(tmp_path_factory, drawn):
    tensors = {name: random_array(shape, DTYPES[kind], len(name)) for name, (shape, kind) in drawn.items()}
    folder = tmp_path_factory.mktemp("weights") / "model"
    write_weights(folder, specs_of(tensors), tensors.items())
    weights = open_weights(folder)
    assert set(weights) == set(tensors)
    assert all(same_bits(weights.read(name), array) for name, array in tensors.items())
    rows = slice(1, 3)
    assert all(same_bits(weights.read(name, rows), array[rows]) for name, array in tensors.items() if array.ndim)


def test_a_file_of_the_library_is_read(tmp_path):
    tensors = {name: random_array((3, 5), dtype) for name, dtype in LIBRARY_DTYPES.items()}
    safetensors.numpy.save_file(tensors, tmp_path / "model.safetensors", metadata={"by": "someone else"})
    weights = open_weights(tmp_path)
    assert all(same_bits(weights.read(name), array) for name, array in tensors.items())


def test_the_library_reads_our_bfloat16(tmp_path):
    torch = pytest.importorskip("torch")
    array = random_array((3, 5), np.dtype(ml_dtypes.bfloat16))
    write_weights(tmp_path / "model", {"w": (array.shape, array.dtype)}, [("w", array)])
    with safetensors.safe_open(tmp_path / "model" / "model.safetensors", framework="pt") as file:
        assert file.metadata() == {"format": "pt"}
        assert file.get_tensor("w").view(torch.int16).numpy().tobytes() == array.tobytes()


def file_bytes(header, data=b"", length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + data


def entry(dtype="F32", shape=(2,), begin=0, end=8):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}


EIGHT = b"\0" * 8
HOSTILE = {
    "empty file": b"",
    "seven bytes": b"\0" * 7,
    "header length 0": file_bytes(b"", EIGHT),
    "header longer than the file": file_bytes({"a": entry()}, EIGHT, length=10_000),
    "header of 2^63 bytes": file_bytes({"a": entry()}, EIGHT, length=2**63),
    "not JSON": file_bytes(b"{'a': 1}"),
    "not UTF-8": file_bytes(b'{"\xff\xfe": 1}'),
    "JSON list": file_bytes(b"[1, 2, 3]"),
    "a million brackets": file_bytes(b"[" * 1_000_000),
    "a number of 10^5 digits": file_bytes(b'{"a": ' + b"9" * 100_000 + b"}"),
    "duplicate tensor": file_bytes(b'{"a": %s, "a": %s}' % ((json.dumps(entry()).encode(),) * 2), EIGHT),
    "duplicate key in an entry": file_bytes(b'{"a": {"dtype":"F32","dtype":"I32","shape":[2],"data_offsets":[0,8]}}', EIGHT),
    "unknown dtype": file_bytes({"a": entry("F33")}, EIGHT),
    "dtype is a list": file_bytes({"a": entry(["F32"])}, EIGHT),
    "negative size": file_bytes({"a": entry(shape=(-2,))}, EIGHT),
    "two negative sizes": file_bytes({"a": entry(shape=(-1, -2))}, EIGHT),
    "size is a bool": file_bytes({"a": entry(shape=(True, 2))}, EIGHT),
    "size is a float": file_bytes({"a": entry(shape=(2.0,))}, EIGHT),
    "2^64 elements": file_bytes({"a": entry(shape=(2**32, 2**32))}, EIGHT),
    "no elements, enormous": file_bytes({"a": entry(shape=(0, 2**62, 2**62), end=0)}),
    "100 dims": file_bytes({"a": entry(shape=(1,) * 99 + (2,))}, EIGHT),
    "shape does not fill its bytes": file_bytes({"a": entry(shape=(1,))}, EIGHT),
    "offsets swapped": file_bytes({"a": entry(begin=8, end=0)}, EIGHT),
    "offset out of range": file_bytes({"a": entry(begin=1000, end=1008)}, EIGHT),
    "offset is negative": file_bytes({"a": entry(begin=-8, end=0)}, EIGHT),
    "three offsets": file_bytes({"a": entry() | {"data_offsets": [0, 8, 16]}}, EIGHT),
    "overlap": file_bytes({"a": entry(), "b": entry(begin=4, end=12)}, EIGHT + b"1234"),
    "overlap, the right size in all": file_bytes({"a": entry(), "b": entry(begin=4, end=12)}, EIGHT * 2),
    "offset ends elsewhere": file_bytes({"a": entry(end=1000)}, EIGHT),
    "the same bytes twice": file_bytes({"a": entry(), "b": entry()}, EIGHT),
    "gap": file_bytes({"a": entry(), "b": entry(begin=16, end=24)}, EIGHT * 3),
    "trailing bytes": file_bytes({"a": entry()}, EIGHT + b"!"),
    "truncated data": file_bytes({"a": entry()}, EIGHT[:-1]),
    "missing field": file_bytes({"a": {"dtype": "F32", "shape": [2]}}, EIGHT),
    "extra field": file_bytes({"a": entry() | {"strides": [4]}}, EIGHT),
    "entry is a list": file_bytes({"a": [1]}, EIGHT),
    "empty name": file_bytes({"": entry()}, EIGHT),
    "name with NUL": file_bytes({"a\0b": entry()}, EIGHT),
    "name with a lone surrogate": file_bytes(b'{"\\ud800": %s}' % json.dumps(entry()).encode(), EIGHT),
    "metadata is no map": file_bytes({"__metadata__": [1], "a": entry()}, EIGHT),
    "metadata of numbers": file_bytes({"__metadata__": {"a": 1}, "a": entry()}, EIGHT),
}


@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_files_are_refused(tmp_path, content):
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=r"model\.safetensors"):
        open_weights(tmp_path)


def test_things_that_are_no_file_are_refused(tmp_path):
    os.mkfifo(tmp_path / "fifo.safetensors")
    (tmp_path / "folder").mkdir()
    for name in ("fifo.safetensors", "folder", "missing.safetensors"):
        with pytest.raises(WeightsError, match=name):
            open_weights(tmp_path / name)


def test_an_untouched_file_is_not_refused(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(file_bytes({"a": entry()}, EIGHT))
    assert open_weights(tmp_path)["a"].shape == (2,)


def test_a_bool_tensor_holds_bools(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(file_bytes({"a": entry("BOOL", end=2)}, b"\0\2"))
    with pytest.raises(WeightsError, match="other than 0 and 1"):
        open_weights(tmp_path).read("a")


def test_a_file_cut_after_opening_is_refused(tmp_path):
    path = tmp_path / "model.safetensors"
    path.write_bytes(file_bytes({"a": entry()}, EIGHT))
    weights = open_weights(tmp_path)
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(WeightsError, match="ends 3 bytes early"):
        weights.read("a")


def test_every_truncation_is_refused(tmp_path):
    path = tmp_path / "model.safetensors"
    whole = safetensors.numpy.save({"a": np.ones((2, 3)), "b": np.ones(4, np.int8)})
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(WeightsError):
            open_weights(path)


def test_mutated_headers_are_refused_or_harmless(tmp_path):
    """Whatever a mutation does, the answer is WeightsError, or tensors that lie inside the file."""
    rng = np.random.default_rng(0)
    tensors = {"a.weight": np.arange(6, dtype=np.float32), "b": np.arange(4, dtype=np.int8).reshape(2, 2)}
    whole = np.frombuffer(safetensors.numpy.save(tensors), np.uint8)
    path = tmp_path / "model.safetensors"
    refused = 0
    for _ in range(600):
        mutant = whole.copy()
        header = 8 + int(whole[:8].view(np.uint64)[0])
        for at in rng.integers(0, header, rng.integers(1, 4)):
            mutant[at] = rng.choice(np.frombuffer(b'0123456789-[]{}",:FIU\0\xff ', np.uint8))
        path.write_bytes(mutant.tobytes())
        try:
            weights = open_weights(path)
            assert sum(weights.read(name).nbytes for name in weights) == len(whole) - header
        except WeightsError:
            refused += 1
    assert 400 < refused < 600


@settings(max_examples=150)
@given(st.binary(max_size=200))
def test_random_bytes_are_refused(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("weights") / "model.safetensors"
    path.write_bytes(content)
    with pytest.raises(WeightsError):
        open_weights(path)
