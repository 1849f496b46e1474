"""One wrong letter anywhere is refused, with the right name suggested."""

import json
import string
from typing import Any, get_args

import numpy as np
import pytest

from jax_transformer.config import Run
from jax_transformer.config.base import Config
from jax_transformer.config.document import KeyPath, show_path
from jax_transformer.config.errors import ConfigError
from jax_transformer.config.load import from_json
from jax_transformer.config.tree import annotation_of, classes
from parity_tests.config.samples import every_field, parent, with_field


def typos(word: str, rng: np.random.Generator) -> set[str]:
    """Every dropped letter and swap of neighbours; some replacements and insertions."""
    letters = string.ascii_lowercase + "_"
    found = {word[:i] + word[i + 1 :] for i in range(len(word))}
    found |= {word[:i] + word[i + 1] + word[i] + word[i + 2 :] for i in range(len(word) - 1)}
    for _ in range(8):
        i, letter = rng.integers(len(word)), letters[rng.integers(len(letters))]
        found |= {word[:i] + letter + word[i + 1 :], word[:i] + letter + word[i:]}
    return found - {word, ""}


def error_of(tree: Any) -> str:
    with pytest.raises(ConfigError) as caught:
        from_json(json.dumps(tree))
    return str(caught.value)


def first_suggestion(message: str, path: KeyPath) -> str | None:
    """What is suggested for ``path``; the message must name it, without union tags."""
    line = next(line for line in message.splitlines() if f": {show_path(path)}: unknown field" in line)
    return line.partition("did you mean '")[2].partition("'")[0] or None


def choices_of(owner: type[Config], name: str) -> list[str]:
    """The names that a field may hold: its kind, or the values of its ``Literal``."""
    annotation = annotation_of(owner, name)
    return [] if classes(annotation) else [choice for choice in get_args(annotation) if isinstance(choice, str)]


def test_every_sample_is_valid():
    for path, owner, _ in every_field():
        assert isinstance(from_json(json.dumps(with_field(path, owner))), Run), path


def test_a_misspelt_field_is_refused_and_the_right_one_suggested(rng: np.random.Generator):
    tried, missed = 0, []
    for path, owner, name in every_field():
        tree = with_field(path, owner)
        holder = parent(tree, path)
        value = holder.pop(name)
        for typo in sorted(typos(name, rng) - owner.model_fields.keys()):
            holder[typo] = value
            suggestion = first_suggestion(error_of(tree), (*path[:-1], typo))
            del holder[typo]
            tried += 1
            if suggestion != name:
                missed.append((show_path(path), typo, suggestion))
    assert tried > 1000
    assert len(missed) <= 0.05 * tried, missed


def test_a_misspelt_kind_or_choice_is_refused_and_the_right_one_suggested(rng: np.random.Generator):
    tried, missed = 0, []
    for path, owner, name in every_field():
        for choice in choices_of(owner, name):
            tree = with_field(path, owner)
            for typo in sorted(typos(choice, rng) - set(choices_of(owner, name))):
                parent(tree, path)[name] = typo
                message = error_of(tree)
                assert f"{show_path(path[:-1])}" in message, (path, typo)
                assert f"{typo!r}" in message, (path, typo)
                tried += 1
                if f"did you mean {choice!r}?" not in message:
                    missed.append((show_path(path), choice, typo))
    assert tried > 500
    assert len(missed) <= 0.05 * tried, missed


@pytest.mark.parametrize(
    ("written", "wanted"),
    [("heads", "num_heads"), ("kv_heads", "num_kv_heads"), ("num-heads", "num_heads"), ("Head_Dim", "head_dim")],
)
def test_a_shortened_or_restyled_field_is_suggested_too(written: str, wanted: str):
    path = ("model", "stack", "pattern", 0, "attention")
    owner = next(owner for found, owner, _ in every_field() if found[:-1] == path)
    tree = with_field((*path, wanted), owner)
    tree["model"]["stack"]["pattern"][0]["attention"][written] = 4
    assert first_suggestion(error_of(tree), (*path, written)) == wanted


def test_a_field_of_another_node_is_suggested_with_its_path():
    tree = with_field(("train", "steps"), Run.model_fields["train"].annotation)
    assert first_suggestion(error_of(tree | {"learning_rate": 1.0}), ("learning_rate",)) == "train.learning_rate"


def test_the_field_that_a_typo_meant_is_not_also_reported_missing():
    tree = with_field(("train", "steps"), Run.model_fields["train"].annotation)
    tree["train"]["stepps"] = tree["train"].pop("steps")
    assert error_of(tree) == "JSON text: train.stepps: unknown field; did you mean 'steps'?"
