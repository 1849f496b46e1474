"""Wrong types and impossible combinations are refused, each with what was got, what was wanted and the reason."""

import json
import math
from typing import Any

import pytest

from jax_transformer.config import Embedding, Run, Sampling, Sinusoidal
from jax_transformer.config.document import show_path
from jax_transformer.config.errors import ConfigError
from jax_transformer.config.load import from_json, load_config, load_run, make_config
from parity_tests.builders import block, cross, decoder, encoder, encoder_decoder, tower
from parity_tests.config.samples import every_field, parent, with_field
from parity_tests.linear_time import gated_delta, linear

BLOCK = "model.stack.pattern[0]"
ATTENTION = f"{BLOCK}.attention"
LINEAR = "kind: linear, num_heads: 4, head_dim: 8"
DELTA = "kind: gated_delta, num_value_heads: 4, key_dim: 8, v_dim: 8"
WRONG = (True, "abc", 1.5, -1, [], [1], {}, {"kind": "nothing"}, math.inf, 2**62)
"""Values of every type; most fields accept one or two of them."""


def refusal(text: str) -> str | None:
    try:
        from_json(text)
    except ConfigError as error:
        return str(error)
    return None


def test_a_wrong_type_anywhere_is_accepted_or_refused_by_path_and_never_crashes():
    refused = 0
    for path, owner, name in every_field():
        tree = with_field(path, owner)
        for value in WRONG:
            parent(tree, path)[name] = value
            message = refusal(json.dumps(tree).replace("Infinity", "1e999"))
            if message is not None:
                refused += 1
                assert show_path(path) in message or name in message or show_path(path[:-1]) in message, (path, value)
    assert refused > 500


@pytest.mark.parametrize(
    ("override", "wanted"),
    [
        ("train.steps=true", "got true (a boolean), wanted an integer"),
        ("train.steps=1e3", "got 1000.0 (a decimal number), wanted an integer"),
        ("train.steps='100'", "got '100' (a string), wanted an integer"),
        ("train.learning_rate=fast", "got 'fast' (a string), wanted a number"),
        ("train.learning_rate=true", "got true (a boolean), wanted a number"),
        ("train.learning_rate=.nan", "got nan (a decimal number), wanted a finite number"),
        ("train.learning_rate=.inf", "got inf (a decimal number), wanted a finite number"),
        ("train.learning_rate=-1e-3", "got -0.001 (a decimal number), wanted a number above 0"),
        ("train.seed=-1", "got -1 (an integer), wanted a number of at least 0"),
        ("train.optimizer.beta1=1.0", "got 1.0 (a decimal number), wanted a number below 1"),
        ("checkpoints.keep_best=1", "got 1 (an integer), wanted true or false"),
        ("checkpoints.keep_best=yes", "got 'yes' (a string), wanted true or false"),
        ("checkpoints={every: null}", "got null, wanted an integer"),
        ("checkpoints=3", "got 3 (an integer), wanted a mapping"),
        ("model.stack.pattern=[]", "got [] (a list), wanted a list of at least 1"),
        ("model.stack.pattern={}", "got {} (a mapping), wanted a list"),
        ("model.stack.num_layers=0", "got 0 (an integer), wanted a number of at least 1"),
        ("model.final_norm=rms_norm", "got 'rms_norm' (a string), wanted a mapping, as in {kind: rms_norm}"),
        ("model.final_norm={eps: 1e-6}", "missing field 'kind', one of rms_norm, layer_norm"),
        ("model.final_norm={knd: rms_norm}", "unknown field; did you mean 'kind'? It is one of rms_norm, layer_norm"),
        ("model.final_norm.kind=batch_norm", "got 'batch_norm' (a string), wanted one of rms_norm, layer_norm"),
        ("model.dtype.param=float8", "wanted one of float64, float32, bfloat16, float16; did you mean 'float"),
        ("data.source={kind: text, paths: a.txt}", "got 'a.txt' (a string), wanted a list"),
    ],
)
def test_a_wrong_value_is_refused_with_what_was_got_and_wanted(override: str, wanted: str):
    with pytest.raises(ConfigError) as caught:
        load_run("quickstart", [override])
    assert str(caught.value).startswith(f"override {override!r}: {override.partition('=')[0].partition('[')[0]}")
    assert wanted in str(caught.value)


@pytest.mark.parametrize(
    ("overrides", "reason"),
    [
        ([f"{ATTENTION}.num_kv_heads=3"], "num_heads=4 is not a multiple of num_kv_heads=3"),
        ([f"{ATTENTION}.num_kv_heads=8"], "num_kv_heads must divide num_heads"),
        ([f"{ATTENTION}.head_dim=31"], "head_dim=31 * fraction=1.0 gives rotary_dim=31"),
        ([f"{ATTENTION}.position.fraction=0.03"], "gives rotary_dim=0; it must be even and at least 2"),
        ([f"{ATTENTION}.position.fraction=0.7", f"{ATTENTION}.head_dim=10"], "gives rotary_dim=7"),
        ([f"{ATTENTION}.implementation=windowed"], "implementation=windowed without a window: set window"),
        (
            [f"{ATTENTION}.implementation=windowed", f"{ATTENTION}.window=8", f"{ATTENTION}.sink_tokens=2"],
            "implementation=windowed cannot compute sink_tokens=2: leave sink_tokens out",
        ),
        *(
            ([f"{ATTENTION}.implementation={form}", f"{ATTENTION}.chunk_size=8"], f"{form} cannot compute chunk_size=8: leave")
            for form in ("windowed", "cudnn", "splash")
        ),
        (
            [f"{ATTENTION}.chunk_size=8", f"{ATTENTION}.window=4"],
            "chunk_size=8 beside window=4 and sink_tokens=0: a token sees its chunk or a window",
        ),
        ([f"{ATTENTION}.chunk_size=8", f"{ATTENTION}.sink_tokens=2"], "sink_tokens=2: a token sees its chunk or a window"),
        (
            [f"{ATTENTION}.implementation=blockwise", f"{ATTENTION}.dropout=0.1"],
            "implementation=blockwise cannot compute dropout=0.1",
        ),
        (
            [f"{ATTENTION}.implementation=cudnn", f"{ATTENTION}.softcap=30.0"],
            "implementation=cudnn cannot compute softcap=30.0",
        ),
        ([f"{ATTENTION}.implementation=cudnn", f"{ATTENTION}.sink_logits=true"], "cannot compute sink_logits=True"),
        ([f"{ATTENTION}.implementation=cudnn", f"{ATTENTION}.head_dim=36"], "it wants a multiple of 8 up to 256"),
        ([f"{ATTENTION}.implementation=cudnn", f"{ATTENTION}.head_dim=264"], "it wants a multiple of 8 up to 256"),
        (
            [f"{ATTENTION}.implementation=splash", f"{ATTENTION}.position={{kind: alibi}}"],
            "implementation=splash cannot add the bias of position=alibi: use implementation: blockwise",
        ),
        (
            [f"{ATTENTION}={{kind: complex, num_heads: 2, head_dim: 4, implementation: splash}}"],
            "implementation=splash computes softmax attention of a sequence over itself only",
        ),
        ([f"{ATTENTION}={{{LINEAR}, num_kv_heads: 3}}"], "num_heads=4 is not a multiple of num_kv_heads=3"),
        ([f"{ATTENTION}={{{DELTA}, num_key_heads: 3}}"], "num_value_heads=4 is not a multiple of num_key_heads=3"),
        ([f"{BLOCK}.attention_norm=false", f"{BLOCK}.placement=post"], "attention_norm=false with placement=post"),
        ([f"{BLOCK}.attention_norm=false", f"{BLOCK}.placement=output"], "attention_norm=false with placement=output"),
        ([f"{BLOCK}.attention_norm=false", f"{BLOCK}.parallel=shared"], "leaves no norm to share"),
        (["data.sequence_length=129"], "data.sequence_length=129 is above model.max_length=128"),
        (["data.sequence_length=1"], "sequence_length=1 leaves nothing to predict from"),
        (["data.tokenizer={kind: byte}", "model.vocab_size=256"], "the byte tokenizer has 259 tokens but model.vocab_size=256"),
        (["data.tokenizer.vocab_size=513"], "the bpe tokenizer has 513 tokens but model.vocab_size=512"),
        (["train.warmup_steps=100", "train.steps=100"], "warmup_steps=100 must be below steps=100"),
        (["train.learning_rate=1e-5"], "min_learning_rate=0.0002 is above learning_rate=1e-05"),
        (["train.accumulation=3"], "batch_size=16 is not a multiple of accumulation=3"),
        (["mesh.data=-1"], "more than one axis is -1"),
        (["mesh.tensor=0"], "tensor=0: an axis has at least 1 device, or -1"),
    ],
)
def test_an_impossible_combination_is_refused_with_the_reason(overrides: list[str], reason: str):
    with pytest.raises(ConfigError) as caught:
        load_run("quickstart", overrides)
    assert reason in str(caught.value)


@pytest.mark.parametrize(
    ("mixer", "reason"),
    [
        (gated_delta(), "kind=gated_delta reads tokens in order"),
        (linear(implementation="recurrent"), "use auto, chunked or reference"),
    ],
    ids=["delta", "recurrent"],
)
def test_an_encoder_takes_no_mixer_that_reads_in_order(mixer: Any, reason: str):
    with pytest.raises(ValueError, match=rf"[^.]stack\.pattern\[1\]\.attention: .*{reason}"):
        encoder(block(), block(mixer))
    reading = tower(block(mixer, cross_attention=cross()))
    with pytest.raises(ValueError, match=rf"encoder\.stack\.pattern\[1\]\.attention: .*{reason}"):
        encoder_decoder(tower(block(), block(mixer)), reading)
    encoder_decoder(tower(block()), reading)


@pytest.mark.parametrize(
    ("position", "dim", "reason"),
    [
        (Sinusoidal(), 5, r"position: .* width is 5; use an even width"),
        (Sinusoidal(denominator="half_minus_one"), 2, r"position\.denominator: .* width is 2; use a width of at least 4"),
    ],
)
def test_a_width_that_holds_no_pairs_is_refused(position: Sinusoidal, dim: int, reason: str):
    embedding = Embedding(dim=dim, position=position)
    for build in (decoder, encoder):
        with pytest.raises(ValueError, match=rf"[^.]embedding\.{reason}"):
            build(block(), embedding=embedding)
    reading = tower(block(cross_attention=cross()))
    with pytest.raises(ValueError, match=rf"encoder\.embedding\.{reason}"):
        encoder_decoder(tower(block(), embedding=embedding), reading)


def test_only_an_encoder_has_a_width_of_its_own():
    reading = block(cross_attention=cross())
    with pytest.raises(ValueError, match=r"decoder\.d_model=12 is not d_model=10, which is the decoder's width"):
        encoder_decoder(tower(block()), tower(reading, d_model=12))
    with pytest.raises(ValueError, match="share_embedding: the encoder's table is 12 wide and the decoder's 10"):
        encoder_decoder(tower(block(), d_model=12), tower(reading))
    assert encoder_decoder(tower(block(), d_model=12), tower(reading), share_embedding=False).source_dim == 12
    assert encoder_decoder(tower(block()), tower(reading, d_model=10)).source_dim == 10


def test_every_problem_is_reported_at_once():
    with pytest.raises(ConfigError) as caught:
        load_run("quickstart", ["train.steps=0", "model.d_model=x", "data.sed=1"])
    assert [line.split(": ")[1] for line in str(caught.value).splitlines()[1:]] == ["data.sed", "model.d_model", "train.steps"]


def test_one_and_zero_are_numbers_and_an_integer_may_stand_for_a_float():
    run = load_run("quickstart", ["train.learning_rate=1", "train.min_learning_rate=0", "train.optimizer.eps=1e-9"])
    assert isinstance(run, Run)
    assert (run.train.learning_rate, run.train.min_learning_rate, run.train.optimizer.eps) == (1.0, 0.0, 1e-9)


@pytest.mark.parametrize("values", [{"temperature": -0.1}, {"top_k": 0}, {"top_p": 0.0}, {"top_p": 1.5}, {"seed": -1}])
def test_impossible_sampling_is_refused(values: dict[str, Any]):
    with pytest.raises(ConfigError, match=f"options: {next(iter(values))}: got .*, wanted a number"):
        make_config(Sampling, values, "options")


def test_a_config_is_frozen_and_hashable():
    config = load_config("mini_tiny")
    assert hash(config) == hash(load_config("mini_tiny"))
    with pytest.raises(ValueError, match="frozen"):
        config.vocab_size = 3
