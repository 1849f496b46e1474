"""Reading a folder of weights: nothing outside it is read, and damage is noticed."""

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from jax_transformer.config.errors import WeightsError
from jax_transformer.convert.hub import open_weights, write_weights
from parity_tests.convert.folders import INDEX, SPECS, TENSORS, assert_holds, contents, write


@pytest.fixture
def sharded(tmp_path):
    write(tmp_path / "model", max_shard_bytes=300)
    return tmp_path / "model"


def test_shards_hold_what_one_file_holds(sharded, tmp_path):
    write(tmp_path / "single")
    assert len(list(sharded.glob("model-*-of-00006.safetensors"))) == 6
    assert json.loads((sharded / INDEX).read_text())["metadata"]["total_size"] == 12 * 128
    assert_holds(sharded)
    assert_holds(tmp_path / "single")


def test_transformers_reads_our_shards(sharded):
    find = pytest.importorskip("transformers.utils.hub").get_checkpoint_shard_files
    load = pytest.importorskip("transformers.modeling_utils").load_state_dict
    files, _ = find(str(sharded), str(sharded / INDEX))
    loaded = {name: tensor.numpy() for file in files for name, tensor in load(file).items()}
    assert loaded.keys() == TENSORS.keys()
    assert all(np.array_equal(loaded[name], array) for name, array in TENSORS.items())


def test_equal_tensors_give_equal_bytes_in_any_order(sharded, tmp_path):
    write_weights(tmp_path / "again", dict(reversed(SPECS.items())), reversed(TENSORS.items()), max_shard_bytes=300)
    assert contents(tmp_path / "again") == contents(sharded)


NAMES = {
    "parent": "../outside.safetensors",
    "deep parent": "shards/../../outside.safetensors",
    "absolute": "/tmp/outside.safetensors",
    "subfolder": "shards/model.safetensors",
    "backslash": "..\\outside.safetensors",
    "NUL": "model\0.safetensors",
    "newline": "model.safetensors\n",
    "hidden": ".model.safetensors",
    "another type": "pytorch_model.bin",
    "empty": "",
    "dots": "..",
    "a number": 3,
    "a list": ["model-00001-of-00006.safetensors"],
    "very long": "a" * 300 + ".safetensors",
}


@pytest.mark.parametrize("shard", NAMES.values(), ids=NAMES.keys())
def test_an_index_names_plain_files_only(sharded, shard):
    write(sharded.parent / "other")
    shutil.copy(sharded.parent / "other" / "model.safetensors", sharded.parent / "outside.safetensors")
    (sharded / INDEX).write_text(json.dumps({"weight_map": {"layers.0.weight": shard}}))
    with pytest.raises(WeightsError, match="plain name"):
        open_weights(sharded)


@pytest.mark.parametrize("name", ["model-00002-of-00006.safetensors", INDEX, "model.sha256"])
def test_a_link_out_of_the_folder_is_refused(sharded, name):
    (sharded / name).rename(sharded.parent / name)
    (sharded / name).symlink_to(sharded.parent / name)
    with pytest.raises(WeightsError, match="outside the folder"):
        open_weights(sharded)


def test_a_link_within_the_folder_is_followed(sharded):
    (sharded / "model-00002-of-00006.safetensors").rename(sharded / "blob")
    (sharded / "model-00002-of-00006.safetensors").symlink_to("blob")
    assert_holds(sharded)


def cached(sharded, repository="models--x--y", snapshots="snapshots", blobs="blobs"):
    """The layout of the hub's cache: every file of a snapshot is a link to a blob."""
    snapshot, blob = (sharded.parent / repository / name for name in (f"{snapshots}/0a1b", blobs))
    snapshot.mkdir(parents=True)
    blob.mkdir(parents=True)
    for number, file in enumerate(sorted(sharded.iterdir())):
        shutil.copy(file, blob / f"sha{number}")
        (snapshot / file.name).symlink_to(Path("../..", blobs, f"sha{number}"))
    return snapshot


def test_a_snapshot_of_the_hub_is_followed_to_its_blobs(sharded):
    snapshot = cached(sharded)
    assert all(file.is_symlink() for file in snapshot.iterdir())
    assert_holds(snapshot)
    (sharded.parent / "link").symlink_to(snapshot)
    assert_holds(sharded.parent / "link")


@pytest.mark.parametrize(
    "names", [("x--y", "snapshots", "blobs"), ("models--x", "shots", "blobs"), ("models--x", "snapshots", "secrets")]
)
def test_any_other_layout_of_links_is_refused(sharded, names):
    with pytest.raises(WeightsError, match="outside the folder"):
        open_weights(cached(sharded, *names))


def test_blobs_are_files_of_their_own(sharded):
    """Neither a blob nor the folder of blobs may be a link to elsewhere, nor may a snapshot link into another repository."""
    snapshot = cached(sharded)
    other = cached(sharded, "models--other")
    blob = (snapshot / INDEX).resolve()
    blob.rename(sharded.parent / "outside")
    blob.symlink_to(sharded.parent / "outside")
    with pytest.raises(WeightsError, match="outside the folder"):
        open_weights(snapshot)
    (snapshot / INDEX).unlink()
    (snapshot / INDEX).symlink_to((other / INDEX).resolve())
    with pytest.raises(WeightsError, match="outside the folder"):
        open_weights(snapshot)
    (other.parents[1] / "blobs").rename(sharded.parent / "moved")
    (other.parents[1] / "blobs").symlink_to(sharded.parent / "moved")
    with pytest.raises(WeightsError, match="outside the folder"):
        open_weights(other)


def edit_index(folder, change):
    index = json.loads((folder / INDEX).read_text())
    change(index["weight_map"])
    (folder / INDEX).write_text(json.dumps(index))


@pytest.mark.parametrize(
    "change",
    [
        lambda names: names.pop("layers.3.weight"),
        lambda names: names.update({"ghost": "model-00001-of-00006.safetensors"}),
        lambda names: names.update({"layers.3.weight": names["layers.11.weight"]}),
        lambda names: names.update({"layers.3.weight": "model-00099-of-00006.safetensors"}),
        lambda names: names.update({f"x{i}": f"model-{i}.safetensors" for i in range(10_000)}),
        lambda names: names.clear(),
    ],
    ids=["unlisted", "ghost", "wrong shard", "missing shard", "10 000 shards", "empty"],
)
def test_an_index_describes_its_shards(sharded, change):
    edit_index(sharded, change)
    with pytest.raises(WeightsError):
        open_weights(sharded, verify=False)


@pytest.mark.parametrize(
    "text", [b"", b"[]", b"{", b'{"weight_map": [1]}', b'{"weight_map": {"a": "b", "a": "c"}}', b"[" * 10**6]
)
def test_an_index_is_an_object_with_unique_keys(sharded, text):
    (sharded / INDEX).write_bytes(text)
    with pytest.raises(WeightsError, match="index"):
        open_weights(sharded)


def test_a_tensor_in_two_shards_is_refused(sharded):
    shutil.copy(sharded / "model-00001-of-00006.safetensors", sharded / "copy.safetensors")
    edit_index(sharded, lambda names: names.update({"extra": "copy.safetensors"}))
    with pytest.raises(WeightsError, match="two shards"):
        open_weights(sharded)


def test_every_tensor_that_an_index_gets_wrong_is_listed(tmp_path):
    many = {f"layers.{i}.weight": np.zeros(1, np.int8) for i in range(50)}
    write_weights(tmp_path / "m", {name: ((1,), np.dtype(np.int8)) for name in many}, many.items(), max_shard_bytes=25)
    shutil.copy(tmp_path / "m" / "model-00001-of-00002.safetensors", tmp_path / "m" / "copy.safetensors")
    index = json.loads((tmp_path / "m" / INDEX).read_text())["weight_map"]
    moved = {name: "model-00001-of-00002.safetensors" for name, shard in index.items() if "00002-of" in shard}
    ghosts = {f"ghost.{i}": "copy.safetensors" for i in range(30)}
    edit_index(tmp_path / "m", lambda names: names.update(moved | ghosts))
    with pytest.raises(WeightsError) as caught:
        open_weights(tmp_path / "m")
    lines = str(caught.value).splitlines()
    assert sum("in no shard: ghost." in line for line in lines) == 30
    assert sum("in two shards, copy.safetensors and model-00001" in line for line in lines) == 25
    assert len(lines) == 1 + 30 + 25 + len(moved)


def test_a_single_file_beside_an_index_is_ambiguous(sharded):
    shutil.copy(sharded / "model-00001-of-00006.safetensors", sharded / "model.safetensors")
    with pytest.raises(WeightsError, match="both"):
        open_weights(sharded)


def test_pickles_are_not_opened(tmp_path):
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x04cos\nsystem\n(S'touch pwned'\ntR.")
    with pytest.raises(WeightsError, match="pickles"):
        open_weights(tmp_path)
    with pytest.raises(WeightsError):
        open_weights(tmp_path / "pytorch_model.bin")


def test_every_flipped_bit_is_noticed(sharded):
    rng = np.random.default_rng(0)
    for _ in range(60):
        file = sharded / f"model-{rng.integers(1, 7):05}-of-00006.safetensors"
        whole = file.read_bytes()
        damaged = bytearray(whole)
        damaged[rng.integers(len(whole))] ^= 1 << int(rng.integers(8))
        file.write_bytes(damaged)
        with pytest.raises(WeightsError):
            open_weights(sharded)
        file.write_bytes(whole)
    assert_holds(sharded)


@pytest.mark.parametrize("text", ["", "nonsense", "0" * 64 + "  elsewhere.safetensors", "0" * 64 + "  ../model.safetensors"])
def test_a_checksum_file_covers_every_shard(sharded, text):
    (sharded / "model.sha256").write_text(text)
    with pytest.raises(WeightsError, match="cannot be checked"):
        open_weights(sharded)
    (sharded / "model.sha256").unlink()
    assert_holds(sharded)


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="needs sha256sum")
def test_sha256sum_reads_our_checksums(sharded):
    subprocess.run(["sha256sum", "--check", "--strict", "model.sha256"], cwd=sharded, check=True, capture_output=True)
