"""What an export says of itself, and which family a model of ours is."""

import json
from pathlib import Path

import pytest

from jax_transformer.config.load import load_config, preset_names
from jax_transformer.convert.hf import FAMILY, choose
from parity_tests.hf.cases import CASES
from parity_tests.hf.checkpoints import save, transformers

PRESETS = {"llama3_8b": "llama", "mistral_7b": "mistral", "gemma3_1b": "gemma3_text", "gpt2_124m": "gpt2"}
PRESETS |= {"bert_base": "bert", "t5_small": "t5"}


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_of_known_models_are_of_their_family(preset: str):
    assert preset in preset_names()
    assert choose(load_config(preset)).name == PRESETS[preset]


@pytest.mark.parametrize("case", ["gemma3", "llama, 3.1", "gpt_neox"])
def test_an_export_says_everything_twice(case: str, tmp_path: Path):
    """Loaders of both generations read the same rotation, whichever spelling they look at."""
    import torch_reference as tr

    save(case, tmp_path / "hf")
    tr.save_pretrained(tr.load_pretrained(tmp_path / "hf"), tmp_path / "back", format="hf", family=CASES[case][0])
    values = json.loads((tmp_path / "back" / "config.json").read_text())
    assert values["dtype"] == values["torch_dtype"] == "float32"
    old = {key: value for key, value in values.items() if key != "rope_parameters"}
    spelt = ("rope_theta", "rope_scaling", "rope_local_base_freq", "rotary_pct")
    new = {key: value for key, value in values.items() if key not in spelt}
    read = []
    for name, keys in (("both", values), ("old", old), ("new", new)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(json.dumps(keys))
        read.append(transformers.AutoConfig.from_pretrained(tmp_path / name).rope_parameters)
        assert FAMILY[CASES[case][0]].read_config(keys, name) == FAMILY[CASES[case][0]].read_config(values, "both")
    assert read[0] == read[1] == read[2]


def test_the_page_has_a_line_for_every_family():
    page = (Path(__file__).resolve().parents[2] / "docs" / "conversion.md").read_text(encoding="utf-8")
    for name, family in FAMILY.items():
        count = sum(model_type == name for model_type, _ in CASES.values())
        assert f"| `{name}` | `{family.architecture}` | {count} |" in page, f"run python -m parity_tests.hf.measure {name}"
    readme = (Path(__file__).resolve().parents[2] / "README.md").read_text(encoding="utf-8")
    assert f"{len(FAMILY)} families" in readme
