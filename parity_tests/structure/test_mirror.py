"""The two packages are the same, file for file and name for name."""

import ast
from pathlib import Path

from parity_tests.structure.sources import ROOT, files, label, parse, public

JAX, TORCH = ROOT / "jax_transformer", ROOT / "torch_reference"

TORCH_ONLY = {"checkpoint.py", "optimizer.py", "pickled.py", "verify/transformers_side.py"}
"""Hub <-> state_dict, of models and of AdamW, of which the JAX side is ``convert/`` and ``train/exchange.py``; torch's
own pickles; and a side of a comparison that is torch's alone."""

MIRRORED = (
    "generate/__init__.py",
    "generate/engine.py",
    "generate/request.py",
    "generate/sampler.py",
    "generate/text.py",
    "models/__init__.py",
    "models/cache.py",
    "models/checks.py",
    "models/decoder.py",
    "models/encoder.py",
    "models/encoder_decoder.py",
    "models/tower.py",
    "nn/absolute_position.py",
    "nn/activation.py",
    "nn/attention/__init__.py",
    "nn/attention/cache.py",
    "nn/attention/complex.py",
    "nn/attention/cross.py",
    "nn/attention/kernel.py",
    "nn/attention/gated_delta.py",
    "nn/attention/linear.py",
    "nn/attention/mla.py",
    "nn/attention/multi_head.py",
    "nn/attention/query_key.py",
    "nn/attention/softmax.py",
    "nn/block.py",
    "nn/context.py",
    "nn/embedding.py",
    "nn/ffn/__init__.py",
    "nn/ffn/clamped_glu.py",
    "nn/ffn/dense.py",
    "nn/ffn/experts.py",
    "nn/ffn/glu.py",
    "nn/ffn/mlp.py",
    "nn/ffn/moe.py",
    "nn/ffn/router.py",
    "nn/heads.py",
    "nn/linear.py",
    "nn/norm.py",
    "nn/position.py",
    "nn/residual.py",
    "nn/short_conv.py",
    "nn/stack.py",
    "ops/activation.py",
    "ops/attention/reference.py",
    "ops/attention/windowed.py",
    "ops/balance.py",
    "ops/complex_rotation.py",
    "ops/delta_rule/chunked.py",
    "ops/delta_rule/gates.py",
    "ops/delta_rule/recurrent.py",
    "ops/delta_rule/short_conv.py",
    "ops/dropout.py",
    "ops/experts/dense.py",
    "ops/linear_attention/chunked.py",
    "ops/linear_attention/recurrent.py",
    "ops/linear_attention/reference.py",
    "ops/loss.py",
    "ops/mask.py",
    "ops/norm.py",
    "ops/position.py",
    "ops/position_bias.py",
    "ops/rope_scaling.py",
    "ops/routing.py",
    "ops/sampling.py",
    "ops/segments.py",
    "ops/sinusoid.py",
    "verify/__init__.py",
    "verify/side.py",
)

JAX_ONLY_NAMES = {
    "nn/params.py": {"Maker.with_key", "ParamSpec", "ParamSpec.batch_dims", "get_params", "param_specs", "with_params"},
    "ops/precision.py": {"matmul_precision"},
}
"""Public names without a counterpart, and no more than these: the flat view of a tree, which a torch module has as its
``state_dict``."""

TORCH_ONLY_NAMES = {
    "generate/text.py": {"load_tokenizer"},
    "nn/attention/cache.py": {"store"},
    "ops/precision.py": {"torch_dtype"},
}
"""The same for torch: what JAX has in its own library, or elsewhere in the package."""


def names(path: Path) -> set[str]:
    """Public classes, their public methods, and public functions; torch's ``forward`` is ``__call__``."""
    found = set()
    for node in public(parse(path).body):
        found.add(node.name)
        found |= {f"{node.name}.{method.name}" for method in public(node.body)} if isinstance(node, ast.ClassDef) else set()
    return {name for name in found if not name.endswith(".forward")}


def test_every_mirrored_file_is_on_both_sides():
    missing = [label(side / name) for name in MIRRORED for side in (JAX, TORCH) if not (side / name).is_file()]
    assert not missing


def test_every_torch_file_has_a_twin_with_the_same_public_names():
    wrong = []
    for path in files("torch_reference"):
        name = path.relative_to(TORCH).as_posix()
        if name in TORCH_ONLY:
            continue
        if not (JAX / name).is_file():
            wrong.append(f"{label(path)} has no twin")
            continue
        here = names(path) - TORCH_ONLY_NAMES.get(name, set())
        there = names(JAX / name) - JAX_ONLY_NAMES.get(name, set())
        wrong += [f"{name}: {extra} is on one side only" for extra in sorted(here ^ there)]
    assert not wrong


def test_both_packages_offer_the_same_names():
    import jax_transformer
    import torch_reference

    assert dir(jax_transformer) == dir(torch_reference)
    for name in jax_transformer.__all__:
        assert getattr(jax_transformer, name) is not None
        assert getattr(torch_reference, name) is not None
