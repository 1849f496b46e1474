"""Every error budget of the suite, with the reason for its size.

An error is the largest absolute difference of a tensor over the largest absolute value of its truth: relative to the tensor's
own scale, because a sum that happens to cancel has no correct digits left to compare.
"""

from dataclasses import dataclass

import numpy as np

from jax_transformer.config import Dtype, DtypeName

FLOAT64 = 1e-10
"""Agreement of the two frameworks in float64. Rounding explains about 1e-15 per operation and 1e-13 through many
layers, so 1e-10 leaves room for conditioning; the smallest semantic difference known (an epsilon of 1e-6, not 1e-5) makes 1e-6.
What lies between cannot be rounding."""

FLOOR = 1e-4
"""Part of the model's largest gradient that is added to the scale of every gradient. Rounding noise in a gradient is a few
1e-16 of the *largest* terms that flow through the network, so one that is zero in exact arithmetic is pure noise of that size:
1e-10 * 1e-4 allows for it. A gradient that is wrong by its own size is still seen down to 1e-14 of the largest."""

LOW_FLOOR = 0.05
"""The same for low precisions."""

ZERO_GRADIENT = 1e-12
"""A parameter whose gradient stays below this part of the model's largest is named as having none: the key bias of an attention
without rotation, the query and key of a window of one token."""

DETERMINED = 1e-4
"""Adam divides by the root of the second moment. The change of an element is left out where that root was ever below this part
of the model's largest: its rounding noise, some 1e-16 of the largest, would grow to 1e-12 and more by the division and, through
steps that it leads astray, come near the budget. In both moments, before the division, nothing is left out."""

GROWTH_DRAWS = 8
"""Random roundings of the weights from which the growth of rounding errors is measured. An activation with a kink (relu)
answers rarely but strongly, so one draw would miss it."""

LOW_PRECISION = 24.0
"""Budget of a low-precision result: this many times the error that rounding the *weights* alone causes, as measured in float64.
The weights of a layer are rounded once, its activations in about a dozen operations, forward and backward, each as harmful;
errors of several operations add up like their root mean square or, in an unlucky tensor, linearly. The worst tensor of 60 drawn
models (four precisions, both frameworks) had 12 times, most had below 6."""

LOW_PRECISION_FLOOR = 4.0
"""... and never below this many units of rounding: the result itself is rounded, and reads inputs that were. For a gradient
they are units of the model's largest, as in ``FLOOR``: what is left of terms of that size that cancel has their rounding
errors, even where no change of the weights moves it (a norm divides the output of a single hidden unit by its size: whatever
the weights are, the gradient of the unit's kernel is zero). Of 2624 gradients (15 drawn models, three precisions) the worst to
which this applies had 1.2."""

ROUNDED_ONCE = 1.0
"""Part of an operation's budget over a long sequence in 16 bits, in units of rounding: its results are rounded, and weights
between 0 and 1 before they meet the values, which is half a unit each. Everything else is float32, however long the sequence.
The worst of the operations and their gradients over 4096 tokens had 0.7; a sum or a state of 16 bits has hundreds."""

SIMILAR = 3.0
"""The errors of the two frameworks, each against the float64 truth, may differ by this factor (geometric mean over a rung's
tensors): a framework that computes a norm or a softmax in bfloat16 is off by more. They associate sums differently and so
cannot agree exactly; the worst ratio of 60 drawn models was 1.6. So may the largest errors of a kernel and its definition."""

FIRST_ACTIVATION = (".ffn.hidden", ".ffn.logits", ".attn.gate", ".cross_attn.gate")
"""Endings of tap names. Up to the first of them a 16-bit forward pass is matmuls, norms, rotation and softmax, which accumulate
in float32 and round at places that the code states. Activation functions are the frameworks' own and round inside; those of
experts follow the logits of their router."""

DIFFERENT_BITS = 0.05
"""Part of the elements of a 16-bit tensor that may differ before that. Sums in another order differ by about 1e-7, which moves
one rounding in several thousand; one cast at another place moves about every fifth."""

DIFFERENT_ROWS = 2
"""Rows (vectors along the last dimension) of a tensor that may differ whatever their share: a norm over a few numbers moves all
of them where one was rounded otherwise, and a tiny tensor has few rows."""

SHAKEN = 100.0
"""Budget of an optimizer step in float64: this many times the change of the result when every weight is off by one rounding,
where that is more than FLOAT64. A norm over a few nearly equal numbers has derivatives of 1 / sqrt(eps), second ones of
1 / eps: three steps through several of them turn 1e-16 into 1e-10. Two frameworks round in some hundred places, not one."""

SHAKEN_LIMIT = 1e-6
"""... and never more than this."""

INIT_SIGMAS = 6.0
"""Initial values of the frameworks are different random numbers; their standard deviations must agree within this many standard
errors of the estimate (two in a billion by chance)."""

JUMPS_FROM = 1e-4
"""Rounding above which a model that chooses experts is compared before its first choice only: of two experts that a token likes
nearly alike, a coarser rounding may take the other one, which is no error and as large a change as one."""

OPERATION = {"rtol": 1e-12, "atol": 1e-13}
"""One operation in float64: some hundred roundings, and 1e-13 where numbers about 1 cancel."""

MODULE = {"rtol": 1e-10, "atol": 1e-12}
"""A module, or one operation over a sequence, in float64: ``FLOAT64`` for each element."""

SEQUENCE = {"rtol": 1e-10, "atol": 1e-10}
"""The same where an element, or its gradient, is a sum over a sequence or over experts, whose terms cancel."""

DIFFERENCES = {"rtol": 1e-7, "atol": 1e-8}
"""A derivative against two values 2e-6 apart: their rounding of 1e-16 is 1e-10 over that distance."""

FLOAT32_OPERATION = {"rtol": 2e-6}
"""A float32 number that comes of a few operations: 16 roundings."""

FLOAT32_MODULE = {"rtol": 1e-5, "atol": 5e-6}
"""A module, or an operation over a sequence, in float32 against another program of the same formula, which associates sums
differently: 80 roundings, and 40 where numbers about 1 cancel."""

FLOAT32_GRADIENT = {"rtol": 1e-4, "atol": 1e-5}
"""Its gradients: twice as many operations, whose terms are larger than what remains of them."""

FLOAT32_ANGLE = {"rtol": 1e-5, "atol": 1e-4}
"""What was rotated by a float32 angle: the angle of some hundred radians is rounded to 3e-5."""

FLOAT32_MODEL = 2e-5
"""Relative error of a whole model's logits in float32 against another program, or of those of one file read twice."""

FLOAT32_MODEL_GRADIENT = 2e-4
"""Relative error of a gradient of such a model, of the gradient's own scale or ``LOW_FLOOR`` of the largest one's."""

FLOAT32_TRAINED = 1e-4
"""Relative error of weights and moments after several steps of a model that rounds its norms and softmax to float32."""

FLOAT32_LOGITS = 5e-7
"""Relative error of the logits of a model in float64 that rounds nothing to float32 but its rotations and the logits."""

LARGE_MEAN = {"rtol": 0.0, "atol": 2e-3}
"""A normalised float32 number whose mean was 1e4, and its rounding so 6e-4."""

HALF_BFLOAT16 = 2.0**-8
"""A float32 result that is rounded to bfloat16 once, at its end: half a unit."""

KERNEL = {"float32": 2e-6, "bfloat16": 2.0**-7}
"""Relative error of a form that adds up in float32 and rounds what passes between products: 16 roundings, or one unit."""

CUDNN = {"rtol": 3e-2, "atol": 3e-2}
"""cuDNN in bfloat16 against the definition in bfloat16: both round the probabilities, the result and the gradients of both."""

NEAR_16_BITS = {"rtol": 0.1, "atol": 0.1}
"""Modules in bfloat16, whose casts are compared bit by bit (``DIFFERENT_BITS``): here only that both are the same numbers."""

CLEAR = 1e-3
"""Least lead of every token of a greedy continuation over the next, in units of the largest logit: 50 times what frameworks may
differ by."""


@dataclass(frozen=True)
class Rung:
    """One precision at which a model is compared."""

    name: str
    dtype: Dtype

    @property
    def eps(self) -> float:
        """Unit of rounding of the coarsest dtype in it."""
        return max(epsilon(name) for name in (self.dtype.param, self.dtype.compute, self.dtype.logits))


def epsilon(dtype: str) -> float:
    """Distance from 1 to the next number: 2^-52, 2^-23, 2^-10, 2^-7."""
    return {"float64": 2.0**-52, "float32": 2.0**-23, "float16": 2.0**-10, "bfloat16": 2.0**-7}[dtype]


def _uniform(name: DtypeName) -> Dtype:
    return Dtype(param=name, compute=name, logits=name)


RUNGS = {
    "float64": Rung("float64", _uniform("float64")),
    "float32": Rung("float32", _uniform("float32")),
    "bfloat16": Rung("bfloat16", Dtype(param="float32", compute="bfloat16", logits="float32")),
    "bfloat16_weights": Rung("bfloat16_weights", _uniform("bfloat16")),
}
"""``bfloat16`` is mixed precision as it is trained; ``bfloat16_weights`` is what a converted checkpoint runs in."""


def relative_error(got: np.ndarray, want: np.ndarray, scale: float | None = None) -> float:
    """``max |got - want| / scale``, with ``scale`` the largest ``|want|`` where it is not given.

    0 where both are the same, all zero included; infinite for another shape, a NaN on one side, or a truth of all zeros.
    """
    if got.shape != want.shape:
        return float("inf")
    got, want = (np.asarray(x, np.float64) for x in (got, want))
    if np.array_equal(got, want, equal_nan=True):
        return 0.0
    scale = float(np.max(np.abs(want))) if scale is None else scale
    with np.errstate(invalid="ignore", divide="ignore"):
        error = float(np.max(np.abs(got - want)) / scale)
    return float("inf") if np.isnan(error) else error


def trained_budget(moved: float) -> float:
    """Budget of a result of optimizer steps that one rounding of the weights moves by ``moved``."""
    return max(FLOAT64, min(SHAKEN * moved, SHAKEN_LIMIT))


def low_precision_budget(eps: float, growth: float) -> float:
    """Budget of one tensor: ``growth`` is its error per unit of rounding of the weights."""
    return eps * max(LOW_PRECISION * growth, LOW_PRECISION_FLOOR)


def low_precision_gradient_budget(eps: float, growth: float, part: float) -> float:
    """The same for a gradient whose scale is ``part`` of the model's largest gradient."""
    return max(low_precision_budget(eps, growth), eps * LOW_PRECISION_FLOOR / min(part, 1.0))


def long_budget(eps: float, growth: float, layers: int = 1) -> float:
    """Budget of a result of one operation over thousands of tokens, of float32 sums; ``growth`` is as above, of its inputs.

    What ``layers`` in a row hand on is rounded after each.
    """
    single = epsilon("float32")
    return low_precision_budget(single, growth) + (layers * ROUNDED_ONCE * eps if eps > single else 0.0)
