"""The PyTorch framework's answers, with ``torch.optim.AdamW`` as the independent optimizer."""

import math
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from jax_transformer.config import EncoderDecoder, Model, Train
from parity_tests.measured import Batch, Decoded, Forward, Hub, Trained, layer_state, reported_steps, used
from torch_reference.checkpoint import to_array, to_tensor
from torch_reference.models import build_model
from torch_reference.nn.ffn.experts import ExpertLinear
from torch_reference.nn.heads import Head, MlmHead
from torch_reference.nn.linear import Embed, Linear
from torch_reference.nn.short_conv import ShortConv
from torch_reference.ops.balance import Usage, balanced_bias
from torch_reference.ops.loss import cross_entropy, next_token_weights


class TorchSide:
    """One config in PyTorch."""

    def __init__(self, config: Model):
        self.config = config
        self.model = build_model(config)

    def structure(self) -> dict[str, tuple[tuple[int, ...], str]]:
        """Hub name -> shape and dtype."""
        return {name: (tuple(value.shape), str(to_array(value).dtype)) for name, value in self.model.state_dict().items()}

    def export(self, weights: Hub) -> Hub:
        """The weights after a way through the PyTorch parameters."""
        self._load(weights)
        return {name: to_array(value.clone()) for name, value in self.model.state_dict().items()}

    def forward(self, weights: Hub, batch: Batch) -> Forward:
        """Taps, the use of experts, token-mean loss with that of their balance, and its gradient."""
        self._load(weights)
        loss, taps, experts = self._loss(batch)
        self.model.zero_grad()
        loss.backward()
        return Forward(
            {name: to_array(tap) for name, tap in taps.items()} | used(experts, to_array), loss.item(), self._gradients()
        )

    def plain_logits(self, weights: Hub, batch: Batch) -> np.ndarray:
        """Logits of inputs that are given no segments."""
        self._load(weights)
        with torch.no_grad():
            return to_array(self.model(**_tensors(batch.plain()))[0])

    def decode(self, weights: Hub, batch: Batch, at_once: int) -> Decoded:
        """Logits through a cache, ``at_once`` tokens at a time, and what the cache holds in the end."""
        self._load(weights)
        inputs = _tensors(batch.inputs)
        tokens = inputs["tokens"]
        rest = {name: inputs[name] for name in ("segments", "token_types") if name in inputs}
        rows, length = tokens.shape
        logits = []
        with torch.no_grad():
            if isinstance(self.config, EncoderDecoder):
                cache = self.model.start(inputs["source"], source_segments=inputs["source_segments"])
            else:
                cache = self.model.empty_cache(rows, length + 2)
            for start in range(0, length, at_once):
                part = slice(start, start + at_once)
                out, cache = self.model.decode(tokens[:, part], cache, **{name: v[:, part] for name, v in rest.items()})
                logits.append(to_array(out))
        kept = {"": cache.layers} | ({} if cache.source is None else {"source.": cache.source.layers})
        state = {name: to_array(value) for prefix, own in kept.items() for name, value in layer_state(own.layers, prefix)}
        return Decoded(np.concatenate(logits, axis=1), state)

    def train(self, weights: Hub, batches: tuple[Batch, ...], train: Train) -> dict[int, Trained]:
        """AdamW steps, one per batch, by ``torch.optim.AdamW``; by step, the first and the last."""
        self._load(weights)
        optimizer = build_optimizer(self.model, train)
        reported: dict[int, Trained] = {}
        trained = None
        for step, batch in enumerate(batches, 1):
            self.model.zero_grad()
            loss, _, experts = self._loss(batch)
            loss.backward()
            clip_gradients(list(self.model.parameters()), train.clip_norm)
            for group in optimizer.param_groups:
                group["lr"] = scheduled_rate(train, step - 1)
            optimizer.step()
            balance_choices(self.model, experts, train.choice_bias_rate)
            trained = self._trained(trained, optimizer)
            if step in reported_steps(len(batches)):
                reported[step] = trained
        return reported

    def initial(self, seed: int) -> Hub:
        """Freshly drawn weights."""
        return {name: to_array(value) for name, value in build_model(self.config, seed).state_dict().items()}

    def _loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor], dict[str, Usage]]:
        logits, aux = self.model(**_tensors(batch.inputs), return_taps=True)
        if batch.weights is None:
            assert batch.segments is not None
            counted = next_token_weights(_tensor(batch.segments))
        else:
            counted = torch.from_numpy(batch.weights)
        targets = _tensor(batch.targets)
        loss = cross_entropy(logits.reshape(*targets.shape, -1), targets, counted) / counted.sum()
        return loss + aux.get("balance_loss", 0.0), aux["taps"], aux.get("experts", {})

    def _load(self, weights: Hub) -> None:
        self.model.load_state_dict({name: to_tensor(value.copy()) for name, value in weights.items()})

    def _trained(self, before: Trained | None, optimizer: torch.optim.Optimizer) -> Trained:
        def moment(key: str) -> Hub:
            # A parameter that got no gradient has no moments yet.
            zeros, state = torch.zeros_like, optimizer.state
            return {name: to_array(state[p].get(key, zeros(p)).clone()) for name, p in self.model.named_parameters()}

        params = {name: to_array(value.clone()) for name, value in self.model.state_dict().items()}
        return Trained.after(before, params, moment("exp_avg"), moment("exp_avg_sq"))

    def _gradients(self) -> Hub:
        zero = torch.zeros_like
        return {name: to_array(zero(p) if p.grad is None else p.grad.clone()) for name, p in self.model.named_parameters()}


def build_optimizer(model: torch.nn.Module, train: Train) -> torch.optim.Optimizer:
    """``torch.optim.AdamW`` with decay on matrices and filters, on lookup tables if so configured, and on nothing else."""
    c = train.optimizer
    owners = (Linear, ExpertLinear, ShortConv, Head, MlmHead, *((Embed,) if c.decay_embedding else ()))
    decayed, plain = [], []
    for name, parameter in model.named_parameters():
        path, _, leaf = name.rpartition(".")
        decays = leaf == "weight" and isinstance(model.get_submodule(path), owners)
        (decayed if decays else plain).append(parameter)
    groups = [{"params": decayed, "weight_decay": c.weight_decay}, {"params": plain, "weight_decay": 0.0}]
    groups = [group for group in groups if group["params"]]
    return torch.optim.AdamW(groups, lr=train.learning_rate, betas=(c.beta1, c.beta2), eps=c.eps)


def balance_choices(model: torch.nn.Module, experts: Mapping[str, Usage], rate: float) -> None:
    """Moves every choice bias by ``rate`` towards an even load."""
    for layer, usage in experts.items():
        bias = model.get_submodule(f"{layer}.ffn").choice_bias
        if bias is not None:
            bias.data = balanced_bias(bias.data, usage.counts, rate)


def clip_gradients(parameters: list[torch.nn.Parameter], clip_norm: float | None) -> None:
    """Scales gradients down to a global norm of ``clip_norm``.

    Not ``torch.nn.utils.clip_grad_norm_``: that divides by ``norm + 1e-6``, optax by ``norm``, which float64 tells apart.
    """
    if clip_norm is None:
        return
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    norm = torch.sqrt(sum((gradient.square().sum() for gradient in gradients), torch.zeros(())))
    if norm >= clip_norm:
        for gradient in gradients:
            gradient.mul_(clip_norm / norm)


def scheduled_rate(train: Train, step: int) -> float:
    """Linear warmup from ``learning_rate / warmup_steps``, then half a cosine, at ``min_learning_rate`` by step ``steps``."""
    if step < train.warmup_steps:
        return train.learning_rate * (step + 1) / train.warmup_steps
    progress = min((step - train.warmup_steps) / (train.steps - train.warmup_steps), 1.0)
    return train.min_learning_rate + (train.learning_rate - train.min_learning_rate) * (1 + math.cos(math.pi * progress)) / 2


def _tensors(arrays: Mapping[str, np.ndarray]) -> dict[str, Tensor]:
    return {name: _tensor(value) for name, value in arrays.items()}


def _tensor(array: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array)).long()
