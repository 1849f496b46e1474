"""The PyTorch framework's answers, with ``torch.optim.AdamW`` as the independent optimizer."""

import math

import numpy as np
import torch
from torch import Tensor

from jax_transformer.config import Decoder, Train
from parity_tests.measured import Batch, Forward, Hub, Trained, reported_steps
from torch_reference.checkpoint import to_array, to_tensor
from torch_reference.models import build_model
from torch_reference.ops.loss import cross_entropy, next_token_weights


class TorchSide:
    """One config in PyTorch."""

    def __init__(self, config: Decoder):
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
        """Taps, token-mean loss and its gradient."""
        self._load(weights)
        loss, taps = self._loss(batch)
        self.model.zero_grad()
        loss.backward()
        return Forward({name: to_array(tap) for name, tap in taps.items()}, loss.item(), self._gradients())

    def plain_logits(self, weights: Hub, tokens: np.ndarray) -> np.ndarray:
        """Logits of tokens that are given no segments."""
        self._load(weights)
        with torch.no_grad():
            return to_array(self.model(_tensor(tokens))[0])

    def decode_logits(self, weights: Hub, batch: Batch, prefill: int) -> np.ndarray:
        """Logits through a cache: ``prefill`` tokens at once, the rest one by one."""
        self._load(weights)
        tokens, segments = _tensor(batch.tokens[:, :-1]), _tensor(batch.segments[:, :-1])
        rows, length = tokens.shape
        logits = []
        with torch.no_grad():
            cache = self.model.empty_cache(rows, length + 2)
            for start, stop in [(0, prefill), *((at, at + 1) for at in range(prefill, length))]:
                out, cache = self.model.decode(tokens[:, start:stop], cache, segments=segments[:, start:stop])
                logits.append(to_array(out))
        return np.concatenate(logits, axis=1)

    def train(self, weights: Hub, batches: tuple[Batch, ...], train: Train) -> dict[int, Trained]:
        """AdamW steps, one per batch, by ``torch.optim.AdamW``; by step, the first and the last."""
        self._load(weights)
        optimizer = build_optimizer(self.model, train)
        reported: dict[int, Trained] = {}
        trained = None
        for step, batch in enumerate(batches, 1):
            self.model.zero_grad()
            self._loss(batch)[0].backward()
            clip_gradients(list(self.model.parameters()), train.clip_norm)
            for group in optimizer.param_groups:
                group["lr"] = scheduled_rate(train, step - 1)
            optimizer.step()
            trained = self._trained(trained, optimizer)
            if step in reported_steps(len(batches)):
                reported[step] = trained
        return reported

    def initial(self, seed: int) -> Hub:
        """Freshly drawn weights."""
        return {name: to_array(value) for name, value in build_model(self.config, seed).state_dict().items()}

    def _loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        tokens, segments = _tensor(batch.tokens), _tensor(batch.segments)
        logits, aux = self.model(tokens[:, :-1], segments=segments[:, :-1], return_taps=True)
        counted = next_token_weights(segments)
        return cross_entropy(logits, tokens[:, 1:], counted) / counted.sum(), aux["taps"]

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
    """``torch.optim.AdamW`` with decay on matrices, on the embedding if so configured, and on nothing else."""
    c = train.optimizer
    decayed, plain = [], []
    for name, parameter in model.named_parameters():
        decays = parameter.ndim == 2 and (c.decay_embedding or name != "embed.weight")
        (decayed if decays else plain).append(parameter)
    groups = [{"params": decayed, "weight_decay": c.weight_decay}, {"params": plain, "weight_decay": 0.0}]
    groups = [group for group in groups if group["params"]]
    return torch.optim.AdamW(groups, lr=train.learning_rate, betas=(c.beta1, c.beta2), eps=c.eps)


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


def _tensor(array: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array)).long()
