"""ModernBERT's config: what both generations of transformers call windows and rotations, and what is refused."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jax_transformer import config
from jax_transformer.config.errors import ConfigError
from jax_transformer.convert.hf import FAMILY
from jax_transformer.convert.hf.folder import read_values
from parity_tests.hf.bases import MODERN, TOKENS
from parity_tests.hf.cases import CASES
from parity_tests.hf.checkpoints import inputs, save, their_logits, torch, transformers
from parity_tests.tolerances import FLOAT32_MODEL, relative_error

BOTH = ("modernbert", "modernbert-decoder")


def read(name: str, **keys: Any) -> config.Model:
    return FAMILY[name].read_config(MODERN | keys, "test")


def layers(model: Any) -> list[tuple[int | None, float]]:
    return [(block.attention.window, block.attention.position.base) for block in model.stack.layers]


@pytest.mark.parametrize("name", BOTH)
def test_the_first_layer_alone_has_no_norm_before_its_attention(name: str):
    model = read(name)
    assert [block.attention_norm for block in model.stack.layers] == [False, True, True, True, True]
    assert layers(model) == [(None, 160_000.0), (3, 10_000.0), (3, 10_000.0), (None, 160_000.0), (3, 10_000.0)]


@pytest.mark.parametrize("name", BOTH)
def test_old_and_new_keys_mean_the_same(name: str):
    """Of transformers 4: two thetas and a count of layers. Of 5: a rotation and a type for each kind of layer."""
    old = read(name, global_attn_every_n_layers=2, global_rope_theta=5e3, local_rope_theta=70.0)
    kinds = ["full_attention" if layer % 2 == 0 else "sliding_attention" for layer in range(5)]
    thetas = {"full_attention": {"rope_theta": 5e3}, "sliding_attention": {"rope_type": "default", "rope_theta": 70.0}}
    assert old == read(name, layer_types=kinds, rope_parameters=thetas)
    assert layers(old)[:2] == [(None, 5e3), (3, 70.0)]
    assert layers(read(name, global_rope_theta=5e3, local_rope_theta=None))[1] == (3, 5e3)


@pytest.mark.parametrize("name", BOTH)
def test_transformers_reads_each_half_of_an_export_alike(name: str, tmp_path: Path):
    """The keys of either generation alone say the same as both: windows, kinds of layers, rotations."""
    model = read(name, global_attn_every_n_layers=2, global_rope_theta=5e3, local_rope_theta=70.0)
    both = FAMILY[name].write_config(model)
    old, new = ("global_attn_every_n_layers", "global_rope_theta", "local_rope_theta"), ("layer_types", "rope_parameters")
    found = []
    for left_out in ((), old, new):
        keys = {key: value for key, value in both.items() if key not in left_out}
        assert FAMILY[name].read_config(keys, "test") == model
        (tmp_path / "config.json").write_text(json.dumps(keys))
        theirs = transformers.AutoConfig.from_pretrained(tmp_path)
        found.append((theirs.rope_parameters, theirs.layer_types, theirs.sliding_window))
    assert found[0] == found[1] == found[2]
    assert found[0][2] == 3


@pytest.mark.parametrize("name", BOTH)
def test_half_of_an_odd_window_is_rounded_down(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    import torch_reference as tr

    padding = {"pad_token_id": 0}
    monkeypatch.setitem(CASES, "odd", (name, MODERN | padding | {"local_attention": 7}))
    wanted = their_logits(save("odd", tmp_path / "hf"), "odd")
    values = read_values(tmp_path / "hf")
    errors = {}
    for width in (5, 7, 8):
        keys = values | {"local_attention": width, "sliding_window": width // 2}
        (tmp_path / "hf" / "config.json").write_text(json.dumps(keys))
        with torch.no_grad():
            got, _ = tr.load_pretrained(tmp_path / "hf")(torch.from_numpy(inputs("odd")["tokens"]))
        errors[width] = relative_error(got.numpy(), wanted)
    assert errors[7] < FLOAT32_MODEL < 1e-2 < min(errors[5], errors[8])


IDLE = "classifier_pooling deterministic_flash_attn layer_norm_eps position_embedding_type reference_compile sparse_prediction"


@pytest.mark.parametrize("name", BOTH)
def test_keys_of_released_files_that_do_nothing_are_read_over(name: str):
    assert read(name, **dict.fromkeys(IDLE.split(), "mean")) == read(name)


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "two windows": ({"sliding_window": 4}, "sliding_window=4 is not half of local_attention=6"),
    "no window": ({"local_attention": None}, "window"),
    "window of nothing": ({"local_attention": 1}, "window"),
    "one rotation": ({"rope_parameters": {"rope_type": "default", "rope_theta": 1e4}}, "wanted a rotation each"),
    "scaling": ({"rope_scaling": {"rope_type": "linear", "factor": 2.0}}, "rope_scaling="),
    "kinds": ({"layer_types": ["full_attention"]}, "layer_types="),
    "period": ({"global_attn_every_n_layers": 0}, "a key has a value that no"),
    "unknown": ({"normalise_twice": True}, "'normalise_twice': True"),
}


@pytest.mark.parametrize("name", BOTH)
@pytest.mark.parametrize("case", REFUSED)
def test_what_means_nothing_is_refused(name: str, case: str):
    keys, message = REFUSED[case]
    with pytest.raises(ConfigError) as caught:
        read(name, **keys)
    assert message in str(caught.value)


@pytest.mark.parametrize("name", BOTH)
def test_a_first_layer_with_a_norm_is_no_modernbert(name: str):
    model = read(name)
    plain = model.stack.layers[0].model_copy(update={"attention_norm": True})
    stack = model.stack.model_copy(update={"first": (plain, *model.stack.first[1:])})
    with pytest.raises(ConfigError, match=r"layers\.0\.attention_norm: the model has True, the family False"):
        FAMILY[name].write_config(model.model_copy(update={"stack": stack}))


@pytest.mark.parametrize("case", ["modernbert, classes", "modernbert, two classes"])
def test_scores_of_padded_rows_are_theirs(case: str, tmp_path: Path):
    """The mean is over what is not padding, and the state of the first token is the first row's."""
    import torch_reference as tr

    theirs = save(case, tmp_path / "hf")
    ours = tr.load_pretrained(tmp_path / "hf")
    ids = torch.from_numpy(np.random.default_rng(1).integers(3, TOKENS, (3, 12)))
    real = torch.arange(12)[None, :] < torch.tensor([12, 7, 2])[:, None]
    with torch.no_grad():
        wanted = theirs(input_ids=ids, attention_mask=real.long()).logits.numpy()
        got, _ = ours(ids, segments=real.int())
    assert relative_error(got.numpy(), wanted) < FLOAT32_MODEL


def test_a_model_saved_without_a_head_is_read(tmp_path: Path):
    """``ModernBertModel``, for a caller that gives it a head of its own."""
    from jax_transformer.convert.hf import open_tensors
    from jax_transformer.convert.hub import open_weights
    from torch_reference.models import abstract_model

    theirs = save("modernbert", tmp_path / "hf")
    theirs.model.save_pretrained(tmp_path / "bare")
    c = FAMILY["modernbert"].read_config(read_values(tmp_path / "bare"), "test")
    shapes = {name: tuple(one.shape) for name, one in abstract_model(c).state_dict().items() if not name.startswith("head.")}
    _, view = open_tensors((c, {}), FAMILY["modernbert"], open_weights(tmp_path / "bare"), lambda _: shapes)
    wanted = theirs.model.state_dict()["layers.1.attn.Wqkv.weight"].numpy()
    np.testing.assert_array_equal(view.read("stack.layers.1.attn.k_proj.weight"), wanted[24:48])
