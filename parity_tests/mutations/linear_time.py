"""Mistakes in mixers of linear time: their fields, their formulas, what they carry from token to token."""

from typing import Any

import torch
from torch import Tensor, nn

from parity_tests import torch_side
from parity_tests.mutations.mutation import Mutation, on_field, on_forward, replacing
from torch_reference.nn import short_conv as conv_file
from torch_reference.nn.attention import gated_delta as delta_file
from torch_reference.nn.attention import linear as linear_file
from torch_reference.nn.heads import Head
from torch_reference.nn.params import Maker
from torch_reference.ops.linear_attention import chunked as sums_file

_BASE, _DELTA, _LINEAR, _STRUCTURE = "linear_time", "stack.layers.0.attn", "stack.layers.1.attn", "structure"
_CONV, _RULE, _STEPS, _GATE = (
    conv_file.short_conv,
    delta_file.chunked_delta_rule,
    delta_file.recurrent_delta_rule,
    delta_file.decay_gate,
)
_SUMS, _SUM_STEPS = linear_file.chunked_linear_attention, linear_file.recurrent_linear_attention


def _fields() -> list[Mutation]:
    delta, linear = "stack.pattern.0.attention", "stack.pattern.1.attention"
    delta_sizes = {"num_key_heads": 3, "num_value_heads": 4, "key_dim": 4, "v_dim": 5, "conv_width": 3}
    linear_sizes = {"num_heads": 4, "num_kv_heads": 3, "head_dim": 5, "v_dim": None, "qkv_bias": False, "o_bias": False}
    wrong = [
        *(("GatedDelta", f"{delta}.{name}", value, _STRUCTURE) for name, value in delta_sizes.items()),
        *(("Linear", f"{linear}.{name}", value, _STRUCTURE) for name, value in linear_sizes.items()),
        ("GatedDelta", f"{delta}.l2_eps", 1.1e-2, f"forward {_DELTA}.[qk]"),
        ("GatedDelta", f"{delta}.allow_neg_eigval", False, f"forward {_DELTA}.beta"),
        ("RMSNorm", f"{delta}.norm.eps", 1.1e-3, f"forward {_DELTA}$", " of the delta rule"),
        ("Linear", f"{linear}.eps", 0.11, f"forward {_LINEAR}.mixed"),
    ]
    return [on_field(_BASE, *row) for row in wrong]


def _in_file(file: Any, name: str, change: Any, label: str, first: str) -> Mutation:
    return Mutation(label, _BASE, patch=replacing(file, name, change), first=first)


def _later_decay(q: Tensor, k: Tensor, v: Tensor, decay: Tensor, beta: Tensor, **options: Any) -> tuple[Tensor, Tensor]:
    """Each token decays the state as the one after it should."""
    return _RULE(q, k, v, torch.nn.functional.pad(decay, (0, 0, 0, 1))[:, 1:], beta, **options)


def _tiled(q: Tensor, k: Tensor, v: Tensor, *rest: Tensor, **options: Any) -> tuple[Tensor, Tensor]:
    times = v.shape[2] // k.shape[2]
    return _RULE(q.repeat(1, 1, times, 1), k.repeat(1, 1, times, 1), v, *rest, **options)


def _tiled_sums(q: Tensor, k: Tensor, v: Tensor, **options: Any) -> tuple[Tensor, Any]:
    times = q.shape[2] // k.shape[2]
    return _SUMS(q, k.repeat(1, 1, times, 1), v.repeat(1, 1, times, 1), **options)


def _formulas() -> list[Mutation]:
    mixed = f"forward {_DELTA}.mixed"

    def leaking(function: Any) -> Any:
        def leak(*args: Any, segments: Tensor | None, **rest: Any) -> Any:
            return function(*args, segments=None if segments is None else (segments != 0).int(), **rest)

        return leak

    def both_ways(q: Tensor, k: Tensor, v: Tensor, *, state: Any, **rest: Any) -> Any:
        return sums_file.chunked_bidirectional_linear_attention(q, k, v, **rest), state

    conv, linear = f"forward {_DELTA}.[qkv]", f"forward {_LINEAR}.mixed"
    return [
        _in_file(delta_file, "l2_norm", lambda x, eps: x, "queries and keys of any length", f"forward {_DELTA}.[qk]"),
        _in_file(
            delta_file,
            "decay_gate",
            lambda a, a_log, bias: _GATE(a, a_log, 0 * bias),
            "decay without bias",
            f"forward {_DELTA}.decay",
        ),
        _in_file(delta_file, "chunked_delta_rule", _later_decay, "decay of another token", mixed),
        _in_file(delta_file, "chunked_delta_rule", _tiled, "key heads tiled", mixed),
        _in_file(delta_file, "chunked_delta_rule", leaking(_RULE), "state leaks across segments", mixed),
        _in_file(conv_file, "short_conv", lambda x, w, **rest: _CONV(x, w.flip(1), **rest), "filter reversed", conv),
        _in_file(conv_file, "short_conv", lambda x, w, segments, state: _CONV(x, w, state=state), "filter leaks", conv),
        _in_file(linear_file, "chunked_linear_attention", _tiled_sums, "kv heads of sums tiled", linear),
        _in_file(linear_file, "chunked_linear_attention", leaking(_SUMS), "sums leak across segments", linear),
        _in_file(linear_file, "chunked_linear_attention", both_ways, "sums see the future", linear),
        _in_file(sums_file, "feature_map", torch.relu, "another feature map", linear),
        Mutation(
            "norm of the delta rule left out", _BASE, patch=on_forward(f"{_DELTA}.norm", _identity), first=f"forward {_DELTA}$"
        ),
    ]


def _identity(module: Any, forward: Any, x: Tensor) -> Tensor:
    return x


def _decoding() -> list[Mutation]:
    def fresh(function: Any) -> Any:
        return lambda *args, state, **rest: function(*args, state=None, **rest)

    def forgetful(module: Any, forward: Any, x: Tensor, context: Any, *, cache: Any, **rest: Any) -> Any:
        """The last of three calls leaves what it found."""
        out, memory = forward(x, context, cache=cache, **rest)
        return out, (memory if cache is None or int(cache[1]) < 8 else cache[0])

    first = "decode decoded across"
    return [
        _in_file(delta_file, "recurrent_delta_rule", fresh(_STEPS), "delta state not carried", first),
        _in_file(conv_file, "short_conv", fresh(_CONV), "window of the filter not carried", first),
        _in_file(linear_file, "recurrent_linear_attention", fresh(_SUM_STEPS), "sums not carried", first),
        Mutation("last delta state lost", _BASE, patch=on_forward(_DELTA, forgetful), first="decode state layers.0"),
        Mutation("last sums lost", _BASE, patch=on_forward(_LINEAR, forgetful), first="decode state layers.1"),
    ]


def _others() -> list[Mutation]:
    def narrow(q: Tensor, k: Tensor, v: Tensor, *rest: Tensor, **options: Any) -> tuple[Tensor, Tensor]:
        return _RULE(q.to(v.dtype), k.to(v.dtype), v, *rest, **options)

    def alike(self: Maker, bounds: Any, shape: tuple[int, ...], log: bool = False) -> nn.Parameter:
        return nn.Parameter(torch.full(shape, 0.01, dtype=getattr(torch, self.dtype.param)))

    undecayed = replacing(torch_side, "ShortConv", Head)
    return [
        _in_file(delta_file, "chunked_delta_rule", narrow, "delta rule in 16 bits", f"casts {_DELTA}.mixed"),
        _in_file(Maker, "uniform", alike, "heads forget alike", "init standard deviation of decay rates"),
        Mutation("filters do not decay", _BASE, patch=undecayed, first="optimizer .*_conv.weight change"),
    ]


LINEAR_TIME_MUTATIONS = [*_fields(), *_formulas(), *_decoding(), *_others()]
