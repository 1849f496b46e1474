"""``jax-transformer generate``."""

import sys
from importlib import import_module
from pathlib import Path
from typing import Annotated, Literal

import typer

from jax_transformer.cli.arguments import Cast, Dequantize

_PACKAGE = {"jax": "jax_transformer", "torch": "torch_reference"}


def generate(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="A run, or a checkpoint: ours, Hugging Face's, GGUF.")],
    prompt: Annotated[str | None, typer.Option(help="Text to continue, or a source.", show_default=False)] = None,
    prompt_file: Annotated[Path | None, typer.Option(help="UTF-8 file that holds that text.", show_default=False)] = None,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Tokens to add at most.")] = 200,
    temperature: Annotated[float, typer.Option(help="Divides the logits; 0 takes the most likely token.")] = 0.8,
    top_k: Annotated[int | None, typer.Option(help="Draw from this many most likely tokens.", show_default=False)] = None,
    top_p: Annotated[float | None, typer.Option(help="Draw from the likeliest with this sum.", show_default=False)] = None,
    stop: Annotated[list[str] | None, typer.Option(help="End before this text; may be repeated.", show_default=False)] = None,
    seed: Annotated[int, typer.Option(help="The same seed gives the same text.")] = 0,
    chat: Annotated[bool, typer.Option("--chat", help="The text is a message, put as the chat template says.")] = False,
    system: Annotated[str | None, typer.Option(help="With --chat: the system message before it.", show_default=False)] = None,
    dtype: Cast = None,
    dequantize: Dequantize = False,
    framework: Annotated[Literal["jax", "torch"], typer.Option(help="Which implementation computes.")] = "jax",
) -> None:
    """Continue a text with a trained model.

    The text is streamed to the terminal as it is made; an encoder-decoder reads the prompt and writes the target alone, and a
    chat its answer alone.

    Example: jax-transformer generate runs/quickstart --prompt "The language" --top-k 50
    """
    from jax_transformer.cli.process import prepare
    from jax_transformer.cli.target import read_model
    from jax_transformer.config.load import make_config
    from jax_transformer.config.model import EncoderDecoder
    from jax_transformer.config.sampling import Sampling

    settings = make_config(Sampling, {"temperature": temperature, "top_k": top_k, "top_p": top_p, "seed": seed}, "options")
    text = _read_prompt(prompt, prompt_file)
    messages = _messages(text, chat, system)
    model = read_model(folder)
    prepare(model)
    stream_text = import_module(f"{_PACKAGE[framework]}.generate.text").stream_text
    pieces = stream_text(folder, messages or text, settings, max_new_tokens, stop or (), dtype, dequantize)
    sys.stdout.write("" if messages or isinstance(model, EncoderDecoder) else text)
    for piece in pieces:
        print(piece, end="", flush=True)
    sys.stdout.write("\n")


def _messages(text: str, chat: bool, system: str | None) -> list[dict[str, str]]:
    """The conversation, or none where the text is to be continued."""
    from jax_transformer.config.errors import DataError

    if not chat:
        if system is not None:
            raise DataError("--system: only a conversation has a system message; give --chat too")
        return []
    first = [] if system is None else [{"role": "system", "content": system}]
    return [*first, {"role": "user", "content": text}]


def _read_prompt(prompt: str | None, prompt_file: Path | None) -> str:
    from jax_transformer.config.errors import DataError

    if (prompt is None) == (prompt_file is None):
        raise DataError("give the text to continue as --prompt TEXT or as --prompt-file PATH, one of the two")
    if prompt is not None:
        return prompt
    assert prompt_file is not None
    try:
        return prompt_file.read_text(encoding="utf-8")
    except OSError as error:
        raise DataError(f"--prompt-file {prompt_file}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"--prompt-file {prompt_file}: byte {error.start} is not UTF-8; save the file as UTF-8") from error
