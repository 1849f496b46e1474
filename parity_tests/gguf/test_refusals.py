"""A GGUF file is not trusted: what is wrong with it is named, and nothing is allocated by what it says."""

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jax_transformer.config.errors import ConfigError, WeightsError
from jax_transformer.convert.gguf import is_gguf, open_gguf
from jax_transformer.convert.gguf.file import read_gguf
from jax_transformer.convert.pretrained import load_pretrained
from parity_tests.convert.folders import run_python
from parity_tests.gguf.files import F32, Tensor, metadata_of, pack, plain, tensors_of, text, value
from parity_tests.hf.checkpoints import save

ONE = {"a.weight": plain(np.arange(8, dtype=np.float32).reshape(2, 4)), "b.weight": plain(np.ones(3, np.float32))}
META = {"general.architecture": "llama"}
GOOD = pack(META, ONE)


def header(num_tensors: int = 0, num_keys: int = 0, rest: bytes = b"", version: int = 3) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", version, num_tensors, num_keys) + rest


def placed(name: str = "a", dims: tuple[int, ...] = (4,), kind: int = F32, offset: int = 0) -> bytes:
    return text(name) + struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims, kind, offset)


HUGE = 2**62
HOSTILE = {
    "empty": (b"", "its header goes on for 4 bytes where 0 are left"),
    "other file": (b"PK\3\4" + b"\0" * 64, "does not begin with the letters GGUF"),
    "old version": (header(version=1), "GGUF version 1; wanted one of"),
    "big-endian": (header(version=3 << 24), "a big-endian file"),
    "tensor count": (header(num_tensors=HUGE), f"{HUGE} tensors; wanted at most 65536"),
    "key count": (header(num_keys=HUGE), f"{HUGE} keys; wanted at most 4096"),
    "long text": (
        header(num_keys=1, rest=struct.pack("<Q", HUGE)),
        f"goes on for {HUGE} bytes where 0 are left: it",
    ),
    "long array": (header(0, 1, text("k") + struct.pack("<IIQ", 9, 4, HUGE)), f"an array of {HUGE} items"),
    "long array of texts": (header(0, 1, text("k") + struct.pack("<IIQ", 9, 8, 10**6)), "it is truncated"),
    "nested array": (header(0, 1, text("k") + struct.pack("<IIQ", 9, 9, 1)), "values of type number 9 are not read"),
    "unknown value": (header(0, 1, text("k") + struct.pack("<I", 13)), "values of type number 13"),
    "key twice": (header(0, 2, 2 * (text("k") + value(1))), "key 'k' appears twice"),
    "bad text": (header(0, 1, struct.pack("<Q", 2) + b"\xff\xfe"), "a text is not UTF-8"),
    "control character": (header(0, 1, text("a\x1b[2J") + value(1)), "cannot be the name of a key"),
    "tensor twice": (header(2, 0, 2 * placed()), "tensor 'a' appears twice"),
    "no dims": (header(1, 0, placed(dims=())), "has 0 dims"),
    "many dims": (header(1, 0, placed(dims=(1,) * 5)), "has 5 dims"),
    "empty dim": (header(1, 0, placed(dims=(4, 0))), "are not those of a real tensor"),
    "overflowing dims": (header(1, 0, placed(dims=(HUGE, HUGE))), "are not those of a real tensor"),
    "unknown type": (header(1, 0, placed(kind=99)), "type number 99 is unknown"),
    "broken blocks": (header(1, 0, placed(dims=(33,), kind=8)), "rows of 33 are not whole blocks of 32"),
    "outside": (header(1, 0, placed(dims=(2**40,))), "it is truncated"),
    "offset outside": (header(1, 0, placed(offset=HUGE)), "starts at byte"),
    "overlap": (header(2, 0, placed() + placed("b")) + b"\0" * 256, "tensor 'b' starts at byte"),
    "gap": (header(1, 0, placed(offset=64)) + b"\0" * 256, "tensor 'a' starts at byte"),
    "trailing": (GOOD + b"\0" * 64, "bytes after its last tensor"),
    "alignment zero": (pack(META | {"general.alignment": 0}, ONE), "general.alignment 0 is no power of two"),
    "alignment text": (pack(META | {"general.alignment": "32"}, ONE), "general.alignment '32' is no power of two"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_damaged_header_is_refused_with_its_fault(case: str, tmp_path: Path):
    content, wanted = HOSTILE[case]
    (tmp_path / "x.gguf").write_bytes(content)
    with pytest.raises(WeightsError) as caught:
        read_gguf(tmp_path / "x.gguf")
    assert wanted in str(caught.value)
    assert "x.gguf" in str(caught.value)


def test_every_truncation_and_every_changed_byte_is_refused_or_read(tmp_path: Path):
    """Nothing but WeightsError comes out of a damaged header."""
    path = tmp_path / "x.gguf"
    end = GOOD.index(np.arange(8, dtype=np.float32).tobytes())
    for length in range(len(GOOD)):
        path.write_bytes(GOOD[:length])
        with pytest.raises(WeightsError):
            read_gguf(path)
    for place in range(end):
        for bits in (0x01, 0x80, 0xFF):
            path.write_bytes(GOOD[:place] + bytes([GOOD[place] ^ bits]) + GOOD[place + 1 :])
            try:
                read_gguf(path)
            except WeightsError:
                continue


LIMITED = """
import resource, sys
from pathlib import Path
from jax_transformer.convert.gguf.file import read_gguf
from jax_transformer.config.errors import WeightsError
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
before = peak()
try:
    read_gguf(Path(sys.argv[1]))
except WeightsError as error:
    print((peak() - before) // 1024, error)
"""


def test_a_header_that_promises_much_takes_little_memory(tmp_path: Path):
    """A sparse file of a terabyte makes every count look possible."""
    path = tmp_path / "x.gguf"
    path.write_bytes(header(0, 1, text("k") + struct.pack("<IIQ", 9, 8, 2**22)))
    with path.open("r+b") as stream:
        stream.truncate(2**40)
    process = run_python(LIMITED, path, stdout=-1, text=True)
    megabytes, _, message = process.communicate()[0].partition(" ")
    assert int(megabytes) < 400
    assert "bytes after its last tensor" in message


def altered(change: Callable[[dict[str, Any], dict[str, Tensor]], None], folder: Path) -> Path:
    """A model's file after ``change``."""
    theirs = save("llama", folder / "hf")
    metadata, tensors = metadata_of(theirs.config, "llama"), tensors_of(folder / "hf", "llama", (4, 2))
    change(metadata, tensors)
    (folder / "x.gguf").write_bytes(pack(metadata, tensors))
    return folder / "x.gguf"


MISFITS: dict[str, tuple[Callable[[dict[str, Any], dict[str, Tensor]], Any], str]] = {
    "architecture": (lambda m, t: m.update({"general.architecture": "mamba"}), "general.architecture 'mamba'"),
    "list for it": (lambda m, t: m.update({"general.architecture": ["llama"]}), "general.architecture ['llama']"),
    "adapter": (lambda m, t: m.update({"general.type": "adapter"}), "of type 'adapter'"),
    "split": (lambda m, t: m.update({"split.count": 3}), "is one of 3 parts"),
    "unknown key": (lambda m, t: m.update({"llama.logit_scale": 2.0}), "'llama.logit_scale': 2.0}: these keys may change"),
    "missing key": (lambda m, t: m.pop("llama.block_count"), "key 'llama.block_count' is missing"),
    "experts": (lambda m, t: m.update({"llama.expert_count": 8}), "key 'llama.expert_used_count' is missing"),
    "part of a head": (lambda m, t: m.update({"llama.rope.dimension_count": 4}), "llama.rope.dimension_count is 4"),
    "scaling": (lambda m, t: m.update({"llama.rope.scaling.type": "yarn"}), "llama.rope.scaling.type is 'yarn'"),
    "many layers": (lambda m, t: m.update({"llama.block_count": 2**31}), "layers"),
    "layers as text": (lambda m, t: m.update({"llama.block_count": "3"}), "llama.block_count is '3'"),
    "heads as text": (lambda m, t: m.update({"llama.attention.head_count": "4"}), "llama.attention.head_count is '4'"),
    "no table": (lambda m, t: t.pop("token_embd.weight"), "has no tensor token_embd.weight"),
    "missing tensor": (lambda m, t: t.pop("blk.1.attn_k.weight"), "missing: model.layers.1.self_attn.k_proj.weight"),
    "tensor too many": (lambda m, t: t.update({"blk.0.ffn_gate_exps.weight": t["output_norm.weight"]}), "unexpected: blk.0"),
    "other shape": (lambda m, t: t.update({"blk.0.attn_q.weight": t["blk.0.ffn_up.weight"]}), "shape: model.layers.0"),
    "other vocabulary": (lambda m, t: m.update({"llama.vocab_size": 44}), "the 43 rows of token_embd.weight"),
    "bad divisors": (lambda m, t: t.update({"rope_freqs.weight": t["token_embd.weight"]}), "rope_freqs.weight is [43, 24]"),
    "few divisors": (lambda m, t: t.update({"rope_freqs.weight": t["output_norm.weight"]}), "factors"),
}  # fmt: skip


@pytest.mark.parametrize("case", MISFITS)
def test_a_file_that_is_no_model_that_we_know_is_refused_by_name(case: str, tmp_path: Path):
    change, wanted = MISFITS[case]
    with pytest.raises((ConfigError, WeightsError)) as caught:
        load_pretrained(altered(change, tmp_path))
    assert wanted in str(caught.value)


def test_tensors_of_many_experts_are_not_counted_out(tmp_path: Path):
    """A small file that names four thousand experts in each of many tensors."""
    theirs = save("mixtral", tmp_path / "hf")
    metadata = metadata_of(theirs.config, "llama") | {"llama.expert_count": 5, "llama.expert_used_count": 2}
    many = {f"blk.{layer}.ffn_up_exps.weight": (F32, (4096, 1, 1), bytes(4 * 4096)) for layer in range(65)}
    (tmp_path / "x.gguf").write_bytes(pack(metadata, {"token_embd.weight": (F32, (43, 24), bytes(43 * 24 * 4))} | many))
    with pytest.raises(WeightsError, match="stands for more than 262144 tensors, one for each expert"):
        load_pretrained(tmp_path / "x.gguf")


def test_other_files_are_not_taken_for_gguf(tmp_path: Path):
    (tmp_path / "x.gguf").write_bytes(b"GGU")
    assert not is_gguf(tmp_path / "x.gguf")
    assert not is_gguf(tmp_path)
    assert not is_gguf(tmp_path / "none")
    with pytest.raises(WeightsError, match="cannot be read: No such file"):
        open_gguf(tmp_path / "none", lambda _: {})
