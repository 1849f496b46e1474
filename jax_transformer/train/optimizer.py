"""The optimizer of a run."""

from collections.abc import Mapping

import optax

from jax_transformer import config
from jax_transformer.nn.params import ParamSpec


def decay_mask(c: config.AdamW, specs: Mapping[str, ParamSpec]) -> dict[str, bool]:
    """Which parameters decay: weights of matmuls and filters, and lookup tables if ``decay_embedding``; never a norm scale, a
    bias, or how fast a state forgets.

    Decided by what a parameter is and not by its rank: a norm scale stacked over layers is two-dimensional as well.
    """
    return {name: spec.contracted > 0 or (name.endswith(".embedding") and c.decay_embedding) for name, spec in specs.items()}


def build_optimizer(
    c: config.AdamW, specs: Mapping[str, ParamSpec], learning_rate: optax.ScalarOrSchedule, clip_norm: float | None = None
) -> optax.GradientTransformation:
    """AdamW over a flat dict of parameters, after clipping gradients to a global norm of ``clip_norm``.

    ``w -= lr * (m_hat / (sqrt(v_hat) + eps) + weight_decay * w)``, as in torch.optim.AdamW.
    """
    adamw = optax.adamw(learning_rate, c.beta1, c.beta2, c.eps, weight_decay=c.weight_decay, mask=decay_mask(c, specs))
    return adamw if clip_norm is None else optax.chain(optax.clip_by_global_norm(clip_norm), adamw)
