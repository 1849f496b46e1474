"""Every preset builds and is as large as it says; at reduced width it is the same in both frameworks, also after training."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from jax_transformer import config as c
from jax_transformer import count_parameters, load_config
from jax_transformer.config.load import from_json, preset_names, to_json
from jax_transformer.config.tree import nodes
from jax_transformer.convert.pretrained import load_pretrained, save_pretrained
from jax_transformer.train.loop import train
from parity_tests.inputs import packed_batch
from parity_tests.ladder import run_ladder
from parity_tests.measured import Plan
from parity_tests.tolerances import FLOAT32_MODEL, relative_error
from torch_reference.checkpoint import load_pretrained as load_mirror

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
NAMES = [name for name in preset_names() if "/" not in name]
PUBLISHED = {
    "bert_base": 109_514_298,
    "gemma3_1b": 999_885_952,
    "gpt2_124m": 124_439_808,
    "llama3_8b": 8_030_261_248,
    "mistral_7b": 7_241_732_096,
    "t5_small": 60_506_624,
}
"""Parameters of the weights that their authors published."""
VARIED = ("bert_base", "deltanet_tiny", "gemma3_1b", "mixtral_tiny", "qwen3_mini", "t5_small")
"""No two of them are of the same parts; the others climb the ladder in the long test."""
QUICK = Plan(dtypes=("float64",), steps=1, runs=("clipped",), init=False, optimize=False)
SMALL = {
    "vocab_size": 280,
    "d_model": 24,
    "max_length": 20,
    "max_source_length": 30,
    "start_token": 3,
    "num_heads": 4,
    "head_dim": 16,
    "hidden_dim": 40,
    "dim": 11,
    "q_rank": 9,
    "kv_rank": 10,
    "nope_dim": 6,
    "rope_dim": 4,
    "v_dim": 5,
    "window": 5,
    "sink_tokens": 2,
    "num_key_heads": 2,
    "num_value_heads": 4,
    "key_dim": 6,
    "num_experts": 4,
    "original_length": 8,
}
"""What a size becomes, by its field's name; a smaller one stays."""


def shrink(name: str) -> Any:
    """A preset at reduced width and depth, with the same parts."""
    return from_json(to_json(_shrunk(load_config(name))))  # checked again


def _shrunk(node: c.Config) -> Any:
    changes = {name: _value(name, getattr(node, name)) for name in type(node).model_fields}
    if isinstance(node, c.Softmax | c.CrossAttention) and node.num_kv_heads is not None:
        few = {1: 1, node.num_heads: changes["num_heads"]}
        changes["num_kv_heads"] = few.get(node.num_kv_heads, 2)
    if isinstance(node, c.Stack):
        repeats, rest = _repeats(node)
        changes["num_layers"] = len(node.first) + min(repeats, 2) * len(node.period) + rest
    return node.model_copy(update=changes)


def _value(name: str, value: Any) -> Any:
    if isinstance(value, tuple):
        return tuple(_value(name, item) for item in value)
    if isinstance(value, c.Config):
        return _shrunk(value)
    return min(value, SMALL[name]) if name in SMALL and value is not None else value


def _repeats(stack: c.Stack) -> tuple[int, int]:
    """How often the pattern is repeated, and how many layers are left."""
    return divmod(stack.num_layers - len(stack.first), len(stack.period))


@pytest.mark.parametrize("name", NAMES)
def test_a_preset_has_the_parameters_that_its_comment_says(name: str) -> None:
    comment = (CONFIGS / f"{name}.yaml").read_text().partition("\nkind:")[0]
    assert re.findall(r"([\d,]+) parameters\.", comment) == [f"{count_parameters(load_config(name)):,}"]


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_model_has_its_published_size(name: str) -> None:
    assert count_parameters(load_config(name)) == PUBLISHED[name]


@pytest.mark.parametrize("name", NAMES)
def test_a_shrunk_preset_has_the_same_parts(name: str) -> None:
    whole, small = load_config(name), shrink(name)
    assert [type(node) for node in nodes(small)] == [type(node) for node in nodes(whole)]
    assert count_parameters(small) < 200_000
    stacks = [[node for node in nodes(config) if isinstance(node, c.Stack)] for config in (whole, small)]
    for long, short in zip(*stacks, strict=True):
        assert _repeats(short) == (min(_repeats(long)[0], 2), _repeats(long)[1])


@pytest.mark.parametrize("name", [name if name in VARIED else pytest.param(name, marks=pytest.mark.slow) for name in NAMES])
def test_a_shrunk_preset_is_the_same_in_both_frameworks(name: str) -> None:
    report = run_ladder(shrink(name), plan=QUICK, title=name)
    assert report.passed, report.summary()


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_shrunk_preset_trains_and_its_export_is_the_same_in_torch(name: str, tmp_path: Path) -> None:
    small = shrink(name)
    run = c.Run(
        model=small,
        data=c.Data(sequence_length=20),
        train=c.Train(steps=20, warmup_steps=4, batch_size=16, learning_rate=3e-3, log_every=1, evaluate_batches=2),
        checkpoints=c.Checkpoints(every=20),
        mesh=c.Mesh(data=-1, fsdp=1),  # fewer collectives: many fake devices that wait for one another are slow
    )
    assert train(run, tmp_path / "run").step == 20
    losses = [json.loads(line)["loss"] for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert losses[-1] < losses[0]
    trained = load_pretrained(tmp_path / "run" / "export")
    save_pretrained(trained, tmp_path / "saved")
    mirror = load_mirror(tmp_path / "saved").eval()
    inputs = packed_batch(small, seed=0).inputs
    wanted, _ = trained(**inputs)
    with torch.no_grad():
        got, _ = mirror(**{key: torch.from_numpy(value).long() for key, value in inputs.items()})
    assert relative_error(got.numpy(), np.asarray(wanted)) <= FLOAT32_MODEL
