"""The pictures of docs/components, drawn from the package's own functions.

    python scripts/draw_pictures.py docs/components/pictures

Size, resolution and metadata are fixed: on one machine the files are the same, byte for byte, every time.
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jax_transformer import config
from jax_transformer.nn.position import static_frequencies
from jax_transformer.ops import rope_scaling
from jax_transformer.ops.activation import ACTIVATION, clamped_swiglu, xielu
from jax_transformer.ops.mask import Mask, bidirectional_mask, causal_mask
from jax_transformer.ops.position import rope_frequencies
from jax_transformer.ops.position_bias import alibi, alibi_slopes, relative_buckets
from jax_transformer.ops.sinusoid import sinusoid, sinusoid_frequencies

LENGTH = 12
STYLE = {"font.size": 7.5, "axes.titlesize": 8, "lines.linewidth": 1.1, "axes.spines.top": False, "axes.spines.right": False}


def masks() -> Figure:
    """Who sees whom, from ``Mask.allowed``."""
    segments = jnp.asarray([[1] * 4 + [2] * 5 + [0] * 3])
    panels: list[tuple[str, Mask, dict[str, int]]] = [
        ("causal", causal_mask(LENGTH), {}),
        ("causal, window: 4", causal_mask(LENGTH), {"window": 4}),
        ("causal, window: 4, sink_tokens: 2", causal_mask(LENGTH), {"window": 4, "sink_tokens": 2}),
        ("causal, chunk_size: 5", causal_mask(LENGTH), {"chunk_size": 5}),
        ("bidirectional, window: 3", bidirectional_mask(LENGTH), {"window": 3}),
        ("causal, segments 1, 2 and padding", causal_mask(LENGTH, segments), {}),
    ]
    figure, axes = _grid(2, 3, (7.0, 4.6))
    for ax, (title, mask, limits) in zip(axes, panels, strict=True):
        ax.imshow(np.asarray(mask.allowed(**limits))[0], cmap="Blues", vmin=0, vmax=1.4)
        ax.set(title=title, xticks=range(0, LENGTH, 3), yticks=range(0, LENGTH, 3), xlabel="key", ylabel="query")
        ax.set_xticks(np.arange(LENGTH) - 0.5, minor=True)
        ax.set_yticks(np.arange(LENGTH) - 0.5, minor=True)
        ax.grid(which="minor", color="0.8", linewidth=0.5)
        ax.tick_params(which="both", length=0)
    return figure


def rope_scalings() -> Figure:
    """Frequencies over the unscaled ones, by pair; and the wavelengths, against the original and the longest length."""
    dim, original, factor = 64, 4096, 8.0
    plain = rope_frequencies(config.Rope().base, dim)
    length = jnp.full((1, 1), int(original * factor))
    scalings: dict[str, Any] = {
        "linear": config.LinearScaling(factor=factor),
        "ntk": config.NtkScaling(factor=factor),
        "yarn": config.YarnScaling(factor=factor, original_length=original),
        "llama3": config.Llama3Scaling(factor=factor, original_length=original),
    }
    curves = {kind: static_frequencies(config.Rope(scaling=scaling), dim) for kind, scaling in scalings.items()}
    dynamic = rope_scaling.dynamic_ntk(plain, length, 1.0, original, jnp.float32)
    curves["dynamic_ntk, factor: 1"] = np.asarray(dynamic)[0, 0]
    figure, (left, right) = _grid(1, 2, (7.0, 2.8))
    for name, frequencies in curves.items():
        left.plot(frequencies / plain, label=name, linestyle="--" if "dynamic" in name else "-")
        right.plot(2 * np.pi / frequencies, linestyle="--" if "dynamic" in name else "-")
    right.plot(2 * np.pi / plain, color="0.3", label="unscaled")
    for tokens, name in ((original, "original_length"), (original * factor, "factor * original_length")):
        right.axhline(tokens, color="0.7", linewidth=0.8)
        right.text(0, tokens * 1.15, name, color="0.4")
    left.set(title=f"frequency / unscaled frequency, factor: {factor:g}", xlabel="pair")
    right.set(title=f"wavelength in tokens, rotary_dim {dim}", xlabel="pair", yscale="log")
    left.legend(frameon=False)
    right.legend(frameon=False, loc="lower right")
    return figure


def position_biases() -> Figure:
    """ALiBi's bias of each head, and T5's bucket, by the distance from query to key."""
    offsets = jnp.arange(-160, 161)[None, None, :]
    slopes = alibi_slopes(8, 8.0)
    figure, (left, right) = _grid(1, 2, (7.0, 2.6))
    for head, bias in enumerate(np.asarray(alibi(offsets, slopes, jnp.float32))[0, :, 0]):
        left.plot(np.asarray(offsets)[0, 0], bias, color=mpl.colormaps["viridis"](head / 8), label=f"{slopes[head]:.2g}")
    for both in (False, True):
        buckets = np.asarray(relative_buckets(offsets, 32, 128, both))[0, 0]
        right.step(np.asarray(offsets)[0, 0], buckets, where="mid", label="bidirectional" if both else "causal")
    left.set(title="ALiBi: bias of 8 heads, by slope", xlabel="key position - query position", ylim=(-20, 6))
    right.set(title="T5: bucket, num_buckets: 32, max_distance: 128", xlabel="key position - query position")
    left.legend(frameon=False, fontsize=6, loc="upper center", ncols=4)
    right.legend(frameon=False)
    return figure


def sinusoids() -> Figure:
    """The vector of each position in either layout."""
    positions = jnp.arange(48)[None, :]
    figure, axes = _grid(1, 2, (7.0, 2.6))
    for ax, layout in zip(axes, ("interleaved", "halves"), strict=True):
        frequencies = sinusoid_frequencies(10_000.0, 64, "half")
        ax.imshow(np.asarray(sinusoid(positions, frequencies, layout, jnp.float32))[0], cmap="RdBu", aspect="auto")
        ax.set(title=f"layout: {layout}", xlabel="dimension", ylabel="position")
    return figure


def activations() -> Figure:
    """Every activation, and the clamped unit of gpt-oss."""
    x = np.linspace(-4.0, 4.0, 161)
    curves: dict[str, Callable[..., Any]] = dict(ACTIVATION)
    start = jnp.log(jnp.expm1(jnp.asarray([0.8])))  # where training begins: both curvatures 0.8
    curves["xielu"] = lambda x: xielu(x, start, jnp.log(jnp.expm1(jnp.asarray([0.3]))))
    figure, (left, middle, right) = _grid(1, 3, (7.0, 2.6))
    gelus = ("gelu_erf", "gelu_tanh", "quick_gelu", "silu")
    for name, function in curves.items():
        if name != "gelu_tanh":  # on this scale it lies on gelu_erf
            (middle if name in gelus else left).plot(x, np.asarray(function(jnp.asarray(x))), label=name)
    differs = [np.asarray(curves[name](jnp.asarray(x)) - curves["gelu_erf"](jnp.asarray(x))) for name in gelus[1:3]]
    middle.plot(x, 100 * differs[0], color="0.6", linestyle=":", label="100 (gelu_tanh - gelu_erf)")
    for up in (-8.0, 0.0, 8.0):
        gate = jnp.linspace(-4.0, 12.0, 161)
        right.plot(gate, np.asarray(clamped_swiglu(gate, jnp.full_like(gate, up), 7.0, 1.702)), label=f"up = {up:g}")
    left.set(ylim=(-1.5, 4), title="without a smooth gate", xlabel="x")
    middle.set(ylim=(-0.6, 4), title="x times a smooth gate", xlabel="x")
    right.set(title="clamped_glu, limit: 7", xlabel="gate")
    for ax in (left, middle, right):
        ax.legend(frameon=False, fontsize=6)
    return figure


def _grid(rows: int, columns: int, size: tuple[float, float]) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=size, dpi=110, layout="constrained")
    return figure, list(np.ravel(figure.subplots(rows, columns)))


PICTURES = {function.__name__: function for function in (masks, rope_scalings, position_biases, sinusoids, activations)}
"""File name without its suffix -> what draws it."""


def main() -> None:
    """Draw every picture into the folder that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where the PNG files go")
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    jax.config.update("jax_platforms", "cpu")
    with mpl.rc_context(STYLE):
        for name, draw in PICTURES.items():
            draw().savefig(folder / f"{name}.png", metadata={"Software": None})


if __name__ == "__main__":
    main()
