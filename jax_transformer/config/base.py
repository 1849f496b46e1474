"""The base of every config class: strict, frozen, closed, and free of any framework."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, Strict


class Config(BaseModel):
    """A frozen node of the config tree.

    Strict: a bool is no int, a string is no number. Closed: an unknown key is an error. Frozen and
    hashable: a config can key a compilation cache.
    """

    model_config = ConfigDict(
        strict=True,
        frozen=True,
        extra="forbid",
        allow_inf_nan=False,
        use_attribute_docstrings=True,
    )


type_of_sequence = Strict(False)
"""Marks a tuple field that also accepts a list, which is what YAML and JSON produce."""

Probability = Annotated[float, Field(ge=0.0, lt=1.0)]
"""A drop probability: 1.0 would drop everything and divide by zero, so it is excluded."""

Positive = Annotated[int, Field(ge=1)]
"""A count or a width."""
