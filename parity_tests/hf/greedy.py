"""Greedy continuations by ``transformers`` of tiny models whose choices are clear and vary."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from jax_transformer.convert.hf import FAMILY
from parity_tests.hf.bases import TOKENS
from parity_tests.hf.cases import CASES
from parity_tests.hf.checkpoints import save, torch, transformers
from parity_tests.tolerances import CLEAR

STEPS = 12
"""New tokens: with the prompt, more than any window of the cases."""
VARIED = 4
"""Least number of different tokens in a continuation."""
ROWS, DRAWN, SEEDS = 2, 64, 8
"""Prompts that are kept, of how many, and how many models may be tried for them."""

GENERATING = [case for case, (name, _) in CASES.items() if not FAMILY[name].architecture.endswith("ForMaskedLM")]
"""Cases that write tokens."""


class Continued(NamedTuple):
    """Prompts, or sources, and their continuations."""

    prompts: list[list[int]]
    tokens: list[list[int]]


def oddest(name: str) -> str:
    """The case of a family with most to stumble over: a window, then the longest config."""
    cases = [case for case in GENERATING if CASES[case][0] == name]
    return max(cases, key=lambda case: (_has_window(CASES[case][1]), len(str(CASES[case][1]))))


def continued(case: str, folder: Path) -> Continued:
    """How transformers goes on after random prompts, and the model of it in ``folder``.

    Kept are prompts of which every choice is clear and whose continuation is no repetition of a few tokens. That is for
    transformers alone to say, so that it hides no difference. Matrices are wider than elsewhere and biases narrower: else some
    architectures say one token for ever.
    """
    for seed in range(SEEDS):
        model = save(case, folder, seed=seed, matrices=0.6 * (1 + seed), biases=0.1)
        prompts = np.random.default_rng(seed).integers(3, TOKENS, (DRAWN, 11 if model.config.is_encoder_decoder else 14))
        tokens, lead = _generate(model, prompts)
        varied = np.array([len(set(row)) >= VARIED for row in tokens.tolist()])
        rows = np.flatnonzero((lead >= CLEAR) & varied)[:ROWS]
        if len(rows) == ROWS:
            return Continued(prompts[rows].tolist(), tokens[rows].tolist())
    raise AssertionError(f"{case}: no {ROWS} of {DRAWN} prompts have clear and varied continuations, with any of {SEEDS} seeds")


def _generate(model: Any, prompts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The new tokens of each row, and the smallest lead of one of them."""
    settings = model.generation_config
    settings.eos_token_id, settings.forced_eos_token_id, settings.pad_token_id = None, None, 0
    given = torch.from_numpy(prompts)
    answer = model.generate(
        given,
        attention_mask=torch.ones_like(given),
        do_sample=False,
        num_beams=1,
        max_new_tokens=STEPS,
        output_logits=True,
        return_dict_in_generate=True,
        **_caching(model.config),
    )
    logits = torch.stack(answer.logits, 1).numpy()
    best = np.sort(logits, -1)
    lead = (best[..., -1] - best[..., -2]).min(1) / np.abs(logits).max()
    return answer.sequences[:, -STEPS:].numpy(), lead


def _caching(config: Any) -> dict[str, Any]:
    """The cache of an encoder-decoder: T5's own would have as many layers as the encoder, whatever the decoder has."""
    parts = (transformers.DynamicCache(), transformers.DynamicCache())
    return {"past_key_values": transformers.EncoderDecoderCache(*parts)} if config.is_encoder_decoder else {}


def _has_window(keys: dict[str, Any]) -> bool:
    return any("window" in key and type(value) is int for key, value in keys.items())
