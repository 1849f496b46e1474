"""The model that an argument names."""

from collections.abc import Sequence
from pathlib import Path

from jax_transformer.config import Dtype, Model


def read_model(target: str | Path, overrides: Sequence[str] = ()) -> Model:
    """The model config of a preset, a file, a run, or a checkpoint: ours, GGUF, Hugging Face's (dtype: that of its weights).

    Raises ConfigError or WeightsError where there is none, and for overrides of a checkpoint that is not ours.
    """
    from jax_transformer.config.errors import ConfigError
    from jax_transformer.config.load import load_config
    from jax_transformer.config.run import Run
    from jax_transformer.convert import gguf, hf
    from jax_transformer.convert.pickled import open_stored

    if gguf.is_gguf(target):
        if overrides:
            raise ConfigError(f"{target}: is a GGUF file, whose config takes no changes; got {' '.join(overrides)}")
        return gguf.read_config(target)
    if not hf.is_hf(target):
        config = load_config(target, overrides)
        return config.model if isinstance(config, Run) else config
    if overrides:
        raise ConfigError(
            f"{target}: is a checkpoint of Hugging Face, whose config takes no changes; got {' '.join(overrides)}"
        )
    config = hf.family_of(target).read_config(hf.read_values(target), str(Path(target) / "config.json"))
    stored = {str(info.dtype) for info in open_stored(target).values()}
    wide = "float64" in stored
    return config.model_copy(update={"dtype": Dtype(param="float64", compute="float64")}) if wide else config
