"""A config.json with one document for each half: what is refused in it, what old files leave out, what an export puts in."""

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from jax_transformer.config.errors import ConfigError
from jax_transformer.convert.hf import FAMILY, is_hf
from jax_transformer.convert.hf.flat import Flat, flatten
from jax_transformer.convert.pretrained import convert
from parity_tests.hf.cases import CASES
from parity_tests.hf.checkpoints import save, transformers

KEYS = CASES["t5gemma"][1]


def edited(**changes: Any) -> dict[str, Any]:
    """The keys of a T5Gemma; ``encoder__x`` is x in the encoder's document, and "absent" takes a key away."""
    keys = deepcopy(KEYS)
    for path, value in changes.items():
        *half, leaf = path.split("__")
        document = keys[half[0]] if half else keys
        document[leaf] = value
        if value == "absent":
            del document[leaf]
    return keys


def read(**changes: Any) -> Flat:
    return flatten(FAMILY["t5gemma"].read_config(edited(**changes), "config.json"))


def test_a_folder_with_halves_is_one_of_hugging_face(tmp_path: Path):
    (tmp_path / "config.json").write_text(json.dumps(KEYS | {"model_type": "t5gemma"}))
    assert is_hf(tmp_path)


REFUSED = {
    "unknown in the encoder": ({"encoder__twist": 3}, "config.json: encoder: a t5_gemma_module with {'encoder.twist': 3}"),
    "unknown in the decoder": ({"decoder__use_qk_norm": True}, "{'decoder.use_qk_norm': True}"),
    "unknown outside": ({"hidden_size": 24}, "a t5gemma with {'hidden_size': 24}"),
    "no half": ({"decoder": "absent"}, "config.json: decoder is missing"),
    "no document": ({"encoder": 3}, "encoder=3: wanted the config of the encoder, an object"),
    "two vocabularies": ({"encoder__vocab_size": 44}, "encoder and decoder differ in {'vocab_size': (44, 43)}"),
    "an encoder alone": ({"is_encoder_decoder": False}, "is_encoder_decoder=False"),
    "a value": ({"decoder__num_hidden_layers": "3"}, "config.json: decoder: ('num_hidden_layers', 'n_layer')='3'"),
    "an activation": ({"encoder__hidden_activation": "gelu_fast"}, "encoder: hidden_activation='gelu_fast'"),
    "a window of nothing": ({"encoder__sliding_window": None, "encoder__layer_types": ["sliding_attention"] * 3}, "is null"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_wrong_in_a_half_is_named_with_its_half(case: str):
    changes, message = REFUSED[case]
    with pytest.raises(ConfigError) as caught:
        read(**changes)
    assert message in str(caught.value)


def test_old_files_leave_out_what_the_class_has():
    """transformers 4 writes of an inner config what differs from its class, and theta outside ``rope_parameters``."""
    layers, wide = {"num_hidden_layers": 2}, {"num_hidden_layers": 2, "rope_theta": 5e3}
    flat = flatten(FAMILY["t5gemma"].read_config({"encoder": layers, "decoder": wide}, "config.json"))
    theirs = transformers.AutoConfig.for_model("t5gemma", encoder=layers, decoder=wide)
    again = flatten(FAMILY["t5gemma"].read_config(theirs.to_dict(), "written out"))
    assert flat == again
    assert flat["decoder.layers.1.attention.position.base"] == 5e3
    assert [flat.get(f"encoder.layers.{i}.attention.window") for i in range(2)] == [4096, None]


def test_both_spellings_of_a_rotation_are_read_and_written(tmp_path: Path):
    rotation = {"rope_type": "linear", "factor": 2.0}
    old = edited(decoder__rope_theta=5e3, decoder__rope_scaling=rotation)
    new = edited(decoder__rope_parameters=rotation | {"rope_theta": 5e3})
    one, other = (FAMILY["t5gemma"].read_config(keys, "config.json") for keys in (old, new))
    assert one == other
    written = FAMILY["t5gemma"].write_config(one)["decoder"]
    assert written["rope_theta"] == written["rope_parameters"]["rope_theta"] == 5e3
    assert written["rope_scaling"]["factor"] == written["rope_parameters"]["factor"] == 2.0


def test_an_export_has_ids_in_both_halves_and_a_window_that_no_layer_uses(tmp_path: Path):
    """transformers masks what equals a half's padding id, and builds the mask of a window even where no layer has one."""
    save("t5gemma, no window", tmp_path / "hf")
    convert(tmp_path / "hf", tmp_path / "ours")
    convert(tmp_path / "ours", tmp_path / "back", format="hf")
    values = json.loads((tmp_path / "back" / "config.json").read_text())
    for document in (values, values["encoder"], values["decoder"]):
        assert [document[f"{name}_token_id"] for name in ("pad", "bos", "eos")] == [0, 1, 2]
    assert values["model_type"] == "t5gemma"
    assert values["decoder"]["cross_attention_hidden_size"] == 24
    for half in ("encoder", "decoder"):
        assert values[half]["sliding_window"] == 4096
        assert set(values[half]["layer_types"]) == {"full_attention"}


def test_the_width_of_the_source_follows_from_the_encoder():
    """transformers overwrites what the file says of it."""
    assert read(decoder__cross_attention_hidden_size=99) == read()
    assert read(encoder__hidden_size=32)["encoder.d_model"] == 32
    assert read(encoder__hidden_size=32)["d_model"] == 24
