"""The oracle is tested as well: every mistake that is made on purpose in one framework is caught, and located."""

import re
from functools import cache

import pytest

from jax_transformer.config import AdamW, Model
from jax_transformer.config.tree import annotation_of, classes, fields, item
from parity_tests.ladder import Reference, compare_torch, measure_jax
from parity_tests.measured import Plan
from parity_tests.mutations import BASES, MUTATIONS
from parity_tests.mutations.fields import WITHOUT_MUTATION

PLAN = Plan(dtypes=("float64", "own"), optimize=False)

CAUSES = {
    "RMSNorm.eps": "epsilon",
    "Glu.activation gelu_tanh": "erf or tanh",
    "Rope.base": "rotation",
    "kv heads tiled": "kv head serves",
    "Softmax.o_bias": "a bias",
    "head tied to another matrix": "tying",
    "cache slot off by one": "slot",
    "train.optimizer.beta2": "beta2",
    "Init.depth_scaled": "depth scaling",
    "rms scale before the cast": "rounds at another place",
}
"""What the report must say of some of them."""


@cache
def reference(base: str) -> Reference:
    """The JAX half, which no mutation touches, compiled once."""
    return measure_jax(BASES[base], plan=PLAN)


@pytest.mark.parametrize("base", BASES)
def test_an_unbroken_model_passes_and_every_mutation_of_it_is_caught_and_located(base: str) -> None:
    report = compare_torch(reference(base))
    assert report.passed, report.summary()
    uncaught, misplaced = [], []
    for name, mutation in MUTATIONS.items():
        if mutation.base != base:
            continue
        with mutation.patch():
            report = compare_torch(reference(base), mutation.config(), title=name)
        first = report.first_bad
        if first is None:
            uncaught.append(name)
        elif not re.match(mutation.first, f"{first.stage} {first.name}") or CAUSES.get(name, "") not in report.cause:
            misplaced.append(f"{name}: {report.summary()}; wanted {mutation.first} {CAUSES.get(name)}")
    assert not uncaught
    assert not misplaced


def test_every_expected_cause_belongs_to_a_mutation() -> None:
    assert CAUSES.keys() <= MUTATIONS.keys()


def test_every_config_field_has_a_mutation_or_a_reason() -> None:
    known = {re.split(" ", name)[0] for name in MUTATIONS} | {name.replace("train.optimizer", "AdamW") for name in MUTATIONS}
    missing = []
    for root in (Model, AdamW):
        for _, owner, name in fields(root):
            annotation = annotation_of(owner, name)
            if classes(annotation) or classes(item(annotation)):
                continue  # it holds configs, whose own fields are in the list
            label = f"{owner.__name__}.{name}"
            if label not in known and label not in WITHOUT_MUTATION and name not in WITHOUT_MUTATION:
                missing.append(label)
    assert not missing


def test_no_reason_is_left_over() -> None:
    existing = {f"{owner.__name__}.{name}" for _, owner, name in fields(Model)} | {name for _, _, name in fields(Model)}
    assert WITHOUT_MUTATION.keys() <= existing
