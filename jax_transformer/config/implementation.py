"""How attention is computed, which is never what it computes: the forms, and what each of them cannot do."""

from typing import Literal, Self

from pydantic import model_validator

from jax_transformer.config.base import Config

Form = Literal["auto", "reference", "blockwise", "windowed", "cudnn", "splash"]

KERNELS: tuple[Form, ...] = ("cudnn", "splash")
"""Forms that are somebody else's code for one kind of device."""

MISSING: dict[Form, tuple[str, ...]] = {
    "blockwise": ("dropout",),
    "windowed": ("sink_tokens", "chunk_size"),
    "cudnn": ("dropout", "softcap", "sink_logits", "chunk_size"),
    "splash": ("dropout", "sink_tokens", "chunk_size"),
}
"""Fields that a form computes at their default only."""


class Implemented(Config):
    """An attention whose computation has several forms."""

    implementation: Form = "auto"
    """The form that computes it: the same function, by other means. ``auto`` chooses by length; ``reference`` holds all
    probabilities."""

    @model_validator(mode="after")
    def _check_implementation(self) -> Self:
        form = self.implementation
        for name in MISSING.get(form, ()):
            if value := getattr(self, name, None):
                raise ValueError(
                    f"implementation={form} cannot compute {name}={value}: leave {name} out, or use implementation: auto"
                )
        if form == "windowed" and getattr(self, "window", None) is None:
            raise ValueError("implementation=windowed without a window: set window, or use implementation: blockwise")
        if form in KERNELS:
            self._check_kernel(form)
        return self

    def _check_kernel(self, form: str) -> None:
        raise ValueError(
            f"implementation={form} computes softmax attention of a sequence over itself only: use implementation: blockwise"
        )
