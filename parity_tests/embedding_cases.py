"""Which embeddings and heads of a decoder are compared."""

from jax_transformer import config as c
from parity_tests.builders import LAYER, RMS, decoder


def embedding_cases() -> dict[str, c.Model]:
    """Tables of another width, and what may stand around them and before the logits."""
    factorised = c.Embedding(dim=7, scale="sqrt_dim", norm=LAYER, projection_bias=True)
    typed = c.Embedding(scale=1.7, num_token_types=3, norm=c.RMSNorm(weight="none"))
    return {
        "embedding_factorised": decoder(embedding=factorised, head=c.Head(scale=0.3)),
        "embedding_factorised_untied": decoder(embedding=factorised, head=c.Head(tied=False, scale=1.4, softcap=2.0)),
        "embedding_types": decoder(embedding=typed),
        "head_transform": decoder(
            embedding=factorised, head=c.Head(transform=c.Transform(activation="relu", norm=RMS, bias=False), softcap=2.0)
        ),
        "head_transform_untied": decoder(
            embedding=factorised, head=c.Head(transform=c.Transform(norm=LAYER), tied=False, bias=True)
        ),
    }
