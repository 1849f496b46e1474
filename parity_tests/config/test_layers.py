"""Layers, stacks and whole models without a meaning are refused where they stand, each with the reason and what to change."""

from collections.abc import Callable
from typing import Any

import pytest
from pydantic import ValidationError

from jax_transformer import config as c
from jax_transformer.config.errors import ConfigError
from jax_transformer.config.implementation import MISSING
from jax_transformer.config.load import load_run
from parity_tests.builders import VOCAB, attention, block, cross, decoder, encoder, encoder_decoder, tower

STACK = "model.stack"
BLOCK = f"{STACK}.pattern[0]"
ATTENTION, FFN = f"{BLOCK}.attention", f"{BLOCK}.ffn"
POSITION = f"{ATTENTION}.position"
SCALING = f"{POSITION}.scaling"
NORM = "norm: {kind: rms_norm}"
BIAS = "position: {kind: shared_bias}"
FACTORS = "factor: 2.0, original_length: 64"
READS = "{num_heads: 2, head_dim: 8, qk_norm: {norm: {kind: rms_norm}, place: after_rope}}"


def layer(heads: int, position: str = "position: {kind: rope}") -> str:
    """A block as it is written."""
    own = f"attention: {{kind: softmax, num_heads: {heads}, head_dim: 8, {position}}}"
    return f"{{{own}, ffn: {{kind: mlp, hidden_dim: 8}}, {NORM}}}"


REFUSED: list[tuple[str, str, str]] = [
    (f"{ATTENTION}.window=0", f"{ATTENTION}.window", "got 0 (an integer), wanted a number of at least 1"),
    (f"{ATTENTION}.sink_tokens=2", ATTENTION, "sink_tokens=2 without a window: every token is visible already; set window or"),
    (
        f"{ATTENTION}={{kind: softmax, num_heads: 2, head_dim: 8, qk_norm: {{{NORM}, place: after_rope}}, {BIAS}}}",
        ATTENTION,
        "qk_norm.place=after_rope, but position is shared_bias: use before_rope",
    ),
    (f"{ATTENTION}={{kind: complex, num_heads: 2, head_dim: 5}}", ATTENTION, "head_dim=5 is odd: its two halves turn at the"),
    (
        f"{ATTENTION}={{kind: mla, num_heads: 2, kv_rank: 8, nope_dim: 8, rope_dim: 5, v_dim: 8}}",
        ATTENTION,
        "head_dim=5 * fraction=1.0 gives rotary_dim=5; it must be even and at least 2",
    ),
    (
        f"{ATTENTION}={{kind: mla, num_heads: 2, kv_rank: 8, nope_dim: 8, rope_dim: 4, v_dim: 8, position: {{kind: alibi}}}}",
        f"{POSITION}.kind",
        "got 'alibi' (a string), wanted one of rope, none",
    ),
    # A layer has one kind of position: ALiBi beside RoPE cannot be written.
    (f"{POSITION}=[{{kind: rope}}, {{kind: alibi}}]", POSITION, "got [{'kind': 'rope'}, {'kind': 'alibi'}] (a list)"),
    (f"{POSITION}={{kind: alibi, base: 100.0}}", f"{POSITION}.base", "unknown field"),
    (f"{POSITION}={{kind: rope, max_bias: 8.0}}", f"{POSITION}.max_bias", "unknown field"),
    (f"{ATTENTION}.alibi=true", f"{ATTENTION}.alibi", "unknown field"),
    (f"{POSITION}={{kind: t5_bias, num_buckets: 5}}", POSITION, "num_buckets=5 is odd: half of them serve each direction"),
    (f"{POSITION}={{kind: t5_bias, num_buckets: 2}}", f"{POSITION}.num_buckets", "wanted a number of at least 4"),
    (
        f"{POSITION}={{kind: t5_bias, num_buckets: 8, max_distance: 4}}",
        POSITION,
        "max_distance=4 must be above num_buckets // 2 = 4, the distances that have a bucket each",
    ),
    (f"{POSITION}={{kind: rope, fraction: 0.0625, scaling: {{kind: ntk, factor: 2.0}}}}", ATTENTION, "ntk raises the base to"),
    (
        f"{POSITION}={{kind: rope, fraction: 0.0625, scaling: {{kind: dynamic_ntk, {FACTORS}}}}}",
        ATTENTION,
        "position.scaling: dynamic_ntk raises the base to the power d / (d - 2), but only d=2 dimensions rotate; rotate more",
    ),
    (
        f"{SCALING}={{kind: longrope, {FACTORS}, short_factors: [1.0], long_factors: [1.0]}}",
        ATTENTION,
        "position.scaling.short_factors: got 1 factors, wanted one for each of the 16 rotated pairs",
    ),
    (
        f"{SCALING}={{kind: longrope, {FACTORS}, short_factors: {[1.0] * 16}, long_factors: {[1.0] * 17}}}",
        ATTENTION,
        "position.scaling.long_factors: got 17 factors, wanted one for each of the 16 rotated pairs",
    ),
    (
        f"{SCALING}={{kind: yarn, {FACTORS}, beta_fast: 2.0, beta_slow: 2.0}}",
        SCALING,
        "beta_fast=2.0 must be above beta_slow=2.0: fast pairs turn more often",
    ),
    (
        f"{SCALING}={{kind: llama3, {FACTORS}, low_frequency_factor: 4.0, high_frequency_factor: 3.0}}",
        SCALING,
        "high_frequency_factor=3.0 must not be below low_frequency_factor=4.0: the blend lies between them",
    ),
    (f"{SCALING}={{kind: linear, factor: 0.5}}", f"{SCALING}.factor", "wanted a number of at least 1"),
    (f"{FFN}={{kind: mlp}}", FFN, "hidden_dim=None and expansion_factor=None: the width is given by exactly one of them"),
    (f"{FFN}={{kind: glu, hidden_dim: 8, expansion_factor: 2.0}}", FFN, "hidden_dim=8 and expansion_factor=2.0: the width"),
    (
        f"{FFN}={{kind: clamped_glu, hidden_dim: 8, multiple_of: 4}}",
        FFN,
        "multiple_of=4 rounds a width given by expansion_factor, but hidden_dim=8 is taken as it is: leave multiple_of out",
    ),
    (f"{BLOCK}.cross_attention={READS}", f"{BLOCK}.cross_attention", "but cross-attention has no positions: use before_rope"),
    (f"{STACK}.hybrid_ratio=3", STACK, "hybrid_ratio=3 mixes two kinds of block, but pattern has 1: give two, or write the"),
    (
        f"{STACK}={{num_layers: 1, first: [{layer(2)}], pattern: [{layer(2)}]}}",
        STACK,
        "num_layers=1 counts all layers, but first has 1 already: none is left for the pattern",
    ),
    (f"{POSITION}={{kind: shared_bias}}", STACK, "but there is none: set stack.shared_bias"),
    (f"{STACK}.shared_bias={{kind: t5_bias}}", STACK, "shared_bias is used by no layer: give an attention position"),
    (
        f"{STACK}={{num_layers: 2, shared_bias: {{kind: t5_bias}}, pattern: [{layer(2, BIAS)}, {layer(4, BIAS)}]}}",
        STACK,
        "shared_bias has one number per head, but the layers that use it have [2, 4] heads",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("override", "path", "reason"), REFUSED, ids=[f"{n}" for n in range(len(REFUSED))])
def test_a_layer_without_a_meaning_is_refused_where_it_stands(override: str, path: str, reason: str):
    with pytest.raises(ConfigError) as caught:
        load_run("quickstart", [override])
    assert any(f": {path}: " in line and reason in line for line in str(caught.value).splitlines()), caught.value


@pytest.mark.parametrize("placement", ["post", "sandwich", "output"])
@pytest.mark.parametrize("parallel", ["shared", "separate"])
def test_parallel_branches_read_one_normalised_input(parallel: str, placement: str):
    with pytest.raises(ConfigError) as caught:
        load_run("quickstart", [f"{BLOCK}.parallel={parallel}", f"{BLOCK}.placement={placement}"])
    assert f"{BLOCK}: parallel={parallel} with placement={placement} has no meaning" in str(caught.value)
    assert "use placement: pre, or leave parallel out" in str(caught.value)
    with pytest.raises(ValidationError, match=f"parallel={parallel} with cross_attention has no meaning: .* leave one of them"):
        block(parallel=parallel, cross_attention=cross())
    block(parallel=parallel)


WANTED = {"dropout": 0.1, "softcap": 30.0, "sink_logits": True, "sink_tokens": 2, "chunk_size": 4}
"""Of each field that some form cannot compute, a value that asks for it."""


@pytest.mark.parametrize(("form", "name"), [(form, name) for form, names in MISSING.items() for name in names])
def test_a_form_that_cannot_compute_a_field_refuses_it(form: str, name: str):
    heads: dict[str, Any] = {"num_kv_heads": None, "head_dim": 8}
    asked = {name: WANTED[name], "window": None if name == "chunk_size" else 8}
    with pytest.raises(ValidationError, match=f"implementation={form} cannot compute {name}={WANTED[name]}: leave {name} out"):
        attention(implementation=form, **heads, **asked)
    attention(implementation=form, window=8, **heads)


def pair(encoding: dict[str, Any] | None = None, decoding: dict[str, Any] | None = None, **changes: Any) -> c.EncoderDecoder:
    reading = block(cross_attention=cross())
    return encoder_decoder(tower(block(), **encoding or {}), tower(reading, **decoding or {}), **changes)


TYPED, NARROW = ({"embedding": c.Embedding(**{name: 3})} for name in ("num_token_types", "dim"))
MODELS: list[tuple[Callable[[], Any], str]] = [
    (lambda: decoder(block(), block(cross_attention=cross())), r"[^.]stack\.pattern\[1\]\.cross_attention: a decoder has no"),
    (lambda: encoder(block(cross_attention=cross())), r"[^.]stack\.pattern\[0\]\.cross_attention: an encoder reads nothing"),
    (
        lambda: encoder_decoder(tower(block(cross_attention=cross())), tower(block(cross_attention=cross()))),
        r"encoder\.stack\.pattern\[0\]\.cross_attention: the encoder reads nothing but its own input; leave it out",
    ),
    (lambda: encoder_decoder(tower(block()), tower(block())), r"decoder\.stack: no block has cross_attention, so the"),
    (
        lambda: encoder(block(), embedding=c.Embedding(dim=3), head=c.MlmHead(transform=False)),
        r"head\.transform=false, but embedding\.dim=3 is not d_model=10: .* leave one of them out",
    ),
    (lambda: pair(TYPED), r"encoder\.embedding\.num_token_types=3: an encoder-decoder tells its two sequences apart"),
    (lambda: pair(None, TYPED), r"decoder\.embedding\.num_token_types=3: an encoder-decoder tells its two sequences apart"),
    (lambda: pair(start_token=VOCAB), rf"start_token={VOCAB} is outside the vocabulary \[0, {VOCAB}\)"),
    (lambda: pair(NARROW), r"share_embedding: .* 3 wide and the decoder's 10, by their .*: set one embedding\.dim for"),
]  # fmt: skip


@pytest.mark.parametrize(("build", "reason"), MODELS)
def test_a_model_without_a_meaning_is_refused(build: Callable[[], Any], reason: str):
    with pytest.raises(ValidationError, match=reason):
        build()


def test_what_is_just_allowed_is_accepted():
    load_run("quickstart", [f"{POSITION}={{kind: t5_bias, num_buckets: 8, max_distance: 5}}"])
    load_run("quickstart", [f"{POSITION}={{kind: rope, fraction: 0.125, scaling: {{kind: ntk, factor: 2.0}}}}"])
    load_run("quickstart", [f"{ATTENTION}.window=1"])
    pair(NARROW, NARROW)
    pair(NARROW, share_embedding=False)
    pair(start_token=VOCAB - 1)
