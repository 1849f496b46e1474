"""Conversations as text: the chat template of a folder, rendered as transformers does, in a sandbox that runs no code of it."""

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from jax_transformer.config.errors import DataError

Messages = Sequence[Mapping[str, str]]
"""A conversation: ``role`` (system, user, assistant) and ``content`` of each message."""


def check_messages(messages: Messages, controls: Iterable[str]) -> None:
    """Raises DataError for what is no message, and for a text that holds one of ``controls``, the texts of special tokens.

    The model would take it for the end of the message or the like.
    """
    for number, message in enumerate(messages):
        if message.keys() != {"role", "content"} or not all(type(value) is str for value in message.values()):
            raise DataError(f"messages[{number}]: got {dict(message)!r}, wanted a role and a content, both text")
        for control in controls:
            if control in message["content"]:
                raise DataError(
                    f"messages[{number}]: its text holds {control!r}, a special token of the model, which would not be read as "
                    "text; write it otherwise"
                )


def render(template: str, messages: Messages, special_tokens: Mapping[str, str], label: str) -> str:
    """The text that asks a model for the next answer to ``messages``; ``special_tokens`` are those called ``bos_token`` etc.

    Raises DataError, which begins with ``label``, where the template refuses or does what it may not.
    """
    variables = {"messages": [dict(message) for message in messages], "tools": None, "documents": None}
    try:
        compiled = _ENVIRONMENT.from_string(template, globals=_FUNCTIONS)
        return compiled.render(**special_tokens, **variables, add_generation_prompt=True)
    except (jinja2.TemplateError, TypeError, ValueError, LookupError, ArithmeticError, RecursionError) as error:
        raise DataError(f"{label}: the chat template does not render these messages: {error}") from error


class _Generation(Extension):
    """``{% generation %}`` marks what an assistant says, for training; the text is the same."""

    tags = {"generation"}  # noqa: RUF012

    def parse(self, parser: Parser) -> list[nodes.Node]:
        """The statements in between."""
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _refuse(message: str) -> None:
    raise jinja2.TemplateError(message)


def _to_json(value: Any, ensure_ascii: bool = False, **options: Any) -> str:
    # Jinja's own filter writes <, > and & for HTML.
    return json.dumps(value, ensure_ascii=ensure_ascii, **options)


def _environment() -> ImmutableSandboxedEnvironment:
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols])
    environment.filters["tojson"] = _to_json
    return environment


def _now(form: str) -> str:
    return datetime.now().strftime(form)


_ENVIRONMENT = _environment()
_FUNCTIONS = {"raise_exception": _refuse, "strftime_now": _now}
"""What templates may call, beside what Jinja has."""
