"""A config survives being written, in YAML and in JSON."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from jax_transformer.config import Run
from jax_transformer.config.load import from_json, to_json
from jax_transformer.config.strict_yaml import dump_yaml, parse_yaml

RATE, COUNT, TEXT = st.floats(0, 0.99), st.integers(1, 10_000), st.text(st.characters(exclude_categories=["Cs"]))

NORM = st.sampled_from([{"kind": "rms_norm"}, {"kind": "layer_norm", "bias": False, "eps": 1e-3}])

ROPE = st.fixed_dictionaries(
    {"kind": st.just("rope"), "base": st.floats(1.5, 1e9), "layout": st.sampled_from(["half", "half_reversed", "interleaved"])}
)

FFN = st.fixed_dictionaries({"kind": st.sampled_from(["mlp", "glu"]), "hidden_dim": COUNT}, optional={"bias": st.booleans()})

SOURCE = st.just({"kind": "shakespeare"}) | st.fixed_dictionaries(
    {"kind": st.sampled_from(["text", "jsonl"]), "paths": st.lists(TEXT, min_size=1)}
)


@st.composite
def attentions(draw: st.DrawFn) -> dict[str, Any]:
    kv_heads, group, half = draw(st.tuples(st.integers(1, 8), st.integers(1, 8), st.integers(1, 64)))
    optional = {
        "position": ROPE | st.just({"kind": "none"}),
        "window": st.none() | COUNT,
        "scale": st.none() | st.floats(1e-3, 8),
        "dropout": RATE,
    }
    heads = {"kind": "softmax", "num_heads": kv_heads * group, "num_kv_heads": kv_heads, "head_dim": 2 * half}
    return heads | draw(st.fixed_dictionaries({}, optional=optional))


BLOCK = st.fixed_dictionaries({"attention": attentions(), "ffn": FFN, "norm": NORM}, optional={"dropout": RATE})

MODEL = st.fixed_dictionaries(
    {
        "kind": st.just("decoder"),
        "vocab_size": st.integers(259, 10**6),
        "d_model": COUNT,
        "max_length": st.just(10**6),
        "final_norm": NORM,
        "stack": st.fixed_dictionaries({"num_layers": COUNT, "pattern": st.lists(BLOCK, min_size=1, max_size=3)}),
    }
)

TRAIN = st.fixed_dictionaries(
    {
        "steps": st.integers(101, 10**9),
        "batch_size": COUNT,
        "learning_rate": st.floats(1e-3, 1),
        "clip_norm": st.none() | st.floats(1e-3, 1),
    }
)

DATA = st.fixed_dictionaries({"sequence_length": st.integers(2, 10**6), "source": SOURCE})


@given(st.fixed_dictionaries({"model": MODEL, "data": DATA, "train": TRAIN}))
def test_a_saved_config_loads_equal(tree: dict[str, Any]):
    run = from_json(json.dumps(tree))
    assert isinstance(run, Run)
    for config in (run, run.model):
        assert from_json(to_json(config)) == config
        assert from_json(json.dumps(parse_yaml(dump_yaml(config.model_dump(mode="json")), "test").tree)) == config
