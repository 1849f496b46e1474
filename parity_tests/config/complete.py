"""What one field of a model asks of others: without it a raw tree that spells the field out would be refused."""

from typing import Any

NUMBER = 512
"""A value that every count may have: even, and large enough for the byte vocabulary."""


def complete(tree: Any) -> Any:
    """A copy of a raw tree in which the rules between fields hold."""
    if isinstance(tree, list):
        return [complete(item) for item in tree]
    if not isinstance(tree, dict):
        return tree
    tree = {name: complete(value) for name, value in tree.items()}
    kind = tree.get("kind")
    if kind in ("mlp", "glu", "clamped_glu") and "hidden_dim" not in tree and "expansion_factor" not in tree:
        tree["expansion_factor" if "multiple_of" in tree else "hidden_dim"] = NUMBER
    if kind == "expert_choice":
        tree["acausal"] = True
    if kind == "moe" and tree["routing"].get("groups"):
        tree["routing"]["groups"] |= {"count": NUMBER // 2, "kept": NUMBER // 2}  # of two experts each
    if kind == "moe" and "shared_gate" in tree:
        tree |= {"shared": tree["expert"]}
    if "factor" in tree:
        tree["factor"] = 2.0  # of a rope scaling: at least 1
    if kind == "longrope":
        tree |= {name: [1.0] * (NUMBER // 2) for name in ("short_factors", "long_factors")}
    if "pattern" in tree:
        _complete_stack(tree)
    if kind == "encoder_decoder":
        block = tree["decoder"]["stack"]["pattern"][0]
        block.setdefault("cross_attention", {"num_heads": NUMBER, "head_dim": NUMBER})
    return tree


def _complete_stack(tree: dict[str, Any]) -> None:
    if "hybrid_ratio" in tree:
        tree["pattern"] = tree["pattern"] * 2
    attention = tree["pattern"][0]["attention"] if tree["pattern"] else {}
    if "shared_bias" in tree:
        attention["position"] = {"kind": "shared_bias"}
    elif attention.get("position", {}).get("kind") == "shared_bias":
        tree["shared_bias"] = {"kind": "t5_bias"}
