"""What is installed is what is imported, and the pins cover it."""

import re
import sys
import tomllib

from parity_tests.structure.sources import ROOT, files, imports

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
INSTALLS = {"PyYAML": "yaml", "orbax-checkpoint": "orbax", "ml-dtypes": "ml_dtypes"}
"""Distributions whose import name differs."""


def names(requirements: list[str]) -> set[str]:
    return {re.split(r"[<>=!~;\[ ]", requirement)[0] for requirement in requirements}


def imported(*packages: str) -> set[str]:
    own = {"jax_transformer", "torch_reference", "parity_tests", "scripts"}
    found = {target.partition(".")[0] for path in files(*packages) for target, _ in imports(path)}
    return found - own - set(sys.stdlib_module_names)


def test_every_import_is_a_declared_dependency():
    runtime = {INSTALLS.get(name, name) for name in names(PROJECT["dependencies"])}
    assert imported("jax_transformer") <= runtime
    torch = {INSTALLS.get(name, name) for name in names(PROJECT["optional-dependencies"]["torch"])}
    assert imported("torch_reference") <= runtime | torch


def test_installing_without_extras_needs_no_torch():
    assert not names(PROJECT["dependencies"]) & {"torch", "transformers"}


def test_every_dependency_is_pinned_exactly():
    lines = [line for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in lines)
    pinned = {line.partition("==")[0].lower().replace("_", "-") for line in lines}
    wanted = names([*PROJECT["dependencies"], *(name for extra in PROJECT["optional-dependencies"].values() for name in extra)])
    assert {name.lower().replace("_", "-") for name in wanted} <= pinned


def test_the_licence_is_the_one_declared():
    assert PROJECT["license"] == "Apache-2.0"
    assert "Apache License" in (ROOT / "LICENSE").read_text(encoding="utf-8")[:100]
