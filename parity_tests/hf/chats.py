"""A tiny chat model of Hugging Face: weights, a byte tokenizer with special tokens, a chat template."""

import json
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, processors

from jax_transformer import config as c
from jax_transformer.data.tokenizer import build_tokenizer
from parity_tests.hf.cases import SMALL

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

CHATML = (
    "{%- for message in messages %}"
    "{{- '<|im_start|>' + message['role'] + '\n' + message['content'] | trim + '<|im_end|>' + '\n' }}"
    "{%- endfor %}{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- endif %}"
)
TEMPLATES = {
    "chatml": CHATML,
    "bos and namespace": (
        "{{ bos_token }}{% set ns = namespace(turn=0) %}\n"
        "{% for message in messages %}\n"
        "    {% if message.role == 'system' %}{% continue %}{% endif %}\n"
        "    {% set ns.turn = ns.turn + 1 %}\n"
        "[{{ ns.turn }}] {{ message | tojson }}{{ eos_token }}\n"
        "{% endfor %}{% generation %}>{% endgeneration %}{{ tools is none }}{{ unheard_of }}"
    ),
    "date": "{{ strftime_now('%Y') }}{{ messages[-1]['content'] }}",
}
CHAT = [{"role": "system", "content": "Be <brief> & kind. "}, {"role": "user", "content": " Grüße!\n"}]


def tokenizer() -> Tokenizer:
    """Bytes, the special tokens of chats, and a first token in front of every text."""
    backend = Tokenizer.from_str(build_tokenizer(c.ByteTokenizer(), []).to_json())
    backend.add_special_tokens(["<|im_start|>", "<|im_end|>"])
    bos = backend.token_to_id("<bos>")
    backend.post_processor = processors.TemplateProcessing("<bos> $A", special_tokens=[("<bos>", bos)])
    return backend


def save_chat_model(folder: Path, template: str = CHATML) -> Any:
    """The folder, and the model in it as transformers has it; texts end at ``<|im_end|>``."""
    backend = tokenizer()
    size = backend.get_vocab_size()
    keys = SMALL | {"vocab_size": size, "max_position_embeddings": 160, "eos_token_id": backend.token_to_id("<|im_end|>")}
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(
        transformers.AutoConfig.for_model("llama", **keys, initializer_range=0.6)
    )
    model.eval().save_pretrained(folder)
    save_texts(folder, template)
    return model


def save_texts(folder: Path, template: str | None = CHATML) -> None:
    """The tokenizer's files alone."""
    folder.mkdir(exist_ok=True)
    tokenizer().save(str(folder / "tokenizer.json"))
    eos = {"__type": "AddedToken", "content": "<|im_end|>", "lstrip": False, "normalized": False, "rstrip": False}
    eos |= {"single_word": False, "special": True}
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "bos_token": "<bos>", "eos_token": eos}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    if template is not None:
        (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
