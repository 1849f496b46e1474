"""What an export says of itself, and which family a model of ours is."""

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import tokenizers

from jax_transformer.config.load import load_config, preset_names
from jax_transformer.convert.hf import FAMILY, choose
from jax_transformer.convert.hf.flat import flatten
from jax_transformer.convert.pretrained import convert
from parity_tests.hf.bases import TOKENS
from parity_tests.hf.cases import CASES
from parity_tests.hf.checkpoints import reload, save, their_config, torch, transformers

PRESETS = {"llama3_8b": "llama", "mistral_7b": "mistral", "gemma3_1b": "gemma3_text", "gpt2_124m": "gpt2"}
PRESETS |= {"bert_base": "bert", "t5_small": "t5"}


@pytest.mark.parametrize("preset", PRESETS)
def test_presets_of_known_models_are_of_their_family(preset: str):
    assert preset in preset_names()
    assert choose(load_config(preset)).name == PRESETS[preset]


BASES = ("rope_theta", "global_rope_theta")
OLD = (*BASES, "rope_scaling", "rope_local_base_freq", "local_rope_theta", "rotary_pct", "partial_rotary_factor")
"""Keys of the spelling before ``rope_parameters``."""

NEW_ONLY = {"olmo3, tied", "modernbert, untied", "modernbert-decoder, untied"}
"""A base or a scaling for each type of layer, of which the old spelling of these families has no words."""


def spelled(values: dict[str, Any], *without: str) -> dict[str, Any]:
    """A config, and those of its halves, without some keys."""
    halves = {name: spelled(values[name], *without) for name in ("encoder", "decoder") if name in values}
    return {key: value for key, value in values.items() if key not in without} | halves


def rotations(theirs: Any, values: dict[str, Any]) -> list[Any]:
    """What transformers reads of it, or of its halves."""
    read = theirs.from_dict(deepcopy(values))
    return [getattr(read, name).rope_parameters for name in ("encoder", "decoder") if name in values] or [read.rope_parameters]


@pytest.mark.parametrize("case", CASES)
def test_an_export_says_everything_twice(case: str):
    """Loaders of both generations read the same rotation, whichever spelling they look at."""
    name = CASES[case][0]
    family, theirs = FAMILY[name], transformers.CONFIG_MAPPING[name]
    source = json.loads(their_config(case).to_json_string(use_diff=False))
    values = family.write_config(family.read_config(source, case))
    assert values["dtype"] == values["torch_dtype"] == "float32"
    read = family.read_config(values, "both")
    rotates = "rope" in flatten(read).values() and name not in ("gptj", "codegen")
    stated = values.get("decoder", values)
    if not stated.get("rope_parameters"):
        assert not rotates, "what rotates says how; gptj and codegen have rotary_dim alone"
        return
    assert rotates == any(stated.get(key) is not None for key in BASES)
    old, new = spelled(values, "rope_parameters"), spelled(values, *OLD)
    for spelling in (new,) if case in NEW_ONLY else (old, new):
        assert family.read_config(spelling, "one") == read
        assert rotations(theirs, spelling) == rotations(theirs, values)


def trained(case: str, folder: Path, end: int) -> Path:
    """What a run leaves: a model of ours and a ``tokenizer.json``, whose token ``end`` is called as ours call the last one."""
    import torch_reference as tr

    save(case, folder / "hf")
    names = {f"w{i}": i for i in range(TOKENS) if i not in (end, (end + 1) % TOKENS)} | {
        "<eos>": end,
        "<bos>": (end + 1) % TOKENS,
    }
    tokenizers.Tokenizer(tokenizers.models.WordLevel(names)).save(str(folder / "tokenizer.json"))
    tr.save_pretrained(tr.load_pretrained(folder / "hf"), folder / "run", folder / "tokenizer.json")
    return folder / "run"


def test_transformers_ends_a_text_of_a_run_where_we_do(tmp_path: Path):
    prompt = torch.tensor([[3, 4]])
    end = int(save("llama", tmp_path / "hf")(prompt).logits[0, -1].argmax())
    convert(trained("llama", tmp_path, end), tmp_path / "theirs", format="hf")
    values = json.loads((tmp_path / "theirs" / "config.json").read_text())
    ids = (values["bos_token_id"], values["eos_token_id"], values["pad_token_id"])
    assert ids == ((end + 1) % TOKENS, end, None)
    model, _ = reload(tmp_path / "theirs")
    assert (model.generation_config.bos_token_id, model.generation_config.eos_token_id) == ids[:2]
    got = model.generate(prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=6, do_sample=False)
    assert got.tolist() == [[3, 4, end]]


def test_transformers_begins_a_target_of_a_run_where_we_do(tmp_path: Path):
    convert(trained("t5", tmp_path, 5), tmp_path / "theirs", format="hf")
    model, _ = reload(tmp_path / "theirs")
    said = model.generation_config
    assert (said.decoder_start_token_id, said.eos_token_id, said.bos_token_id) == (0, 5, 6)


def test_ids_that_a_checkpoint_states_are_not_guessed_anew(tmp_path: Path):
    folder = trained("llama", tmp_path, 7)
    (folder / "generation_config.json").write_text('{"eos_token_id": [3, 4]}')
    convert(folder, tmp_path / "theirs", format="hf")
    assert json.loads((tmp_path / "theirs" / "config.json").read_text())["eos_token_id"] == [3, 4]
    (folder / "generation_config.json").unlink()
    (folder / "tokenizer_config.json").write_text("{}")
    convert(folder, tmp_path / "others", format="hf")
    assert json.loads((tmp_path / "others" / "config.json").read_text())["eos_token_id"] is None
    assert not (tmp_path / "others" / "generation_config.json").exists()


def test_the_page_has_a_line_for_every_family():
    page = (Path(__file__).resolve().parents[2] / "docs" / "conversion.md").read_text(encoding="utf-8")
    for name, family in FAMILY.items():
        count = sum(model_type == name for model_type, _ in CASES.values())
        assert f"| `{name}` | `{family.architecture}` | {count} |" in page, f"run python -m parity_tests.hf.measure {name}"
    readme = (Path(__file__).resolve().parents[2] / "README.md").read_text(encoding="utf-8")
    assert f"{len(FAMILY)} families" in readme
