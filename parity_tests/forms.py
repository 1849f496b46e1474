"""Which forms of attention are compared, and with what."""

from collections.abc import Callable, Sequence
from typing import Any

from jax_transformer import config as c
from parity_tests.builders import attention, block, cross, decoder, encoder, encoder_decoder, mla, tower


def form_cases() -> dict[str, c.Model]:
    """Every form with everything that it can compute."""

    def formed(form: c.Form, *mixers: c.Attention, **changes: Any) -> list[c.Block]:
        return [block(mixer.model_copy(update={"implementation": form}), **changes) for mixer in mixers]

    t5, alibi = c.T5Bias(num_buckets=8, max_distance=9), c.Alibi(max_bias=3.0)
    capped = attention(softcap=0.8, sink_logits=True, position=t5)
    others = (mla(window=4), c.Complex(num_heads=3, head_dim=4, rope_base=50.0, window=2))
    windows = [attention(window=3), capped.model_copy(update={"window": 5}), attention(window=2, position=alibi)]
    sinking = attention(window=3, sink_tokens=1, position=alibi)
    chunked = attention(chunk_size=3, sink_logits=True)
    shared = attention(position=c.SharedBias())
    reading = block(attention(implementation="reference"), cross_attention=cross(implementation="blockwise", softcap=0.9))
    return {
        "form_blockwise": decoder(*formed("blockwise", attention(), capped, sinking, chunked, *others), num_layers=7),
        "form_blockwise_shared": decoder(*formed("blockwise", shared), num_layers=3, stack={"shared_bias": t5}),
        "form_windowed": decoder(*formed("windowed", *windows, *others), num_layers=6),
        "form_encoder": encoder(*formed("windowed", *windows), *formed("blockwise", attention(window=2, position=t5))),
        "form_cross": encoder_decoder(tower(*formed("blockwise", capped)), tower(reading)),
    }


def draw_form(pick: Callable[[Sequence[Any]], Any], fields: dict[str, Any]) -> dict[str, Any]:
    """A form of the computation that can compute what was drawn."""
    forms: list[c.Form] = ["auto", "auto", "reference"]
    if not fields.get("dropout"):
        forms.append("blockwise")
    if fields.get("window") and not fields["sink_tokens"]:
        forms.append("windowed")
    return fields | {"implementation": pick(forms)}
