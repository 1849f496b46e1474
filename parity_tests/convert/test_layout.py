"""JAX <-> hub is a bijection that moves values and never computes them."""

import itertools
from dataclasses import dataclass, replace
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jax_transformer.config.errors import WeightsError
from jax_transformer.convert.layout import check_names, entries_by_param, from_hub, hub_entries, read_param, to_hub

FLOAT32 = np.dtype(np.float32)


@dataclass(frozen=True)
class Spec:
    """The layout's view of a parameter, without jax."""

    shape: tuple[int, ...]
    dtype: Any = FLOAT32
    axes: tuple[str, ...] = ()
    contracted: int = 0
    copies: int = 0


def kernel(*shape, contracted=1, batch=()):
    return Spec((*batch, *shape), axes=("x",) * len(shape), contracted=contracted)


def copied(spec, copies):
    """``spec`` once for each of ``copies`` experts."""
    shape, stacked = spec.shape, len(spec.shape) - len(spec.axes)
    return replace(spec, shape=(*shape[:stacked], copies, *shape[stacked:]), axes=("experts", *spec.axes), copies=1)


def plain(*shape):
    return Spec(shape, axes=("x",) * len(shape))


SIZE = st.integers(1, 4)
DIMS = st.lists(SIZE, min_size=1, max_size=2).map(tuple)


@st.composite
def kernels(draw):
    inputs, outputs = draw(DIMS), draw(DIMS)
    spec = kernel(*inputs, *outputs, contracted=len(inputs), batch=draw(st.lists(SIZE, max_size=1).map(tuple)))
    return copied(spec, draw(SIZE)) if draw(st.booleans()) else spec


LEAVES = {
    "kernel": kernels(),
    "bias": st.one_of(DIMS.map(lambda dims: plain(*dims)), st.builds(copied, DIMS.map(lambda dims: plain(*dims)), SIZE)),
    "scale": st.one_of(st.just(plain()), SIZE.map(plain)),
    "filter": st.tuples(SIZE, SIZE).map(lambda dims: Spec(dims, axes=("x", "x"), contracted=1)),
    **{name: SIZE.map(plain) for name in ("A_log", "dt_bias")},
    "embedding": st.tuples(SIZE, SIZE).map(lambda dims: plain(*dims)),
}


@st.composite
def modules(draw):
    """Parameters of a small module, by path below it."""
    paths = draw(st.lists(st.sampled_from(["a", "b.c", "norm", "q.tails"]), min_size=1, max_size=3, unique=True))
    leaves = {path: draw(st.sampled_from(sorted(LEAVES))) for path in paths}
    return {f"{path}.{leaf}": draw(LEAVES[leaf]) for path, leaf in leaves.items()}


@st.composite
def models(draw):
    """Specs of a model with a stack of drawn period, repeats and tail."""
    pattern = draw(st.lists(modules(), min_size=1, max_size=3))
    repeats = draw(st.integers(0, 12))
    tail = draw(st.integers(0 if repeats else 1, max(len(pattern) - 1, 1 - min(repeats, 1))))
    prefix = draw(st.sampled_from(["stack.", "encoder.stack.", ""]))
    specs = {f"outer.{path}": spec for path, spec in draw(modules()).items()}
    for (slot, module), _ in itertools.product(enumerate(pattern), range(min(repeats, 1))):
        for path, spec in module.items():
            specs[f"{prefix}slots.{slot}.{path}"] = replace(spec, shape=(repeats, *spec.shape))
    for layer in range(tail):
        specs |= {f"{prefix}tail.{layer}.{path}": spec for path, spec in pattern[layer].items()}
    return specs, prefix, len(pattern), repeats, tail


def random_params(specs, dtype=FLOAT32, seed=0):
    """Random bits: NaN payloads and signed zeros included."""
    rng = np.random.default_rng(seed)
    return {
        path: rng.integers(0, 256, (*spec.shape, dtype.itemsize), np.uint8).view(dtype).reshape(spec.shape)
        for path, spec in specs.items()
    }


def assert_same_bits(a, b):
    assert a.keys() == b.keys()
    for name in a:
        assert (a[name].shape, a[name].dtype) == (b[name].shape, b[name].dtype), name
        assert a[name].tobytes() == b[name].tobytes(), name


@given(models(), st.sampled_from(["float64", "float32", "float16", "bfloat16"]))
def test_there_and_back_is_bit_exact(model, name):
    specs = model[0]
    dtype = np.dtype(ml_dtypes.bfloat16) if name == "bfloat16" else np.dtype(name)
    params = random_params(specs, dtype)
    hub = dict(to_hub(params, specs))
    back = from_hub(hub, specs)
    assert_same_bits(back, params)
    assert_same_bits(dict(to_hub(back, specs)), hub)


@given(models())
def test_entries_are_a_bijection(model):
    specs, prefix, period, repeats, tail = model
    entries = hub_entries(specs)
    hub = dict(to_hub(random_params(specs), specs))
    assert len({entry.hub_name for entry in entries}) == len(entries) == len(hub)
    assert len({(entry.jax_path, entry.index) for entry in entries}) == len(entries)
    assert {entry.jax_path for entry in entries} == set(specs)
    assert {entry.hub_name: entry.shape for entry in entries} == {name: array.shape for name, array in hub.items()}
    start = f"{prefix}layers."
    layers = {int(name.removeprefix(start).split(".")[0]) for name in hub if name.startswith(start)}
    assert layers == set(range(period * repeats + tail))
    assert not any(".slots." in f".{name}" or ".tail." in f".{name}" for name in hub)


@given(kernels())
def test_weight_times_x_is_x_times_kernel(spec):
    batch = spec.shape[: len(spec.shape) - len(spec.axes) + spec.copies]
    values = np.arange(np.prod(spec.shape), dtype=np.float32).reshape(spec.shape)
    ((name, weight),) = to_hub({"q.kernel": values}, {"q.kernel": spec})
    assert name == "q.weight"
    for index in np.ndindex(*batch):
        x = np.arange(np.prod(values[index].shape[: spec.contracted]), dtype=np.float32)
        wanted = np.tensordot(x.reshape(values[index].shape[: spec.contracted]), values[index], spec.contracted)
        assert np.array_equal(weight[index] @ x, wanted.ravel())


def test_the_names_of_a_hybrid_stack():
    specs = {
        "embed.embedding": plain(7, 5),
        "stack.slots.0.attn.q_proj.kernel": kernel(5, 2, 3, batch=(2,)),
        "stack.slots.1.attn.q_proj.bias": Spec((2, 2, 3), axes=("heads", "head_dim")),
        "stack.slots.1.attn.q_conv.filter": kernel(6, 4, batch=(2,)),
        "stack.slots.1.attn.dt_bias": Spec((2, 3), axes=("heads",)),
        "stack.tail.0.attn.A_log": plain(3),
        "stack.tail.0.attn.o_proj.kernel": kernel(2, 3, 5, contracted=2),
        "final_norm.scale": plain(5),
        "head.kernel": kernel(5, 7),
    }
    assert {entry.hub_name: (entry.shape, entry.jax_path, entry.index) for entry in hub_entries(specs)} == {
        "embed.weight": ((7, 5), "embed.embedding", None),
        "stack.layers.0.attn.q_proj.weight": ((6, 5), "stack.slots.0.attn.q_proj.kernel", 0),
        "stack.layers.2.attn.q_proj.weight": ((6, 5), "stack.slots.0.attn.q_proj.kernel", 1),
        "stack.layers.1.attn.q_proj.bias": ((6,), "stack.slots.1.attn.q_proj.bias", 0),
        "stack.layers.3.attn.q_proj.bias": ((6,), "stack.slots.1.attn.q_proj.bias", 1),
        "stack.layers.1.attn.q_conv.weight": ((6, 4), "stack.slots.1.attn.q_conv.filter", 0),
        "stack.layers.3.attn.q_conv.weight": ((6, 4), "stack.slots.1.attn.q_conv.filter", 1),
        "stack.layers.1.attn.dt_bias": ((3,), "stack.slots.1.attn.dt_bias", 0),
        "stack.layers.3.attn.dt_bias": ((3,), "stack.slots.1.attn.dt_bias", 1),
        "stack.layers.4.attn.A_log": ((3,), "stack.tail.0.attn.A_log", None),
        "stack.layers.4.attn.o_proj.weight": ((5, 6), "stack.tail.0.attn.o_proj.kernel", None),
        "final_norm.weight": ((5,), "final_norm.scale", None),
        "head.weight": ((7, 5), "head.kernel", None),
    }


@given(models(), st.data())
def test_a_part_is_that_part_of_the_whole_and_reads_no_more(model, data):
    specs = model[0]
    params = random_params(specs)
    hub = dict(to_hub(params, specs))
    for path, entries in entries_by_param(specs).items():
        shape = specs[path].shape
        starts = [data.draw(st.integers(0, size - 1)) for size in shape]
        part = tuple(slice(start, data.draw(st.integers(start + 1, size))) for start, size in zip(starts, shape, strict=True))
        pieces = []

        def read(name, own, pieces=pieces):
            pieces.append(hub[name] if own is None else hub[name][np.ix_(*own)])
            return pieces[-1]

        wanted = params[path][part]
        assert_same_bits({path: read_param(read, entries, specs[path], part)}, {path: wanted})
        assert sum(piece.size for piece in pieces) == wanted.size
        assert len(pieces) == (1 if entries[0].index is None else len(wanted))


def test_dimensions_that_the_hub_flattens_are_cut_where_they_are():
    specs = {"q.kernel": kernel(5, 4, 3)}
    hub = dict(to_hub(random_params(specs), specs))
    asked = []

    def read(name, own):
        asked.append([chosen.tolist() for chosen in own])
        return hub[name][np.ix_(*own)]

    entries = entries_by_param(specs)["q.kernel"]
    for part in ((slice(None), slice(1, 3), slice(None)), (slice(2, 3), slice(1, 3), slice(0, 2))):
        read_param(read, entries, specs["q.kernel"], part)
    assert asked == [[[3, 4, 5, 6, 7, 8], [0, 1, 2, 3, 4]], [[3, 4, 6, 7], [2]]]


def test_everything_that_does_not_fit_is_listed_at_once():
    specs = {"a.kernel": kernel(2, 3), "b.scale": plain(4), "c.bias": plain(5)}
    available = {"b.weight": np.zeros(3), "c.bias": np.zeros((5, 1)), "d.weight": np.zeros((1, 2)), "e": np.zeros(())}
    with pytest.raises(WeightsError) as caught:
        check_names(specs, available)
    assert str(caught.value).splitlines()[1:] == [
        "  missing: a.weight [3, 2]",
        "  unexpected: d.weight [1, 2]",
        "  unexpected: e []",
        "  shape: b.weight is [3], wanted [4]",
        "  shape: c.bias is [5, 1], wanted [5]",
    ]


BAD_SPECS = {
    "no rule": ({"a.table": plain(2)}, "no rule for 'table'"),
    "no module": ({"kernel": kernel(2, 3)}, "no rule for 'kernel'"),
    "collision": ({"a.kernel": kernel(2, 3), "a.scale": plain(2)}, "both be tensor 'a.weight'"),
    "collision of layers": ({"s.slots.0.a.scale": Spec((1, 2), axes=("x",)), "s.layers.0.a.scale": plain(2)}, "both be tensor"),
    "no outputs": ({"a.kernel": kernel(2, 3, contracted=2)}, "2 of 2 dims are inputs"),
    "no inputs": ({"a.kernel": kernel(2, 3, contracted=0)}, "0 of 2 dims are inputs"),
    "slot left out": ({"s.slots.1.a.scale": Spec((1, 2), axes=("x",))}, r"has slots \[1\]"),
    "repeats differ": ({f"s.slots.{i}.a.scale": Spec((i + 2, 2), axes=("x",)) for i in range(2)}, "no leading 2 repeats"),
    "not stacked": ({"s.slots.0.a.scale": plain(2)}, "no leading 2 repeats"),
}


@pytest.mark.parametrize(("specs", "message"), BAD_SPECS.values(), ids=BAD_SPECS.keys())
def test_a_structure_without_a_layout_is_refused(specs, message):
    with pytest.raises(WeightsError, match=message):
        hub_entries(specs)


def test_trees_of_another_structure_are_refused():
    params, specs = {"a.kernel": np.zeros((3, 2)), "c.scale": np.zeros(4)}, {"a.kernel": kernel(2, 3), "b.scale": plain(4)}
    with pytest.raises(WeightsError, match=r"a\.kernel: \(3, 2\), wanted \(2, 3\).*b\.scale: missing.*c\.scale: .*wanted none"):
        list(to_hub(params, specs))


def test_repeats_of_different_dtype_are_refused():
    hub = {"layers.0.a.weight": np.zeros(3, np.float32), "layers.1.a.weight": np.zeros(3, np.float16)}
    with pytest.raises(WeightsError, match=r"layers\.1\.a\.weight' is float16"):
        from_hub(hub, {"slots.0.a.scale": Spec((2, 3), axes=("x",))})
