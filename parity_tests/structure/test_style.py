"""Rooms stay small, public things are explained, and what runs foreign code is banned."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from parity_tests.structure.sources import ROOT, files, label, parse, public

MAX_FILE, MAX_FUNCTION, MAX_CONSTRUCTOR = 250, 40, 6
BANNED_MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "shelve", "marshal"}
TEXTS = [path for path in (*ROOT.glob("*.md"), *sorted((ROOT / "docs").rglob("*.md"))) if path.is_file()]


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in ast.walk(parse(path)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def test_files_fit_in_one_sitting():
    lengths = {label(path): len(path.read_text(encoding="utf-8").splitlines()) for path in files()}
    assert not {name: length for name, length in lengths.items() if length > MAX_FILE}


def test_tolerances_live_in_one_file():
    paths = [path for path in files("parity_tests") if path.name != "tolerances.py"]
    assert not [label(path, node) for path in paths for node in ast.walk(parse(path)) if _is_a_tolerance_of_its_own(node)]


def _is_a_tolerance_of_its_own(node: ast.AST) -> bool:
    """A number for ``rtol`` or ``atol`` other than 0, a dict of them, or a relative error that is compared with a number."""
    if isinstance(node, ast.keyword):
        return node.arg in ("rtol", "atol", "rel", "abs") and _is_number(node.value)
    if isinstance(node, ast.Dict):
        return bool({key.value for key in node.keys if isinstance(key, ast.Constant)} & {"rtol", "atol"})
    return (
        isinstance(node, ast.Compare) and "relative_error(" in ast.unparse(node.left) and any(map(_is_number, node.comparators))
    )


def _is_number(node: ast.expr) -> bool:
    """A number other than 0, also one computed from nothing but numbers."""
    named = any(isinstance(part, ast.Name) for part in ast.walk(node))
    return not named and not (isinstance(node, ast.Constant) and node.value == 0)


def test_functions_fit_on_a_screen():
    lengths = {label(path, node): 1 + node.end_lineno - node.lineno for path in files() for node in functions(path)}
    assert not {name: length for name, length in lengths.items() if length > MAX_FUNCTION}


def test_constructors_take_few_arguments():
    counts = {
        label(path, node): len(node.args.posonlyargs + node.args.args + node.args.kwonlyargs) - 1
        for path in files()
        for node in functions(path)
        if node.name == "__init__"
    }
    assert not {name: count for name, count in counts.items() if count > MAX_CONSTRUCTOR}


def test_no_file_is_a_drawer():
    assert not [label(path) for path in files() if path.stem in ("utils", "util", "helpers", "misc", "common")]


def test_public_things_of_the_packages_are_explained():
    wrong = []
    for path in files("jax_transformer", "torch_reference", "scripts"):
        module = parse(path)
        nodes = [module, *public(module.body)]
        nodes += [method for cls in public(module.body) if isinstance(cls, ast.ClassDef) for method in public(cls.body)]
        wrong += [label(path, node) for node in nodes if not ast.get_docstring(node) and not _is_stub(node)]
    assert not wrong


def _is_stub(node: ast.AST) -> bool:
    """A protocol's method, or a method that only names a type."""
    body = getattr(node, "body", [])
    return isinstance(node, ast.FunctionDef) and isinstance(body[0], ast.Expr) and getattr(body[0].value, "value", 0) is ...


def test_no_test_module_is_unexplained():
    assert not [label(path) for path in files("parity_tests") if parse(path).body and not ast.get_docstring(parse(path))]


def unsafe_calls(tree: ast.AST) -> Iterator[tuple[ast.AST, str]]:
    """Imports and calls that run, or may run, code from data."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [str(node.module)]
            yield from ((node, name) for name in names if name.partition(".")[0] in BANNED_MODULES)
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        settings = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
        unsafe_load = name == "torch.load" and settings.get("weights_only") != "True"
        pickled_array = name in ("np.load", "numpy.load") and settings.get("allow_pickle", "False") != "False"
        any_yaml = name in ("yaml.load", "yaml.full_load", "yaml.unsafe_load")
        if name in ("eval", "exec", "compile", "os.system") or unsafe_load or pickled_array or any_yaml:
            yield node, name


def test_nothing_runs_code_from_data():
    own = files("jax_transformer", "torch_reference", "scripts")  # tests make hostile files on purpose
    assert not [f"{label(path, node)}: {name}" for path in own for node, name in unsafe_calls(parse(path))]


@pytest.mark.parametrize(
    "code",
    ["import pickle", "from pickle import loads", "torch.load(f)", "torch.load(f, weights_only=False)", "eval('1')", "exec(x)",
     "np.load(f, allow_pickle=True)", "yaml.load(f)"],
)  # fmt: skip
def test_unsafe_code_would_be_found(code: str):
    assert list(unsafe_calls(ast.parse(code)))


def test_nothing_is_left_for_later():
    pattern = re.compile(r"#\s*(TODO|FIXME|XXX|HACK)\b|raise NotImplementedError")
    others = [path for path in files() if path != Path(__file__)]
    assert not [label(path) for path in others if pattern.search(path.read_text(encoding="utf-8"))]


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.name)
def test_texts_name_only_what_a_reader_has(path: Path):
    text = path.read_text(encoding="utf-8")
    assert not re.findall(r"(?<![\w.:/])/(?:work|root|home|tmp|Users|opt)/\S+", text), "a path of one machine"
    prose = re.sub(r"```.*?```|`[^`\n]*`", "", text, flags=re.DOTALL)
    for link in re.findall(r"\]\((?!https?:|#|mailto:)([^)#\s]+)", prose):
        target = (path.parent / link).resolve()
        assert target.exists(), f"{path.name} links to {link}"
        assert target.is_relative_to(ROOT), f"{path.name} links to {link}, outside the project"
