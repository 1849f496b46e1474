"""What every architecture is made of: embedding, stack of blocks, final norm."""

from collections.abc import Mapping
from typing import Any

from jaxtyping import Float, Int
from torch import Tensor, nn

from jax_transformer import config
from torch_reference.nn.context import Context
from torch_reference.nn.embedding import InputEmbedding
from torch_reference.nn.linear import Embed
from torch_reference.nn.norm import build_norm
from torch_reference.nn.params import Maker
from torch_reference.nn.stack import Stack, StackCache
from torch_reference.nn.tap import SILENT, Tap
from torch_reference.ops.balance import Usage
from torch_reference.ops.dropout import Noise

Aux = dict[str, Any]


class Tower(nn.Module):
    """Token ids to hidden states."""

    def __init__(
        self,
        c: config.Decoder | config.Encoder | config.Tower,
        model: config.Model,
        max_length: int,
        make: Maker,
        owns_table: bool = True,
    ):
        """``model`` is the config that ``c`` belongs to; ``owns_table`` is false where another tower's token table is used."""
        super().__init__()
        d_model = c.d_model or model.d_model
        source_dim = model.source_dim if isinstance(model, config.EncoderDecoder) else None
        width = c.embedding.width(d_model)
        self.embed = Embed(model.vocab_size, width, make) if owns_table else None
        self.inputs = InputEmbedding(c.embedding, d_model, max_length, make)
        self.stack = Stack(c.stack, d_model, make.of_stack(model.init, c.stack.num_layers), source_dim)
        self.final_norm = None if c.final_norm is None else build_norm(c.final_norm, d_model, make)

    def states(
        self,
        tokens: Int[Tensor, "B T"],
        context: Context,
        *,
        table: Embed | None = None,
        token_types: Int[Tensor, "B T"] | None = None,
        noise: Noise | None = None,
        cache: tuple[StackCache, Int[Tensor, ""]] | None = None,
        sources: StackCache | None = None,
        tap: Tap = SILENT,
    ) -> tuple[Float[Tensor, "B T D"], StackCache | None, dict[int, Usage]]:
        """Hidden states after the final norm, the layers' new memory, and the use of their experts by number of the layer.

        ``table`` (default: its own) embeds the tokens.
        """
        table = self.embed if table is None else table
        assert table is not None
        noises = (None, None) if noise is None else (noise.fold(0), noise.fold(1))
        x = self.inputs(table, tokens, context.mask.q_positions, token_types, noises[0])
        tap("embed", x)
        x, layers, usages = self.stack(x, context, noise=noises[1], cache=cache, sources=sources, tap=tap.child("stack"))
        if self.final_norm is not None:
            x = self.final_norm(x)
            tap("final_norm", x)
        return x, layers, usages


def auxiliary(tap: Tap, usages: Mapping[str, tuple[config.Stack, Mapping[int, Usage]]]) -> Aux:
    """What a model returns beside its logits; ``usages`` are those of its towers' layers, by the prefix of the tower.

    ``taps`` are its named activations. ``experts`` says by name of the layer how its experts were used, and ``balance_loss`` is
    the mean over a tower's layers with experts, summed over towers, of their weighted loss terms; neither without experts.
    """
    aux: Aux = {} if tap.values is None else {"taps": tap.values}
    experts = {f"{prefix}stack.layers.{layer}": use for prefix, (_, used) in usages.items() for layer, use in used.items()}
    if experts:
        aux |= {"experts": experts, "balance_loss": sum(_balance_loss(*tower) for tower in usages.values())}
    return aux


def _balance_loss(c: config.Stack, used: Mapping[int, Usage]) -> Tensor | float:
    terms = [
        c.experts[layer].load_balance_weight * usage.load_balance + c.experts[layer].router_z_weight * usage.router_z
        for layer, usage in used.items()
    ]
    return sum(terms) / max(len(terms), 1)
