"""The closed tables from config class to module: the same in both packages, with one line per class of the union."""

from importlib import import_module
from typing import Any

import pytest

from jax_transformer import config
from jax_transformer.config.tree import classes

TABLES = [
    ("nn.attention", "ATTENTION", config.Attention),
    ("nn.ffn", "FFN", config.Ffn),
    ("nn.norm", "NORM", config.Norm),
    ("nn.position", "POSITION", config.Position),
    ("nn.absolute_position", "ABSOLUTE_POSITION", config.AbsolutePosition),
    ("nn.heads", "ENCODER_HEAD", config.EncoderHead),
    ("models", "MODEL", config.Model),
]


@pytest.mark.parametrize("package", ["jax_transformer", "torch_reference"])
@pytest.mark.parametrize(("module", "name", "union"), TABLES)
def test_a_table_has_a_line_for_every_class_of_its_union(package: str, module: str, name: str, union: Any) -> None:
    assert getattr(import_module(f"{package}.{module}"), name).keys() == set(classes(union))


@pytest.mark.parametrize(("module", "name", "union"), TABLES)
def test_both_packages_name_their_modules_alike(module: str, name: str, union: Any) -> None:
    tables = (getattr(import_module(f"{package}.{module}"), name) for package in ("jax_transformer", "torch_reference"))
    ours, mirror = ({key: value.__name__ for key, value in table.items()} for table in tables)
    assert ours == mirror
