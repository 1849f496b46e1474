"""Config files, presets and overrides -> the config tree, and back."""

import os
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from jax_transformer.config.base import Config
from jax_transformer.config.document import Document, KeyPath
from jax_transformer.config.errors import ConfigError
from jax_transformer.config.explain import explain
from jax_transformer.config.model import Model
from jax_transformer.config.overrides import apply_overrides, merge
from jax_transformer.config.run import Run
from jax_transformer.config.strict_json import parse_json
from jax_transformer.config.strict_yaml import dump_yaml, parse_yaml
from jax_transformer.config.suggest import closest, did_you_mean
from jax_transformer.config.tree import classes

ConfigT = TypeVar("ConfigT", bound=Config)

SUFFIXES = (".yaml", ".yml", ".json")
MAX_BYTES = 2**20
FOLDER_FILES = ("config.yaml", "config.json")
"""Where a run folder and an exchange folder keep their config."""


def load_config(path_or_preset_name: str | Path, overrides: Sequence[str] = ()) -> Model | Run:
    """Load a model or, where the file has a top-level key ``model``, a run.

    Takes a YAML or JSON file, a folder that holds ``config.yaml`` or ``config.json``, or the name of a preset (``mini_tiny``,
    ``runs/quickstart`` or just ``quickstart``). In a run, ``model`` may be the name or path of a model config, or a mapping
    with ``preset: name`` whose other keys are laid over that preset. Overrides, ``train.learning_rate=1e-3``, come last.

    Raises:
        ConfigError: listing every problem with its file, line and path.
    """
    document = _read(path_or_preset_name)
    return _check(document, overrides, Run if _is_run(document) else Model)


def load_run(path_or_preset_name: str | Path, overrides: Sequence[str] = ()) -> Run:
    """``load_config``, but a model becomes a short run of itself, and overrides always address the run (``model.d_model=64``).

    That run reads the built-in corpus as bytes, in rows of the model's ``max_length`` but at most 128, for 200 steps of 8 rows.

    Raises:
        ConfigError: listing every problem with its file, line and path.
    """
    document = _read(path_or_preset_name)
    return _check(document if _is_run(document) else _wrap(document), overrides, Run)


def save_config(config: Model | Run, path: str | Path) -> None:
    """Write every field as YAML that ``load_config`` reads back to an equal object; replaces ``path`` in one step."""
    path = Path(path)
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text(dump_yaml(config.model_dump(mode="json")), encoding="utf-8")
    os.replace(partial, path)


def to_json(config: Model | Run) -> str:
    """Every field as indented JSON."""
    return config.model_dump_json(indent=2)


def from_json(text: str, label: str = "JSON text") -> Model | Run:
    """The config that ``to_json`` wrote; ``label`` names the text in errors.

    Raises:
        ConfigError: listing every problem with its path.
    """
    document = parse_json(text, label)
    return _check(document, (), Run if _is_run(document) else Model)


def make_config(cls: type[ConfigT], values: dict[str, Any], label: str) -> ConfigT:
    """A config node from plain values; ``label`` names where they come from.

    Raises:
        ConfigError: listing every problem with its path.
    """
    return _check(Document(values, {(): label}), (), cls)


def preset_names() -> list[str]:
    """Every preset, models first: ``mini_tiny``, ..., ``runs/quickstart``, ..."""
    root = _presets()
    return [
        path.relative_to(root).with_suffix("").as_posix()
        for path in (*sorted(root.glob("*.yaml")), *sorted(root.glob("*/*.yaml")))
    ]


def _presets() -> Path:
    package = Path(__file__).resolve().parents[1]
    installed = package / "configs"  # a wheel carries them inside the package, a checkout beside it
    return installed if installed.is_dir() else package.parent / "configs"


def _read(path_or_preset_name: str | Path, beside: Path | None = None) -> Document:
    """Find and read a config, the ``model`` of a run expanded; a relative path is also tried in the folder ``beside``."""
    path = _find(path_or_preset_name, beside)
    document = _read_file(path)
    return _expand_model(document, path.parent) if _is_run(document) else document


def _read_file(path: Path) -> Document:
    """Read a ``.json`` file as JSON and any other as YAML.

    Raises:
        ConfigError: the file cannot be read, or is no mapping in strict YAML or JSON.
    """
    label = str(path)
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise ConfigError(f"{label}: cannot be read: {error.strerror}") from error
    if len(data) > MAX_BYTES:
        raise ConfigError(f"{label}: is larger than {MAX_BYTES} bytes: this is no config file")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{label}:{line}: byte {data[error.start]:#04x} is not UTF-8; save the file as UTF-8") from error
    return parse_json(text, label) if path.suffix == ".json" else parse_yaml(text, label)


def _find(path_or_preset_name: str | Path, beside: Path | None) -> Path:
    name = str(path_or_preset_name)
    for path in (Path(name), *([beside / name] if beside else [])):
        candidates = [path] if path.is_file() else [path / file for file in FOLDER_FILES]
        found = next((candidate for candidate in candidates if candidate.is_file()), None)
        if found is not None:
            return found
    if name.endswith(SUFFIXES):
        raise ConfigError(f"{name}: no such config file{did_you_mean(closest(Path(name).stem, _short_names()))}")
    preset = _short_names().get(name)
    if preset is None:
        near = closest(name, _short_names())
        raise ConfigError(
            f"{name!r}: no such config file, folder or preset{did_you_mean(near)}; presets: {', '.join(preset_names())}"
        )
    return _presets() / f"{preset}.yaml"


def _short_names() -> dict[str, str]:
    """Every name of every preset; a run's folder may be left out where no model has that name."""
    names = preset_names()
    return {name.rpartition("/")[2]: name for name in reversed(names)} | {name: name for name in names}


def _is_run(document: Document) -> bool:
    """A run has a ``model``; one that misspells it is known by its other keys."""
    known = {name for cls in classes(Model) for name in cls.model_fields}
    return "model" in document.tree or any(key in Run.model_fields and key not in known for key in document.tree)


def _expand_model(document: Document, folder: Path) -> Document:
    model = document.tree.get("model")
    preset = model.get("preset") if isinstance(model, dict) else model
    if isinstance(model, dict) and preset is not None and not isinstance(preset, str):
        raise ConfigError(f"{document.origin(('model', 'preset'))}: model.preset: got {preset!r}, wanted a name or path")
    if not isinstance(preset, str):
        return document
    where = document.origin(("model", "preset"))
    try:
        base = _read(preset, beside=folder)
    except ConfigError as error:
        raise ConfigError(f"{where}: model: {error}") from error
    if _is_run(base):
        raise ConfigError(f"{where}: model: {preset!r} is a run; wanted a model config")
    rest = {key: value for key, value in model.items() if key != "preset"} if isinstance(model, dict) else {}
    below = Document({"model": base.tree}, _below("model", base))
    return merge(below, Document(document.tree | {"model": rest}, document.origins))


def _below(key: str, document: Document) -> dict[KeyPath, str]:
    """The document's origins once its tree hangs under ``key``."""
    return {(key, *path): origin for path, origin in document.origins.items()}


def _wrap(model: Document) -> Document:
    # The rows of an encoder-decoder are its sources.
    longest = model.tree.get("max_source_length", model.tree.get("max_length"))
    tree = {
        "model": model.tree,
        "data": {"sequence_length": min(longest, 128) if type(longest) is int else 128},
        "train": {"steps": 200, "batch_size": 8, "warmup_steps": 20},
    }
    return Document(tree, {(): model.origin(()), **_below("model", model)})


def _check(document: Document, overrides: Sequence[str], root: Any) -> Any:
    document = apply_overrides(document, overrides, root)
    try:
        return _adapter(root).validate_python(document.tree)
    except ValidationError as error:
        raise explain(error, document, root) from None


@cache
def _adapter(root: Any) -> TypeAdapter[Any]:
    return TypeAdapter(root)
