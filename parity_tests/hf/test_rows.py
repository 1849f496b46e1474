"""Ops are permutations of bytes: one way and back is the identity, whatever the shapes and the dtype."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jax_transformer.config.errors import WeightsError
from jax_transformer.convert.byte_ops import Chain, Fuse, Insert, Reshape, Same, Stack, Transpose
from jax_transformer.convert.rows import Drop, Row, bind

SIZES = st.integers(1, 5)
DTYPES = st.sampled_from(["<f4", "<f2", "<i8", "u1"])


def arrays(shapes, dtype, seed=0):
    rng = np.random.default_rng(seed)
    made = []
    for shape in shapes:
        count = int(np.prod(shape)) * np.dtype(dtype).itemsize
        made.append(rng.integers(0, 256, count, np.uint8).view(dtype).reshape(shape))
    return made


def check(op, shapes, dtype):
    hub = arrays(shapes, dtype)
    other = op.from_hub(hub)
    assert [array.shape for array in other] == list(op.shapes(shapes))
    back = op.to_hub([np.ascontiguousarray(array) for array in other], shapes)
    assert [array.tobytes() for array in back] == [array.tobytes() for array in hub]
    rng = np.random.default_rng(1)
    for number, array in enumerate(hub):
        part = tuple(np.sort(rng.permutation(size)[: rng.integers(1, size + 1)]) for size in array.shape)
        taken = op.take(lambda one, own: other[one][np.ix_(*own)], number, part, shapes)
        assert taken.tobytes() == array[np.ix_(*part)].tobytes()
    assert sorted(b"".join(array.tobytes() for array in other)) == sorted(b"".join(array.tobytes() for array in hub))


@given(SIZES, SIZES, SIZES, SIZES, DTYPES)
def test_every_op_has_an_inverse(groups, width, other, columns, dtype):
    check(Same(), [(groups, width)], dtype)
    check(Transpose(), [(groups, width), (columns,)], dtype)
    check(Reshape((1, -1)), [(groups * width,)], dtype)
    check(Insert(), [(groups, width)], dtype)
    check(Stack(), [(groups, width, columns)], dtype)
    rows = [(groups * width, columns), (groups * other, columns), (groups * other, columns)]
    for op in (Fuse(), Fuse(groups), Chain((Fuse(groups), Transpose())), Chain((Fuse(groups), Fuse()))):
        check(op, rows, dtype)
    check(Fuse(groups), [shape[:1] for shape in rows], dtype)
    check(Fuse(axis=1), [(columns, *shape) for shape in rows], dtype)
    check(Fuse(columns, axis=1), [(groups, columns), (groups, columns)], dtype)
    check(Chain((Fuse(groups, axis=1), Stack())), [(columns, *shape) for shape in rows], dtype)


def test_groups_follow_one_another():
    q, k = np.arange(8).reshape(4, 2), 10 + np.arange(4).reshape(2, 2)
    (fused,) = Fuse(2).from_hub([q, k])
    assert fused[:, 0].tolist() == [0, 2, 10, 4, 6, 12]
    (columns,) = Fuse(2, axis=1).from_hub([np.array([[0, 1]]), np.array([[5, 6]])])
    assert columns.tolist() == [[0, 5, 1, 6]]


def test_a_table_that_does_not_cover_a_model_is_refused():
    hub = {f"stack.layers.{layer}.a.weight": (2, 3) for layer in range(2)} | {"b.weight": (3,)}
    row = Row("x.{layer}.w", ("stack.layers.{layer}.a.weight",))
    assert [one.theirs for one in bind([row, Row("y", ("b.weight",))], hub, {})] == [("x.0.w",), ("x.1.w",), ("y",)]
    with pytest.raises(WeightsError, match=r"b\.weight has no place"):
        bind([row], hub, {})
    with pytest.raises(WeightsError, match=r"b\.weight has 2 places"):
        bind([row, Row("y", ("b.weight",)), Row("z", ("b.weight",))], hub, {})


def test_a_row_speaks_of_some_configs_only():
    hub, facts = {"stack.layers.0.a.weight": (2, 2)}, {"layers.0.parallel": "shared"}
    rows = [
        Row(name, ("stack.layers.{layer}.a.weight",), when=("layers.{layer}.parallel", (value,)))
        for name, value in (("x", "shared"), ("y", None))
    ]
    assert [one.theirs for one in bind(rows, hub, facts)] == [("x",)]
    assert [one.theirs for one in bind(rows, hub, {})] == [("y",)]


def test_an_alternative_is_read_where_a_file_has_it_and_never_written():
    hub = {f"stack.layers.{layer}.{name}.weight": (2, 3) for layer in range(2) for name in "ab"}
    ours = tuple(f"stack.layers.{{layer}}.{name}.weight" for name in "ab")
    own = [Row("{layer}.a", ours[:1]), Row("{layer}.b", ours[1:])]
    rows = [*own, Row("{layer}.ab", ours, Fuse(), alternative=True)]
    assert bind(rows, hub, {}) == bind(own, hub, {})
    assert [one.theirs for one in bind(rows, hub, {}, {"0.a", "0.b", "1.ab"})] == [("0.a",), ("0.b",), ("1.ab",)]
    assert bind(rows, hub, {}, {"0.a", "1.b"}) == bind(own, hub, {})


def test_a_dropped_name_is_a_whole_name():
    drop = Drop("h.{layer}.attn.bias", "a mask")
    assert drop.covers("h.12.attn.bias")
    assert not any(drop.covers(name) for name in ("h.x.attn.bias", "h.1.attn.bias2", "hx1.attn.bias", "a.h.1.attn.bias"))
