"""What a computation holds, read from it without running it."""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np


def largest_array(function: Callable, *arguments: Any) -> int:
    """Elements of the largest array anywhere in a computation."""
    return max(_sizes(jax.make_jaxpr(function)(*arguments).jaxpr))


def _sizes(jaxpr: Any) -> Iterator[int]:
    for equation in jaxpr.eqns:
        yield from (int(np.prod(variable.aval.shape)) for variable in equation.outvars)
        for inner in jax.tree.leaves(list(equation.params.values()), is_leaf=lambda x: hasattr(x, "eqns")):
            if hasattr(inner, "eqns"):
                yield from _sizes(inner)
            elif hasattr(inner, "jaxpr"):
                yield from _sizes(inner.jaxpr)
