"""From the last hidden states to the model's answer."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from jax_transformer import config
from torch_reference.nn.activation import build_activation
from torch_reference.nn.linear import Embed, Linear, project
from torch_reference.nn.norm import build_norm
from torch_reference.nn.params import Maker
from torch_reference.ops.dropout import Noise, dropout
from torch_reference.ops.precision import at_least_float32


class HeadDims(NamedTuple):
    """Sizes that a head shares with its model."""

    vocab_size: int
    d_model: int
    table: int
    """Width of the token table."""

    @staticmethod
    def of(c: config.Model, embedding: config.Embedding) -> "HeadDims":
        """Those of a model whose output matrix may be the table of ``embedding``."""
        return HeadDims(c.vocab_size, c.d_model, embedding.width(c.d_model))


class _Output(nn.Module):
    """``norm(act(dense(x)))``, if wanted, then the matrix to the vocabulary and its bias; a tied one uses the table's."""

    def __init__(
        self, c: config.Head | config.MlmHead, before: config.Transform | None, dims: HeadDims, width: int, make: Maker
    ):
        super().__init__()
        self.weight = None if c.tied else make.normal((dims.vocab_size, width))
        self.bias = make.constant(0.0, (dims.vocab_size,)) if c.bias else None
        self.dense = Linear({"embed": dims.d_model}, {"table": width}, make, bias=before.bias) if before else None
        self.activation = build_activation(before.activation, make) if before else None
        self.norm = build_norm(before.norm, width, make) if before else None

    def forward(self, x: Float[Tensor, "B T D"], table: Embed | None) -> Float[Tensor, "B T V"]:
        """Scores in float32 at least."""
        if self.dense is not None and self.activation is not None and self.norm is not None:
            x = self.norm(self.activation(self.dense(x)))
        if self.weight is None:
            assert table is not None
            logits = table.attend(x)
        else:
            logits = project(x, self.weight.to(x.dtype))
        return logits if self.bias is None else logits + self.bias.to(logits.dtype)


class Head(_Output):
    """Logits of the next token, ``softcap * tanh(scale * (x W + b) / softcap)``."""

    def __init__(self, c: config.Head, dims: HeadDims, make: Maker):
        factorised = c.tied and dims.table != dims.d_model
        super().__init__(c, c.transform, dims, dims.table if factorised else dims.d_model, make)
        projects = factorised and c.transform is None
        self.projection = Linear({"embed": dims.d_model}, {"table": dims.table}, make) if projects else None
        self.config = c
        self.logits_dtype = getattr(torch, make.dtype.logits)

    def forward(self, x: Float[Tensor, "B T D"], table: Embed | None) -> Float[Tensor, "B T V"]:
        """Logits in ``dtype.logits``, accumulated in float32 at least."""
        logits = super().forward(x if self.projection is None else self.projection(x), table)
        if self.config.scale != 1.0:
            logits = logits * self.config.scale
        if self.config.softcap is not None:
            logits = self.config.softcap * torch.tanh(logits / self.config.softcap)
        return logits.to(self.logits_dtype)


class MlmHead(_Output):
    """Logits of masked tokens, ``norm(act(dense(x))) W + b``; the dense layer leads to the width of the token table."""

    def __init__(self, c: config.MlmHead, dims: HeadDims, make: Maker):
        super().__init__(c, c.before, dims, dims.table, make)
        self.logits_dtype = getattr(torch, make.dtype.logits)

    def forward(
        self,
        x: Float[Tensor, "B T D"],
        table: Embed | None,
        segments: Int[Tensor, "B T"] | None = None,
        noise: Noise | None = None,
    ) -> Float[Tensor, "B T V"]:
        """Logits in ``dtype.logits``, accumulated in float32 at least; every position has its own."""
        return super().forward(x, table).to(self.logits_dtype)


class ClassifierHead(nn.Module):
    """Scores of the classes for each row: ``scores(dropout(norm(act(dense(pool(x))))))``. A row is one sequence and padding."""

    def __init__(self, c: config.ClassifierHead, dims: HeadDims, make: Maker):
        super().__init__()
        model = {"embed": dims.d_model}
        self.dense = None if c.dense is None else Linear(model, {"hidden": dims.d_model}, make, bias=c.dense_bias)
        self.activation = None if c.dense is None else build_activation(c.dense, make)
        self.norm = None if c.norm is None else build_norm(c.norm, dims.d_model, make)
        self.scores = Linear(model, {"classes": c.num_classes}, make, bias=c.bias)
        self.config = c
        self.logits_dtype = getattr(torch, make.dtype.logits)

    def forward(
        self,
        x: Float[Tensor, "B T D"],
        table: Embed | None,
        segments: Int[Tensor, "B T"] | None = None,
        noise: Noise | None = None,
    ) -> Float[Tensor, "B C"]:
        """Logits in ``dtype.logits``; ``segments`` are 0 where a row holds padding."""
        real = torch.ones(x.shape[:2], dtype=torch.bool, device=x.device) if segments is None else segments != 0
        pooled = _pool(x, real, self.config.pool)
        if self.dense is not None and self.activation is not None:
            pooled = self.activation(self.dense(pooled))
        pooled = pooled if self.norm is None else self.norm(pooled)
        pooled = dropout(pooled, self.config.dropout, noise)
        return self.scores(pooled.to(at_least_float32(x.dtype))).to(self.logits_dtype)


def _pool(x: Float[Tensor, "B T D"], real: Bool[Tensor, "B T"], pool: str) -> Float[Tensor, "B D"]:
    """One state per row: of the first real token, of the last, or the mean over all, in float32 at least."""
    if pool == "mean":
        wide = x.to(at_least_float32(x.dtype))
        weights = real.to(wide.dtype)[:, :, None]
        return (torch.sum(wide * weights, dim=1) / torch.clamp(torch.sum(weights, dim=1), min=1.0)).to(x.dtype)
    order = real.to(torch.int32)
    index = torch.argmax(order, dim=1)
    if pool == "last":
        index = real.shape[1] - 1 - torch.argmax(order.flip(1), dim=1)
    return x[torch.arange(x.shape[0], device=x.device), index]


ENCODER_HEAD: dict[type[config.Config], Callable[..., nn.Module]] = {
    config.MlmHead: MlmHead,
    config.ClassifierHead: ClassifierHead,
}
