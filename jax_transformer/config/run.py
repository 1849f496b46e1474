"""A training run: model, data, optimisation, mesh, checkpoints."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from jax_transformer.config.base import Config, Positive
from jax_transformer.config.data import Data
from jax_transformer.config.fit import check_lengths, check_objective, default_objective, special_ids
from jax_transformer.config.model import EncoderDecoder, Model
from jax_transformer.config.objective import Objective

NonNegative = Annotated[float, Field(ge=0.0)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]


class AdamW(Config):
    """Adam with decoupled weight decay (https://arxiv.org/abs/1711.05101) of matmul weights and the embedding."""

    kind: Literal["adamw"] = "adamw"
    beta1: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.9
    beta2: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.95
    eps: Annotated[float, Field(gt=0.0)] = 1e-8
    weight_decay: NonNegative = 0.1
    decay_embedding: bool = True


class DropoutAnneal(Config):
    """Multiplies every dropout rate by a factor that moves linearly from ``start`` to ``end`` over ``steps``."""

    start: Annotated[float, Field(ge=0.0, le=1.0)] = 1.0
    end: Annotated[float, Field(ge=0.0, le=1.0)] = 0.0
    steps: Positive


class Train(Config):
    """Optimisation: linear warmup to ``learning_rate``, then cosine decay to ``min_learning_rate``."""

    steps: Positive
    batch_size: Positive
    """Rows per optimizer step, over all devices and all micro-batches."""
    accumulation: Positive = 1
    """Micro-batches per step; gradients are averaged over tokens, not over micro-batches."""
    learning_rate: Annotated[float, Field(gt=0.0)] = 1e-3
    min_learning_rate: NonNegative = 1e-4
    warmup_steps: Annotated[int, Field(ge=0)] = 100
    optimizer: AdamW = AdamW()
    clip_norm: Annotated[float, Field(gt=0.0)] | None = 1.0
    """Global gradient norm above which gradients are scaled down. None: never."""
    choice_bias_rate: NonNegative = 1e-3
    """How far a step moves the choice bias of each expert towards an even load (https://arxiv.org/abs/2408.15664)."""
    dropout_anneal: DropoutAnneal | None = None
    max_skipped_steps: Annotated[int, Field(ge=0)] = 0
    """Steps with a non-finite loss or gradient norm that may be skipped before the run stops; 0: stop at the first."""
    seed: Seed = 0
    log_every: Positive = 10
    evaluate_every: Positive = 100
    evaluate_batches: Positive | None = None
    """Validation batches per evaluation. None: the whole validation split."""

    @model_validator(mode="after")
    def _check_schedule(self) -> Self:
        if self.warmup_steps >= self.steps:
            raise ValueError(f"warmup_steps={self.warmup_steps} must be below steps={self.steps}: nothing is left to train")
        if self.min_learning_rate > self.learning_rate:
            raise ValueError(f"min_learning_rate={self.min_learning_rate} is above learning_rate={self.learning_rate}")
        if self.batch_size % self.accumulation:
            raise ValueError(
                f"batch_size={self.batch_size} is not a multiple of accumulation={self.accumulation}: "
                "micro-batches have one size"
            )
        return self


class Checkpoints(Config):
    """When a step is committed and which committed steps are kept."""

    every: Positive = 100
    keep_last: Positive = 2
    keep_best: bool = True
    """Also keep the step with the lowest validation loss."""


class Mesh(Config):
    """Devices per mesh axis; -1 on one axis means all that remain.

    ``data`` splits the batch and replicates the weights, ``fsdp`` splits both, ``tensor`` splits heads, feed-forward width
    and vocabulary.
    """

    data: int = 1
    fsdp: int = -1
    tensor: int = 1

    @model_validator(mode="after")
    def _check_axes(self) -> Self:
        sizes = {"data": self.data, "fsdp": self.fsdp, "tensor": self.tensor}
        for axis, size in sizes.items():
            if size < 1 and size != -1:
                raise ValueError(f"{axis}={size}: an axis has at least 1 device, or -1 for all that remain")
        if list(sizes.values()).count(-1) > 1:
            raise ValueError(f"more than one axis is -1 in {sizes}: only one can take the devices that remain")
        return self


class Run(Config):
    """Everything that decides a training run's result."""

    model: Model
    data: Data
    objective: Objective | None = None
    """What the model is trained to predict. None: the next token (decoder), masked tokens or the class (encoder, by its head),
    the target of a pair or else corrupted spans (encoder-decoder)."""
    train: Train
    checkpoints: Checkpoints = Checkpoints()
    mesh: Mesh = Mesh()

    @property
    def effective_objective(self) -> Objective:
        """``objective``, or the one that the model and the data stand for where it is None."""
        return self.objective or default_objective(self.model, self.data)

    @property
    def start_token(self) -> int:
        """What a target begins with; 0 for a model that reads no targets."""
        return self.model.start_token if isinstance(self.model, EncoderDecoder) else 0

    @model_validator(mode="after")
    def _check_objective(self) -> Self:
        check_objective(self.effective_objective, self.model, self.data)
        check_lengths(self.effective_objective, self.model, self.data)
        return self

    @model_validator(mode="after")
    def _check_vocabulary(self) -> Self:
        needed = {"byte": 259, "bpe": getattr(self.data.tokenizer, "vocab_size", 0)}.get(self.data.tokenizer.kind, 0)
        extra = special_ids(self.effective_objective, self.data)
        if needed + extra > self.model.vocab_size:
            more = f", {self.effective_objective.kind} needs {extra} ids above them" if extra else ""
            raise ValueError(
                f"the {self.data.tokenizer.kind} tokenizer has {needed} tokens{more} but "
                f"model.vocab_size={self.model.vocab_size}: set model.vocab_size to at least {needed + extra}"
            )
        return self
