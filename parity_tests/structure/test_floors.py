"""Imports go down only, and what must be free of a framework is."""

from graphlib import TopologicalSorter
from pathlib import Path

import pytest

from parity_tests.structure.sources import ROOT, files, imports, label, module_name, modules

FLOORS = (
    {"config"},
    {"ops"},
    {"nn"},
    {"models"},
    {"train", "generate", "adapt", "convert", "sharding", "profile", "data", "verify"},
    {"cli"},
)
SIBLINGS = {
    "train": {"sharding", "data", "convert", "generate", "profile"},
    "generate": {"sharding", "convert", "data"},
    "convert": {"train"},
    "verify": {"convert"},
}
"""Rooms of the same floor that a room may import: training uses all, generating and verifying open
checkpoints, converting opens runs."""

MIRROR_MAY_IMPORT = ("config", "convert.gguf", "convert.hf", "convert.hub", "convert.rows", "convert.training_folder")
"""What ``torch_reference`` takes from ``jax_transformer``."""

FRAMEWORKS = {"jax", "jaxlib", "flax", "optax", "orbax", "grain", "torch", "transformers"}


def room(module: str) -> str | None:
    """``jax_transformer.nn.block`` -> ``nn``; None for the package itself and its ``__main__``."""
    name = (*module.split("."), "")[1]
    return name if any(name in floor for floor in FLOORS) else None


def floor(name: str) -> int:
    return next(height for height, rooms in enumerate(FLOORS) if name in rooms)


def test_every_folder_is_a_room():
    for package in ("jax_transformer", "torch_reference"):
        for path in files(package):
            parts = path.relative_to(ROOT / package).parts
            assert len(parts) == 1 or room(f"{package}.{parts[0]}") or package == "torch_reference", label(path)


@pytest.mark.parametrize("package", ["jax_transformer", "torch_reference"])
def test_imports_go_down_only(package: str):
    wrong = []
    for path in files(package):
        here = room(module_name(path))
        for target, node in imports(path):
            there = room(target) if target.startswith(f"{package}.") else None
            if here is None or there is None or here == there:
                continue
            if floor(there) > floor(here) or (floor(there) == floor(here) and there not in SIBLINGS.get(here, set())):
                wrong.append(f"{label(path, node)} imports {target}")
    assert not wrong


def test_the_mirror_takes_only_framework_free_modules_from_the_jax_package():
    allowed = tuple(f"jax_transformer.{name}" for name in MIRROR_MAY_IMPORT)
    wrong = [
        f"{label(path, node)} imports {target}"
        for path in files("torch_reference")
        for target, node in imports(path)
        if target.startswith("jax_transformer") and not any(f"{target}.".startswith(f"{name}.") for name in allowed)
    ]
    assert not wrong


@pytest.mark.parametrize(
    ("package", "banned"),
    [
        ("jax_transformer", {"torch", "torch_reference", "transformers"}),
        ("torch_reference", {"jax", "jaxlib", "flax", "optax", "orbax"}),
    ],
)
def test_a_package_never_imports_the_other_framework(package: str, banned: set[str]):
    wrong = [
        f"{label(path, node)} imports {target}"
        for path in files(package)
        for target, node in imports(path)
        if top(target) in banned
    ]
    assert not wrong


def test_only_the_command_line_imports_the_parity_suite():
    wrong = [
        f"{label(path, node)} imports {target}"
        for path in files("jax_transformer", "torch_reference")
        for target, node in imports(path)
        if top(target) == "parity_tests" and room(module_name(path)) != "cli"
    ]
    assert not wrong


def test_what_both_packages_share_reaches_no_framework():
    shared = [
        path
        for path in files("jax_transformer")
        if any(f"{module_name(path)}.".startswith(f"jax_transformer.{name}.") for name in MIRROR_MAY_IMPORT)
    ]
    assert len(shared) > 10
    for path in shared:
        for module in reachable(module_name(path)):
            found = {top(target) for target, _ in imports(file_of(module))} & FRAMEWORKS
            assert not found, f"{label(path)} reaches {module}, which imports {found}"


def test_no_module_imports_itself_through_others():
    graph = {
        module_name(path): {target for target, _ in imports(path) if target in modules()} - {module_name(path)}
        for path in files()
    }
    assert list(TopologicalSorter(graph).static_order())


def top(module: str) -> str:
    return module.partition(".")[0]


def file_of(module: str) -> Path:
    path = ROOT.joinpath(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def reachable(module: str) -> set[str]:
    """The module, its packages and everything of the project that they import, except through the lazy package itself."""
    found: set[str] = set()
    waiting = [module]
    while waiting:
        name = waiting.pop()
        if name in found or name not in modules() or name == "jax_transformer":
            continue
        found.add(name)
        waiting += [target for target, _ in imports(file_of(name))]
        waiting.append(name.rpartition(".")[0])
    return found
