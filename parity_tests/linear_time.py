"""Models with mixers of linear time: forms, grouped heads, packed rows longer than a chunk, hybrids with softmax layers."""

from typing import Any

from jax_transformer import config as c
from parity_tests.builders import attention, block, cross, decoder, encoder, encoder_decoder, tower

FORMS: tuple[Any, ...] = ("reference", "recurrent", "chunked")


def linear(**changes: Any) -> c.Linear:
    """A grouped linear attention, whose epsilon shows and whose chunks do not divide the tests' rows."""
    usual: dict[str, Any] = {"num_heads": 6, "num_kv_heads": 2, "head_dim": 4, "v_dim": 5, "eps": 0.1, "chunk": 5}
    return c.Linear(**usual | changes)


def gated_delta(**changes: Any) -> c.GatedDelta:
    """A Gated DeltaNet of more value heads than key heads."""
    heads: dict[str, Any] = {"num_key_heads": 2, "num_value_heads": 6, "key_dim": 5, "v_dim": 4}
    usual = {"norm": c.RMSNorm(eps=1e-3), "l2_eps": 1e-2, "chunk": 5}
    return c.GatedDelta(**heads | usual | changes)


def linear_time_cases() -> dict[str, c.Model]:
    """Name -> config."""
    after = c.RMSNorm(eps=1e-2, weight="one_plus", cast="after_weight")
    turning = gated_delta(num_value_heads=2, conv_width=2, allow_neg_eigval=True, norm=after, chunk=64)
    reading = block(gated_delta(), cross_attention=cross()), block(linear(num_kv_heads=1))
    return {
        "linear": decoder(block(linear(qkv_bias=True)), block(linear(num_kv_heads=None, o_bias=True, chunk=64)), num_layers=3),
        "linear_forms": decoder(*(block(linear(implementation=form)) for form in FORMS)),
        "gated_delta": decoder(block(gated_delta()), block(turning), num_layers=3),
        "gated_delta_forms": decoder(*(block(gated_delta(implementation=form)) for form in FORMS[1:])),
        "linear_time_hybrid": decoder(
            block(gated_delta()),
            block(attention(output_gate="element")),
            num_layers=6,
            stack={"hybrid_ratio": 3, "first": (block(linear(num_kv_heads=3)),)},
        ),
        "encoder_linear": encoder(block(linear(v_dim=None)), block(attention()), block(linear(implementation="reference"))),
        "encoder_decoder_linear_time": encoder_decoder(tower(block(linear()), num_layers=2), tower(*reading, num_layers=3)),
    }
