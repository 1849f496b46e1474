"""Small runs for the tests of training."""

import shutil
from pathlib import Path

from jax_transformer import config


def tiny_model(**changes: object) -> config.Decoder:
    """A decoder whose dims all differ, with two kinds of block, biases, and a remainder."""
    first = config.Block(
        attention=config.Softmax(num_heads=4, num_kv_heads=2, head_dim=6, qkv_bias=True, dropout=0.1),
        ffn=config.Glu(hidden_dim=24),
        norm=config.RMSNorm(),
        dropout=0.1,
    )
    second = config.Block(
        attention=config.Softmax(num_heads=2, head_dim=10, window=5),
        ffn=config.Mlp(hidden_dim=32, bias=True),
        norm=config.LayerNorm(),
    )
    fields: dict[str, object] = {
        "vocab_size": 264,
        "d_model": 16,
        "max_length": 20,
        "stack": config.Stack(pattern=(first, second), num_layers=5),
        "final_norm": config.RMSNorm(),
    }
    return config.Decoder(**(fields | changes))


def tiny_run(mesh: config.Mesh | None = None, model: config.Decoder | None = None, **train: object) -> config.Run:
    """A run of the tiny model over bytes of the built-in corpus."""
    fields: dict[str, object] = {"steps": 12, "warmup_steps": 3, "batch_size": 16, "log_every": 1, "evaluate_every": 6}
    return config.Run(
        model=model or tiny_model(),
        data=config.Data(sequence_length=12),
        train=config.Train(**(fields | {"evaluate_batches": 2} | train)),
        checkpoints=config.Checkpoints(every=4),
        mesh=mesh or config.Mesh(),
    )


def killed_after(step: int, whole: Path, folder: Path) -> None:
    """Make ``folder`` what ``whole`` was just after ``step`` was committed."""
    shutil.copytree(whole, folder)
    for later in (folder / "checkpoints").iterdir():
        if later.name.isdigit() and int(later.name) > step:
            shutil.rmtree(later)
