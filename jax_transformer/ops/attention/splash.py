"""Google's block-sparse attention for TPUs, ``jax.experimental.pallas.ops.tpu.splash_attention``."""

from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jax_transformer.config.errors import ConfigError
from jax_transformer.ops.mask import Mask

BLOCKS = (512, 256, 128)
"""Tokens per block, the largest that divides the length: the kernel has blocks of whole lanes, and no remainder."""


def splash_attention(
    q: Float[Array, "B T N H"],
    k: Float[Array, "B T K H"],
    v: Float[Array, "B T K V"],
    mask: Mask,
    scale: float,
    *,
    window: int | None = None,
    softcap: float | None = None,
    sinks: Float[Array, " N"] | None = None,
    interpret: bool = False,
) -> Float[Array, "B T N V"]:
    """``softmax_attention`` with ``mask.allowed(window)`` of a sequence over itself, its segments in one piece each.

    Scores are float32, in blocks that never leave the chip; blocks outside the causal triangle or the window are skipped.
    ``interpret`` runs the kernel anywhere, slowly.

    Raises:
        ConfigError: No TPU is here, there are several devices, or the length is no multiple of 128.
    """
    length = q.shape[1]
    _check(length, q.dtype.itemsize, interpret)
    kernel = _kernel(q.shape[2], length, _sight(mask.causal, window), softcap, interpret)
    # The kernel knows no scale.
    heads = [jnp.swapaxes(x, 1, 2) for x in (q * jnp.asarray(scale, q.dtype), k, v)]
    if mask.q_segments is None:
        mixed = jax.vmap(lambda *own: kernel(*own, sinks=sinks))(*heads)
        return jnp.swapaxes(mixed, 1, 2)
    mixed = jax.vmap(lambda segments, *own: kernel(*own, _ids(segments), sinks=sinks))(mask.q_segments, *heads)
    # Padding is a segment like any other to the kernel: it sees itself.
    return jnp.where((mask.q_segments != 0)[:, :, None, None], jnp.swapaxes(mixed, 1, 2), 0)


def _sight(causal: bool, window: int | None) -> tuple[int | None, int | None]:
    """How many tokens before it and after it a token sees."""
    if causal:
        return (None if window is None else window - 1), 0
    return window, window


def _kernel(num_heads: int, length: int, sight: tuple[int | None, int | None], softcap: float | None, interpret: bool) -> Any:
    # Imported where it is used: Pallas takes a second.
    from jax.experimental.pallas.ops.tpu import splash_attention as splash

    size = next(size for size in BLOCKS if length % size == 0)
    forward, backward = ("block_q", "block_kv"), ("block_q_dkv", "block_kv_dkv", "block_q_dq", "block_kv_dq")
    sizes: dict[str, Any] = dict.fromkeys(forward + backward, size)
    one = splash.FullMask((length, length)) if sight == (None, None) else splash.LocalMask((length, length), sight, 0)
    return splash.make_splash_mha_single_device(
        splash.MultiHeadMask([one] * num_heads),
        block_sizes=splash.BlockSizes(**sizes),
        attn_logits_soft_cap=softcap,
        interpret=interpret,
    )


def _ids(segments: Array) -> Any:
    from jax.experimental.pallas.ops.tpu import splash_attention as splash

    return splash.SegmentIds(segments, segments)


def _check(length: int, itemsize: int, interpret: bool) -> None:
    here = jax.default_backend()
    if here != "tpu" and not interpret:
        raise ConfigError(f"implementation: splash on {here}: it needs a TPU; use implementation: auto")
    if length % BLOCKS[-1]:
        raise ConfigError(
            f"implementation: splash with {length} tokens: it wants a multiple of {BLOCKS[-1]}; change the length, or use "
            "implementation: auto"
        )
    if itemsize > 4:
        raise ConfigError("implementation: splash in float64: it computes in float32; set dtype.compute, or use another form")
    mesh = jax.sharding.get_abstract_mesh()
    if not mesh.empty and mesh.size > 1:
        raise ConfigError(
            f"implementation: splash on a mesh of {mesh.size} devices: it is not divided among them; use implementation: auto"
        )
