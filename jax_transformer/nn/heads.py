"""From the last hidden state to logits."""

from flax import nnx
from jaxtyping import Array, Float

from jax_transformer import config
from jax_transformer.nn.linear import Embed, project
from jax_transformer.nn.params import Maker


class Head(nnx.Module):
    """Logits over the vocabulary; a tied head owns no matrix and uses the embedding's."""

    def __init__(self, c: config.Decoder, make: Maker):
        self.kernel = None if c.head.tied else make.normal((c.d_model, c.vocab_size), ("embed", "vocab"), contracted=1)
        self.bias = make.constant(0.0, (c.vocab_size,), ("vocab",)) if c.head.bias else None
        self.logits_dtype = c.dtype.logits

    def __call__(self, x: Float[Array, "B T D"], embed: Embed) -> Float[Array, "B T V"]:
        """Logits in ``dtype.logits``, accumulated in float32 at least."""
        logits = embed.attend(x) if self.kernel is None else project(x, self.kernel[...].astype(x.dtype))
        if self.bias is not None:
            logits = logits + self.bias[...].astype(logits.dtype).reshape(1, 1, -1)
        return logits.astype(self.logits_dtype)
