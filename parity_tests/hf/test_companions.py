"""Which files travel with weights, and which an export may replace."""

import ast
from pathlib import Path

import pytest

from jax_transformer.config.errors import WeightsError
from jax_transformer.convert.hf import FAMILY, companions
from jax_transformer.convert.hf.files import COMPANIONS
from parity_tests.convert.folders import write
from parity_tests.hf.checkpoints import transformers

KIN = {"mbart50", "nllb", "barthez", "bert_japanese", "phobert", "bertweet", "herbert"}
"""Folders of transformers with further tokenizers of families of ours."""

NAMED_ELSEWHERE = {"tekken.json", "tokenizer.model.v3", "tiktoken.model", "dict.txt", "chat_template.jinja"}
NAMED_ELSEWHERE |= {"additional_chat_templates/tools.jinja", "additional_chat_templates/rag.jinja"}
"""Of Mistral, Llama 3, BARTpho, and chat templates."""


def tokenizer_files(family: str) -> set[str]:
    """What the tokenizers of a family open; read, not imported, for some need other packages."""
    found: set[str] = set()
    for module in (Path(transformers.__file__).parent / "models" / family).glob("tokenization_*.py"):
        for node in ast.parse(module.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "VOCAB_FILES_NAMES":
                assert isinstance(node.value, ast.Dict)
                found |= {value.value for value in node.value.values if isinstance(value, ast.Constant)}
    return found


def test_the_files_of_every_tokenizer_travel(tmp_path: Path):
    names = set().union(*map(tokenizer_files, {*FAMILY, *KIN}))
    assert {"source.spm", "target_vocab.json", "sentencepiece.bpe.model", "bpe.codes", "spiece.model"} <= names
    for name in names | NAMED_ELSEWHERE:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())
    (tmp_path / "train.py").touch()
    (tmp_path / "tokenizer.model.bak").touch()
    assert companions(tmp_path) == {name: name.encode() for name in names | NAMED_ELSEWHERE}


def test_an_export_replaces_what_travels_and_nothing_else(tmp_path: Path):
    files = {pattern.replace("*", "3"): b"{}" for pattern in COMPANIONS}
    write(tmp_path / "model", files=files)
    write(tmp_path / "model", files=files, overwrite=True)
    assert (tmp_path / "model" / "additional_chat_templates" / "3.jinja").read_bytes() == b"{}"
    (tmp_path / "model" / "additional_chat_templates" / "thesis.tex").touch()
    with pytest.raises(WeightsError, match=r"more than weights: \['additional_chat_templates/thesis\.tex'\]"):
        write(tmp_path / "model", overwrite=True)
