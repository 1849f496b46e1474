"""What imports what when it runs: each half works where the other's framework is not installed."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from parity_tests.structure.sources import files, module_name

JAX = ("jax", "jaxlib", "flax", "optax", "orbax", "grain")
TORCH = ("torch", "transformers")

BLOCKER = """
import sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {blocked!r}:
            raise ModuleNotFoundError("No module named " + name, name=name)

sys.meta_path.insert(0, Blocker())
"""


def run(code: str, blocked: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Run code in a fresh Python in which some packages do not exist."""
    environment = os.environ | {"JAX_PLATFORMS": "cpu"}
    program = BLOCKER.format(blocked=tuple(blocked)) + code
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment, check=False)


def importable(*packages: str, but: Sequence[str] = ()) -> list[str]:
    names = [module_name(path) for path in files(*packages) if path.name != "__main__.py"]
    return [name for name in names if not name.startswith(tuple(but))]


@pytest.mark.parametrize(
    ("names", "blocked"),
    [
        (importable("jax_transformer/config", "jax_transformer/cli"), (*JAX, *TORCH)),
        (
            ["jax_transformer.convert.hub", *importable("jax_transformer/convert/hf", "jax_transformer/convert/gguf")],
            (*JAX, *TORCH),
        ),
        (importable("torch_reference"), JAX),
        (importable("jax_transformer"), (*TORCH, "torch_reference")),
    ],
    ids=[
        "config and command line without a framework",
        "hub without a framework",
        "torch_reference without jax",
        "jax_transformer without torch",
    ],
)
def test_every_module_imports_without_the_others_framework(names: list[str], blocked: tuple[str, ...]):
    done = run("".join(f"import {name}\n" for name in names), blocked)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("package", ["jax_transformer", "torch_reference"])
def test_importing_a_package_imports_nothing_heavy(package: str):
    heavy = (*JAX, *TORCH, "numpy", "pydantic", "yaml")
    done = run(f"import {package}\nprint([name for name in {heavy!r} if name in sys.modules])", ())
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


def test_a_package_names_what_it_does_not_have():
    done = run("import jax_transformer\njax_transformer.load_modle", ())
    assert "has no attribute 'load_modle'; it has __version__, config, build_model" in done.stderr


COMMANDS = {
    "help": (["--help"], 0, "inspect"),
    "help of a verb": (["train", "--help"], 0, "--resume"),
    "unknown verb": (["trian"], 2, "No such command 'trian'"),
    "unknown preset": (["train", "quikstart"], 2, "preset; did you mean 'quickstart'?"),
    "typo in an override": (["train", "quickstart", "train.stepps=3"], 2, "error: override 'train.stepps=3': train.stepps"),
    "typo for inspect": (["inspect", "mini_tiny", "d_modle=3"], 2, "did you mean 'd_model'?"),
    "typo for parity": (["parity", "mini_tiny", "d_modle=3"], 2, "did you mean 'd_model'?"),
    "no prompt": (["generate", "nowhere"], 2, "error: give the text to continue as --prompt TEXT"),
    "missing prompt file": (["generate", "nowhere", "--prompt-file", "none.txt"], 2, "--prompt-file none.txt: cannot be read"),
    "no folder": (["generate", "nowhere", "--prompt", "x"], 2, "error: 'nowhere': no such config file, folder or preset"),
    "impossible sampling": (["generate", "nowhere", "--prompt", "x", "--top-p", "2"], 2, "error: options: top_p: got 2.0"),
}  # fmt: skip


@pytest.mark.parametrize("case", COMMANDS)
def test_the_command_line_answers_mistakes_without_a_framework_or_a_traceback(case: str):
    arguments, status, wanted = COMMANDS[case]
    done = run(f"sys.argv = ['jax-transformer', *{arguments!r}]\nfrom jax_transformer.cli import main\nmain()", (*JAX, *TORCH))
    assert done.returncode == status, done.stderr
    assert wanted in (done.stderr if status else done.stdout)
    assert "Traceback" not in done.stderr


def test_a_closed_pipe_ends_the_command_quietly(tmp_path: Path):
    script = f"{sys.executable} -m jax_transformer inspect mini_tiny 2>{tmp_path / 'err'} | true"
    assert subprocess.run(["bash", "-c", script], env=os.environ | {"JAX_PLATFORMS": "cpu"}, check=False).returncode == 0
    assert "Traceback" not in (tmp_path / "err").read_text()
    assert "BrokenPipe" not in (tmp_path / "err").read_text()
