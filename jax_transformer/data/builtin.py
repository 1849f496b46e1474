"""Text that every Python installation carries. It differs between Python versions; the corpus fingerprint tells."""

import ast
import os
import sysconfig
import tokenize
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from jax_transformer.config.errors import DataError

SKIPPED_FOLDERS = frozenset({"test", "tests", "idle_test", "site-packages", "dist-packages", "__pycache__"})


def texts(corpus: Literal["topics", "docstrings", "stdlib"]) -> Iterator[str]:
    """The documents of a builtin corpus: help topics, each module's docstrings, or source files.

    Raises:
        DataError: this Python was installed without the files.
    """
    if corpus == "topics":
        return _topics()
    sources = (_source(path) for path in _standard_library())
    return sources if corpus == "stdlib" else (text for text in map(_docstrings, sources) if text)


def _topics() -> Iterator[str]:
    try:
        from pydoc_data.topics import topics
    except ImportError as error:
        raise DataError("this Python has no pydoc_data.topics; choose another data.source") from error
    for name in sorted(topics):
        yield topics[name]


def _standard_library() -> Iterator[Path]:
    """Source files of the standard library, without its tests, sorted."""
    root = Path(sysconfig.get_path("stdlib"))
    count = 0
    for folder, subfolders, names in os.walk(root):
        subfolders[:] = sorted(name for name in subfolders if name not in SKIPPED_FOLDERS)
        for name in sorted(names):
            if name.endswith(".py"):
                count += 1
                yield Path(folder, name)
    if not count:
        raise DataError(f"{root}: this Python has no sources of its standard library; choose another data.source")


def _source(path: Path) -> str:
    with tokenize.open(path) as file:  # honours the file's coding line
        return file.read()


def _docstrings(source: str) -> str:
    """Docstrings of the module, its classes and its functions, in source order, a blank line between two."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # odd escapes in somebody else's source
        tree = ast.parse(source)
    owners = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    nodes = [node for node in ast.walk(tree) if isinstance(node, owners)]
    nodes.sort(key=lambda node: getattr(node, "lineno", 0))
    docstrings = (ast.get_docstring(node) for node in nodes)
    return "".join(f"{text}\n\n" for text in docstrings if text)
