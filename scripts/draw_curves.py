"""Loss curves of the presets with windows, linear-time mixers and experts, in one picture.

    python scripts/draw_curves.py docs/training_curves.png --steps 100

Trains each preset on the built-in corpus by the command that a user would type, all with the same data and schedule.
"""

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import matplotlib as mpl
from matplotlib.figure import Figure

from jax_transformer.train.metrics import read_metrics

PRESETS = ("sliding_tiny", "linear_tiny", "deltanet_tiny", "mixtral_tiny", "qwen3_mini")
COLORS = ("#4477aa", "#ee6677", "#228833", "#ccbb44", "#aa3377")


def train(preset: str, steps: int, folder: Path) -> list[dict]:
    """The metrics of a run of ``steps`` steps."""
    settings = {
        "data.sequence_length": 128,
        "train.steps": steps,
        "train.batch_size": 16,
        "train.learning_rate": 1e-3,
        "train.min_learning_rate": 1e-4,
        "train.warmup_steps": steps // 10,
        "train.evaluate_every": max(steps // 10, 1),
        "checkpoints.every": steps,
    }
    overrides = [f"{name}={value}" for name, value in settings.items()]
    subprocess.run([sys.executable, "-m", "jax_transformer", "train", preset, *overrides, "--folder", str(folder)], check=True)
    return read_metrics(folder)


def draw(curves: dict[str, list[dict]]) -> Figure:
    """Training loss as thin lines, validation loss as points."""
    figure = Figure(figsize=(6.4, 3.6), dpi=130, layout="constrained")
    panel = figure.subplots()
    for (preset, rows), color in zip(curves.items(), COLORS, strict=True):
        panel.plot([row["step"] for row in rows], [row["loss"] for row in rows], color=color, alpha=0.4)
        seen = [(row["step"], row["validation_loss"]) for row in rows if "validation_loss" in row]
        panel.plot(*zip(*seen, strict=True), "o-", color=color, markersize=3, label=f"{preset}, last {seen[-1][1]:.3f}")
    panel.set(title="Loss on the built-in corpus: training, and validation (points)", xlabel="step", ylabel="nats per token")
    panel.legend()
    panel.spines[["top", "right"]].set_visible(False)
    return figure


def main() -> None:
    """Train and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("picture", type=Path, help="the file to write")
    parser.add_argument("--steps", type=int, default=300, help="of every run")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        curves = {preset: train(preset, arguments.steps, Path(folder) / preset) for preset in PRESETS}
    style = {
        "font.size": 7.5,
        "axes.titlesize": 8,
        "lines.linewidth": 1.1,
        "axes.spines.top": False,
        "axes.spines.right": False,
    }
    with mpl.rc_context(style):
        draw(curves).savefig(arguments.picture, metadata={"Software": None})


if __name__ == "__main__":
    main()
