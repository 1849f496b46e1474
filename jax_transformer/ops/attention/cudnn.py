"""NVIDIA's fused attention, through ``jax.nn.dot_product_attention``."""

from typing import Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jax_transformer.config.errors import ConfigError
from jax_transformer.ops.mask import Mask

DTYPES = ("bfloat16", "float16")


def cudnn_attention(
    q: Float[Array, "B T N H"],
    k: Float[Array, "B T K H"],
    v: Float[Array, "B T K H"],
    mask: Mask,
    scale: float,
    *,
    window: int | None = None,
    sink_tokens: int = 0,
    backend: Literal["cudnn", "xla"] = "cudnn",
) -> Float[Array, "B T N H"]:
    """``softmax_attention`` with ``mask.allowed(window, sink_tokens)`` of a sequence over itself, in 16 bits.

    Nothing of size ``T * T`` exists as long as cuDNN can be told the mask in words: no segments, no sink tokens, and, if there
    is a window, causal. Else it reads the booleans of all heads together. ``backend`` "xla" takes the same arguments anywhere.

    Raises:
        ConfigError: No NVIDIA GPU is here, the dtype is not one of 16 bits, or an odd length needs the booleans.
    """
    in_words = mask.q_segments is None and not sink_tokens and (window is None or mask.causal)
    if backend == "cudnn":
        _check(q, in_words)
    if in_words:
        local = None if window is None else (window - 1, 0)
        return jax.nn.dot_product_attention(
            q, k, v, scale=scale, is_causal=mask.causal, local_window_size=local, implementation=backend
        )
    allowed = mask.allowed(window, sink_tokens)
    mixed = jax.nn.dot_product_attention(q, k, v, mask=allowed[:, None], scale=scale, implementation=backend)
    # A query that sees no key gets the mean of the values.
    return jnp.where(jnp.any(allowed, axis=-1)[:, :, None, None], mixed, 0)


def _check(q: Float[Array, "B T N H"], in_words: bool) -> None:
    here = jax.default_backend()
    if here != "gpu":
        raise ConfigError(f"implementation: cudnn on {here}: it needs an NVIDIA GPU; use implementation: auto")
    if q.dtype.name not in DTYPES:
        raise ConfigError(
            f"implementation: cudnn in {q.dtype.name}: it computes in {' or '.join(DTYPES)}; set dtype.compute, or use "
            "implementation: auto"
        )
    if not in_words and q.shape[1] % 2:
        raise ConfigError(
            f"implementation: cudnn with {q.shape[1]} tokens: with segments, or a window both ways, it wants an even length; "
            "use implementation: auto"
        )
