"""The bidirectional model."""

from jaxtyping import Array, Float, Int, Key

from jax_transformer import config
from jax_transformer.models.checks import check_segments, check_token_types, check_tokens
from jax_transformer.models.tower import Aux, Tower, auxiliary
from jax_transformer.nn.context import Context
from jax_transformer.nn.heads import ENCODER_HEAD, HeadDims
from jax_transformer.nn.params import Maker
from jax_transformer.nn.tap import Tap
from jax_transformer.ops.dropout import Noise
from jax_transformer.ops.mask import bidirectional_mask


class Encoder(Tower):
    """Embedding, stack of blocks, final norm, and a head for masked tokens or for classes."""

    def __init__(self, c: config.Encoder, key: Key[Array, ""]):
        make = Maker.of_model(c, key)
        super().__init__(c, c, c.max_length, make)
        self.head = ENCODER_HEAD[type(c.head)](c.head, HeadDims.of(c, c.embedding), make)
        self.config = c

    def __call__(
        self,
        tokens: Int[Array, "B T"],
        *,
        segments: Int[Array, "B T"] | None = None,
        token_types: Int[Array, "B T"] | None = None,
        noise: Noise | None = None,
        return_taps: bool = False,
    ) -> tuple[Float[Array, "B T V"] | Float[Array, "B C"], Aux]:
        """Logits over the vocabulary at every position, or over the classes for every row, and auxiliary values.

        ``segments`` number the documents packed into a row (0: padding); tokens of different segments do not see one another
        and positions restart with each. ``noise`` turns dropout on. ``return_taps`` adds ``aux["taps"]``, named activations.
        Outside ``jax.jit``, raises DataError for ids outside their tables and for sequences above ``max_length``.
        """
        tokens = check_tokens(tokens, self.config)
        segments = check_segments(segments, tokens)
        token_types = check_token_types(token_types, tokens, self.config.embedding)
        tap = Tap({} if return_taps else None)
        context = Context(bidirectional_mask(tokens.shape[1], segments))
        x, _, usages = self.states(tokens, context, token_types=token_types, noise=noise, tap=tap)
        logits = self.head(x, self.embed, segments, None if noise is None else noise.fold(2))
        tap("logits", logits)
        return logits, auxiliary(tap, {"": (self.config.stack, usages)})
