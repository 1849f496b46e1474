"""The main job, end to end, by the commands that a user would type.

    python scripts/quickstart.py

Trains a small decoder on text that every Python carries, evaluates and exports it, proves that the PyTorch mirror computes the
same numbers from the exported folder, generates from both, and leaves everything in a run folder.
"""

import json
import shlex
import subprocess
import sys
import time
from itertools import chain, count
from pathlib import Path

PROMPT = "The following "
GREEDY = ["--temperature", "0", "--max-new-tokens", "60"]


def command(*arguments: str, capture: bool = False) -> str:
    """Show and run one ``jax-transformer`` command; its output if ``capture``; ends the program if it fails."""
    print(f"\n$ jax-transformer {shlex.join(arguments)}", flush=True)
    pipe = subprocess.PIPE if capture else None
    result = subprocess.run([sys.executable, "-m", "jax_transformer", *arguments], stdout=pipe, text=True, check=False)
    if result.returncode:
        sys.exit(result.returncode)
    return result.stdout or ""


def new_folder() -> Path:
    """``runs/quickstart``, or the first of ``runs/quickstart-2``, ... that does not exist."""
    names = chain(["quickstart"], (f"quickstart-{number}" for number in count(2)))
    return next(path for name in names if not (path := Path("runs") / name).exists())


def main() -> None:
    """Run the job."""
    start = time.monotonic()
    folder = new_folder()
    export = str(folder / "export")
    command("train", "quickstart", "--folder", str(folder))
    last = json.loads((folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()[-1])
    print(f"validation loss {last['validation_loss']:.4f}, perplexity {last['perplexity']:.2f}")
    command("parity", export, "--json", str(folder / "parity.json"))
    texts = [
        command("generate", export, "--framework", framework, "--prompt", PROMPT, *GREEDY, capture=True)
        for framework in ("jax", "torch")
    ]
    print(f"\n{texts[0].strip()}\n")
    if texts[0] != texts[1]:
        sys.exit(f"greedy texts differ; PyTorch wrote:\n{texts[1]}")
    print("PyTorch wrote the same text, character for character.")
    print(f"""
Done in {time.monotonic() - start:.0f} s. In {folder}:
  loss.png       the loss curve            metrics.jsonl, tensorboard/   its numbers
  config.yaml    the config used           parity.json                   the parity report
  checkpoints/   to resume from            export/                       config.json, model.safetensors, tokenizer.json

Next (source .venv/bin/activate first):
  jax-transformer train quickstart train.steps=3000 --folder runs/longer     train longer
  jax-transformer train mini_small data.source.kind=text 'data.source.paths=["my/*.txt"]' --folder runs/mine
                                                                             your own text and a larger model
  jax-transformer generate {export} --prompt "Python " --temperature 0.8     sample from it
  jax-transformer inspect {export}                                           every tensor, named on both sides
  python -c "import torch_reference as t; print(t.load_pretrained('{export}'))"   open it in PyTorch""")


if __name__ == "__main__":
    main()
