"""Config parts of mixtures of DeepSeek's kind: networks for every token, counted in experts, and groups of experts."""

from dataclasses import dataclass
from typing import Any

from jax_transformer.config.errors import ConfigError
from jax_transformer.convert.hf.flat import Flat
from jax_transformer.convert.hf.parts import Keys


@dataclass(frozen=True)
class SharedExperts:
    """A network for every token, as wide as ``key`` experts; none for 0."""

    key: str
    default: Any
    width: int
    """Default of one expert's."""

    def read(self, hf: Keys) -> Flat:
        """The product."""
        count = hf.get(self.key, self.default)
        width = hf.get("moe_intermediate_size", self.width) * count
        return {"layer.ffn.shared.hidden_dim": width} if count else {"layer.ffn.shared": None}

    def write(self, flat: Flat) -> dict[str, Any]:
        """The quotient; a width that is no multiple is then found to differ."""
        width, one = flat.get("layers.0.ffn.shared.hidden_dim", 0), flat["layers.0.ffn.expert.hidden_dim"]
        return {self.key: width // one}


@dataclass(frozen=True)
class Groups:
    """``n_group`` groups of experts, of which a token uses ``topk_group`` (DeepSeek-V3); one group is none."""

    counts: tuple[int, int]
    """Defaults."""

    def read(self, hf: Keys) -> Flat:
        """The groups. Raises ConfigError for a number that is none."""
        count, kept = hf.get("n_group", self.counts[0]), hf.get("topk_group", self.counts[1])
        if count < 1 or kept > count:
            raise ConfigError(f"{hf.label}: topk_group={kept} of n_group={count} groups: wanted 1 or more, and at most all")
        return groups(count, kept, 2) if count > 1 else {"layer.ffn.routing.groups": None}

    def write(self, flat: Flat) -> dict[str, Any]:
        """Both numbers, 1 without groups."""
        path = "layers.0.ffn.routing.groups"
        return {"n_group": flat.get(f"{path}.count", 1), "topk_group": flat.get(f"{path}.kept", 1)}


def groups(count: int, kept: int, top: int) -> Flat:
    """The values of groups whose score is the sum of their ``top`` best experts'."""
    return {f"layer.ffn.routing.groups.{name}": value for name, value in (("count", count), ("kept", kept), ("top", top))}
