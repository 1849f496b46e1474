"""Files, presets and overrides: what is read, what is refused, and at which line."""

import errno
import math
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jax_transformer.config.errors import ConfigError
from jax_transformer.config.load import load_config
from jax_transformer.config.strict_yaml import dump_yaml, parse_value, parse_yaml

REFUSED_YAML = {
    "empty": ("", "1: got an empty file"),
    "only a comment": ("# nothing\n", "1: got an empty file"),
    "list": ("- a\n", "1: got a list"),
    "scalar": ("hello", "1: got a single value"),
    "duplicate key": ("kind: decoder\nd_model: 1\nd_model: 2\n", "3: d_model: key given twice"),
    "nested duplicate": ("stack:\n  num_layers: 1\n  num_layers: 1\n", "3: stack.num_layers: key given twice"),
    "anchor": ("a: &x 1\n", "1: anchors and aliases"),
    "alias": ("\na: *x\n", "2: anchors and aliases"),
    "bomb": ("a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n", "1: anchors and aliases"),
    "merge key": ("kind: decoder\n<<: {a: 1}\n", "2: <<: unknown field"),
    "object tag": ("a: !!python/object/apply:os.system [ls]\n", "1: tag"),
    "custom tag": ("a: !x 1\n", "1: tag"),
    "two documents": ("a: 1\n---\nb: 1\n", "2: a second document"),
    "list as key": ("? [a]\n: 1\n", "1: a key must be a plain name"),
    "unclosed": ("a: 1\nb: [1, 2\nc: 3\n", "3: not valid YAML"),
    "tab": ("a:\n\tb: 1\n", "2: not valid YAML"),
    "control character": ("a: 1\nb: \x07\n", "2: character U+0007"),
    "deep list": ("[" * 5000, "1: nested too deeply"),
    "deep mapping": ("a: " + "{a: " * 5000, "1: nested too deeply"),
    "a megabyte deep": ("[" * 1_000_000, "1: nested too deeply"),
    "too large": ("# " + "x" * 2_000_000, " is larger than 1048576 bytes"),
    "huge integer": ("a: " + "9" * 5000, "1: the whole number 999"),
    "line of a field": ("\n\nkind: decoder\nd_modle: 4\n", "4: d_modle: unknown field; did you mean 'd_model'?"),
}

REFUSED_JSON = {
    "empty": ("", "1: not valid JSON"),
    "list": ("[]", "1: got a list"),
    "comma": ('{\n"a": 1,\n}', "not valid JSON"),
    "duplicate key": ('{"a": {"b": 1, "b": 2}}', " key 'b' given twice"),
    "nan": ('{"a": NaN}', " NaN is not a number"),
    "deep": ('{"a":' * 100_000, " is nested too deeply"),
    "huge integer": ('{"a": ' + "9" * 5000 + "}", " the whole number 999"),
}


def refusal(path: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    return str(caught.value)


@pytest.mark.parametrize("case", REFUSED_YAML)
def test_hostile_yaml_is_refused_at_its_line(case: str, tmp_path: Path):
    text, wanted = REFUSED_YAML[case]
    path = tmp_path / "config.yaml"
    path.write_text(text)
    assert f"{path}:{wanted}" in refusal(path)


@pytest.mark.parametrize("case", REFUSED_JSON)
def test_hostile_json_is_refused(case: str, tmp_path: Path):
    text, wanted = REFUSED_JSON[case]
    path = tmp_path / "config.json"
    path.write_text(text)
    assert str(path) in refusal(path)
    assert wanted in refusal(path)


def test_bytes_that_are_not_utf8_are_refused_at_their_line(tmp_path: Path):
    path = tmp_path / "config.yaml"
    path.write_bytes(b"a: 1\nb: \xff\n")
    assert refusal(path) == f"{path}:2: byte 0xff is not UTF-8; save the file as UTF-8"


def test_a_file_that_cannot_be_read_is_refused_with_the_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "config.yaml"
    path.write_text("kind: decoder\n")

    def denied(self: Path, mode: str) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(Path, "open", denied)  # a mode of 000 would not stop root
    assert refusal(path) == f"{path}: cannot be read: Permission denied"


def test_a_file_may_begin_with_a_byte_order_mark(tmp_path: Path):
    path = tmp_path / "config.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + dump_yaml(load_config("mini_tiny").model_dump(mode="json")).encode())
    assert load_config(path) == load_config("mini_tiny")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 1e-3), ("1e3", 1000.0), (".5", 0.5), ("-2", -2), ("10_000", 10_000), (".inf", math.inf), ("true", True),
        ("on", "on"), ("off", "off"), ("yes", "yes"), ("no", "no"), ("y", "y"), ("null", None), ("~", None), ("010", "010"),
        ("1:30", "1:30"), ("2020-01-01", "2020-01-01"), ("1_", "1_"), ("'1'", "1"), ("[1, a]", [1, "a"]),
        ("{a: 1e2}", {"a": 100.0}),
    ],
)  # fmt: skip
def test_scalars_are_those_of_yaml_1_2(text: str, value: Any):
    read = parse_value(text, "test")
    assert read == value
    assert type(read) is type(value)


SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**62), 2**62)
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=["Cs"]))
)
TREES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abe1.-_", min_size=1), inner, max_size=3)
)


@given(st.dictionaries(st.text("ab1e-:# ", min_size=1), TREES, max_size=4))
def test_written_yaml_reads_back_equal(tree: dict[str, Any]):
    assert parse_yaml(dump_yaml(tree), "test").tree == tree
