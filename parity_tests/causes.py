"""From the first tensor that differs to what usually makes it differ."""

import re

_FORWARD = (
    (r"taps", "a tap is missing, misspelt or in another order: the modules are wired differently"),
    (r"(encoder\.|decoder\.)?embed", "embedding: table, compute dtype, scale, absolute positions, types, norm or projection"),
    (
        r"(attn|cross|ffn)_(out_|sum_)?norm|(encoder\.|decoder\.)?final_norm",
        "normalisation: epsilon, its kind, its place in the formula, a scale or bias left out, or the cast",
    ),
    (
        r"(cross_)?attn\.(q|k)",
        "query/key: norm, clipping, temperature, rotation (base, fraction, layout, scaling, positions that do not restart), "
        "projection bias, or a transposed kernel",
    ),
    (r"(cross_)?attn\.v", "value projection: bias left out, or a transposed kernel"),
    (r"attn\.(beta|decay)", "gate of the delta rule: its sigmoid or softplus, its factor, or the parameters of the decay"),
    (
        r"(cross_)?attn\.(probabilities|mixed)",
        "attention: score scale, soft cap, position bias, sinks, causal or window mask, segments or padding seen, or which kv "
        "head serves which query head",
    ),
    (r"(cross_)?attn\.gate", "output gate: its projection, or per head against per dimension"),
    (r"(cross_)?attn", "output projection: bias left out, transposed kernel, or heads merged in another order"),
    (r"ffn\.hidden", "feed-forward: form of the activation (erf or tanh), gate and up swapped, or a bias left out"),
    (r"ffn", "down projection: bias left out or transposed kernel"),
    (r"output", "residual sum: a branch added twice or not at all, or the wrong input carried on"),
    (r"logits", "head: tying, bias, scale, soft cap, pooling, transposed matrix, or dtype"),
    (r"loss", "loss: which tokens count, the shift between inputs and targets, or mean against sum"),
    (r"errors of both", "one framework rounds more often: a norm, softmax or accumulation below float32"),
)
_GRADIENT = (
    (r"head\.|embed\.", "head or embedding: tying (the gradient of a tied table has two parts), or a bias that is not used"),
    (r"norm", "normalisation: its scale or bias is not used, or a stopped gradient"),
    (r"(q|k)_proj", "query/key projection: rotation, mask or score scale in the backward pass"),
    (r"_proj", "projection: a bias that is not used, or the recomputation of the activation"),
    (r"", "the backward pass alone: remat, a custom gradient, or a dropped term"),
)
_OPTIMIZER = (
    (r"first", "gradient clipping, or beta1"),
    (r"second", "beta2, or what is squared"),
    (
        r"change",
        "learning-rate schedule, epsilon, bias correction, or weight decay (how it is applied, and to which parameters)",
    ),
)
_DECODE = (
    (r"full", "left padding: padded tokens are seen or take positions"),
    (r"plain", "the mask without segments"),
    (
        r"cache|decode",
        "cache: position or slot of the new token, the order of rotation and storage, or the mask over empty slots",
    ),
)
_OTHER = {
    "casts": "one framework rounds at another place: before or after a scale, inside a norm, softmax or rotation",
    "structure": "other parameters on one side: a bias, a norm or a matrix more or less, another size or dtype",
    "round trip": "the layout between JAX and the hub loses, moves or casts values",
    "decode state": "cache: what the last call leaves: a slot, a window of the convolution, a sum or a state",
    "init": "initial standard deviation, or the depth scaling of the last projection of each branch",
}
_TABLES = {"forward": _FORWARD, "gradient": _GRADIENT, "optimizer": _OPTIMIZER, "decode": _DECODE}


def likely_cause(stage: str, name: str) -> str:
    """What usually makes ``name`` the first tensor of its stage to differ."""
    if stage not in _TABLES:
        return _OTHER[stage]
    own = re.sub(r"^(.*\.)?stack\.layers\.\d+\.", "", name) if stage == "forward" else name
    match = re.match if stage == "forward" else re.search
    return next((cause for pattern, cause in _TABLES[stage] if match(pattern, own)), "not in the table of known causes")
