"""Presets, runs that name their model, and overrides."""

import json
from pathlib import Path

import pytest

from jax_transformer.config import LayerNorm, Model, RMSNorm, Run
from jax_transformer.config.errors import ConfigError
from jax_transformer.config.load import load_config, load_run, preset_names, save_config
from jax_transformer.config.schema import json_schema
from jax_transformer.config.strict_yaml import dump_yaml
from jax_transformer.config.tree import classes

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_loads_and_survives_saving(name: str, tmp_path: Path):
    config = load_config(name)
    assert isinstance(config, Run if name.startswith("runs/") else classes(Model))
    assert isinstance(load_run(name), Run)
    save_config(config, tmp_path / "config.yaml")
    assert load_config(tmp_path / "config.yaml") == load_config(tmp_path) == config
    assert [path.name for path in tmp_path.iterdir()] == ["config.yaml"]


def test_a_run_preset_needs_no_folder_and_an_unknown_one_is_suggested(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)  # where no run folder has the preset's name: a path that exists goes before a preset
    assert load_config("quickstart") == load_config("runs/quickstart")
    with pytest.raises(ConfigError, match=r"'mini_tny': no such .*; did you mean 'mini_tiny'\?"):
        load_config("mini_tny")
    with pytest.raises(ConfigError, match=r"nowhere/quikstart.yaml: no such config file; did you mean 'quickstart'\?"):
        load_config("nowhere/quikstart.yaml")


def test_the_committed_schema_is_current_and_every_preset_names_it():
    assert json.loads((ROOT / "configs/schema.json").read_text()) == json_schema(), "run: make schema"
    for path in (ROOT / "configs").rglob("*.yaml"):
        schema = path.read_text().partition("# yaml-language-server: $schema=")[2].partition("\n")[0]
        assert (path.parent / schema).resolve() == ROOT / "configs/schema.json", path


RUN_TAIL = "data: {sequence_length: 64}\ntrain: {steps: 200, batch_size: 8}\n"


def refusal(path: Path) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    return str(caught.value)


def write_run(folder: Path, model: str) -> Path:
    path = folder / "run.yaml"
    path.write_text(f"model: {model}\n{RUN_TAIL}")
    return path


def test_a_run_may_name_its_model_and_change_it(tmp_path: Path):
    tiny = load_config("mini_tiny")
    assert load_run(write_run(tmp_path, "mini_tiny")).model == tiny
    changed = load_run(write_run(tmp_path, "{preset: mini_tiny, stack: {num_layers: 9}, final_norm: {kind: layer_norm}}")).model
    assert changed == load_config("mini_tiny", ["stack.num_layers=9", "final_norm={kind: layer_norm}"])


def test_another_kind_replaces_a_mapping_and_the_same_kind_merges_with_it(tmp_path: Path):
    save_config(load_config("mini_tiny", ["final_norm.eps=1e-3"]), tmp_path / "mine.yaml")
    changed = load_run(write_run(tmp_path, "{preset: mine.yaml, final_norm: {kind: layer_norm}}")).model
    assert changed.final_norm == LayerNorm()
    changed = load_run(write_run(tmp_path, "{preset: mine.yaml, final_norm: {kind: rms_norm}}")).model
    assert changed.final_norm == RMSNorm(eps=1e-3)


def test_a_run_may_name_a_model_file_beside_it(tmp_path: Path):
    save_config(load_config("mini_small"), tmp_path / "mine.yaml")
    assert load_run(write_run(tmp_path, "mine.yaml")).model == load_config("mini_small")


@pytest.mark.parametrize(
    ("model", "wanted"),
    [
        ("mini_tny", "run.yaml:1: model: 'mini_tny': no such config file, folder or preset; did you mean 'mini_tiny'?"),
        ("quickstart", "run.yaml:1: model: 'quickstart' is a run; wanted a model config"),
        ("{preset: mini_tiny, d_modle: 4}", "run.yaml:1: model.d_modle: unknown field; did you mean 'd_model'?"),
        ("{preset: 3}", "run.yaml:1: model.preset: got 3, wanted a name or path"),
        ("3", "run.yaml:1: model: got 3 (an integer), wanted a mapping"),
    ],
)
def test_a_wrong_model_of_a_run_is_refused(model: str, wanted: str, tmp_path: Path):
    assert wanted in refusal(write_run(tmp_path, model))


def test_a_bad_value_in_a_named_model_is_refused_at_the_line_of_its_own_file(tmp_path: Path):
    (tmp_path / "mine.yaml").write_text(
        dump_yaml(load_config("mini_tiny").model_dump(mode="json")).replace("d_model: 128", "d_model: x")
    )
    assert f"{tmp_path / 'mine.yaml'}:2: model.d_model: got 'x'" in refusal(write_run(tmp_path, "mine.yaml"))


def test_a_model_becomes_a_short_run():
    run = load_run("mini_large", ["train.steps=50", "model.stack.num_layers=2"])
    assert run.model == load_config("mini_large", ["stack.num_layers=2"])
    assert (run.train.steps, run.data.sequence_length) == (50, 128)


def test_overrides_reach_lists_and_fields_that_the_file_leaves_out():
    window = "stack.pattern{}attention.window=4"
    assert load_config("mini_tiny", [window.format("[0].")]) == load_config("mini_tiny", [window.format(".0.")])
    model = load_config(
        "mini_tiny", ["stack.pattern[0].attention.position.base=5e5", "dtype.param=float64", "d_model=8", "d_model=16"]
    )
    assert (model.stack.pattern[0].attention.position.base, model.dtype.param, model.d_model) == (5e5, "float64", 16)
    run = load_run("quickstart", ["train.dropout_anneal.steps=5", "train.optimizer.beta1=0.8", "train.clip_norm=null"])
    assert (run.train.dropout_anneal.steps, run.train.optimizer.beta1, run.train.clip_norm) == (5, 0.8, None)


@pytest.mark.parametrize(
    ("override", "wanted"),
    [
        ("train.steps", "wanted path=value"),
        ("train.steps=", "wanted path=value"),
        ("=3", "the path before '=' is empty"),
        ("train..steps=3", "is not a path"),
        ("train.=3", "is not a path"),
        ("[0]=3", "is not a path"),
        (".train=3", "is not a path"),
        ("train.steps.x=3", "train.steps is 600, which has nothing below it"),
        ("train[0]=3", "train is a mapping, which has no index"),
        ("model.stack.pattern[1].dropout=0", "model.stack.pattern is a list of 1"),
        ("model.stack.pattern.x=0", "is a list of 1"),
        ("train.steps=[1", "not valid YAML"),
        ("train.steps=*a", "anchors and aliases"),
        ("train.steps=!!int 3", "tag"),
        ("trian.steps=3", "trian: unknown field; did you mean 'train'?"),
        ("dtype.param=float64", "did you mean 'model.dtype'?"),
        ("train.stepz=3", "train.stepz: unknown field; did you mean 'steps'?"),
    ],
)
def test_a_wrong_override_is_refused_by_its_own_text(override: str, wanted: str):
    with pytest.raises(ConfigError) as caught:
        load_config("quickstart", [override])
    assert str(caught.value).startswith(f"override {override!r}")
    assert wanted in str(caught.value)


def test_an_override_of_a_model_that_addresses_a_run_says_so():
    with pytest.raises(ConfigError, match=r"model: unknown field: this config is a model itself; leave out 'model\.'"):
        load_config("mini_tiny", ["model.d_model=8"])
