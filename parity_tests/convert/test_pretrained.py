"""Exchange folders: JAX -> disk -> PyTorch -> disk -> JAX changes no bit; a cast is asked for and reported."""

import json
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jax_transformer import config
from jax_transformer.config.errors import CheckpointError, WeightsError
from jax_transformer.config.load import save_config
from jax_transformer.convert.hub import cast, check_finite, numpy_dtype, open_weights
from jax_transformer.convert.pretrained import convert, load_pretrained, save_pretrained
from jax_transformer.models import abstract_model
from jax_transformer.nn.params import get_params, param_specs, with_params
from jax_transformer.train.checkpoint import Checkpointer
from parity_tests.convert.folders import contents
from parity_tests.convert.models import assert_same_model, jax_model, normal_model, tiny
from parity_tests.tolerances import FLOAT32_MODEL, relative_error

DTYPES = ["float64", "float32", "bfloat16", "float16"]


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("dtype", DTYPES)
def test_jax_to_torch_to_jax_changes_no_bit(tmp_path, dtype, tied):
    checkpoint = pytest.importorskip("torch_reference.checkpoint")
    model = jax_model(tiny(tied, dtype))
    save_pretrained(model, tmp_path / "a", max_shard_bytes=3000)
    mirror = checkpoint.load_pretrained(tmp_path / "a")
    assert mirror.config == model.config
    assert ("head.weight" in mirror.state_dict()) is not tied
    checkpoint.save_pretrained(mirror, tmp_path / "b", max_shard_bytes=3000)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert len(list((tmp_path / "b").glob("*.safetensors"))) > 1
    assert_same_model(load_pretrained(tmp_path / "b"), model)


def test_the_mirror_computes_what_the_saved_model_does(tmp_path):
    checkpoint = pytest.importorskip("torch_reference.checkpoint")
    torch = pytest.importorskip("torch")
    model = normal_model(tiny(layers=2))
    save_pretrained(model, tmp_path / "a")
    tokens = np.arange(12).reshape(2, 6)
    wanted, _ = model(tokens)
    got, _ = checkpoint.load_pretrained(tmp_path / "a").eval()(torch.from_numpy(tokens))
    assert relative_error(got.detach().numpy(), wanted) <= FLOAT32_MODEL


def test_a_torch_model_has_no_parameter_left_on_meta(exported):
    mirror = pytest.importorskip("torch_reference.checkpoint").load_pretrained(exported)
    assert {tensor.device.type for tensor in (*mirror.parameters(), *mirror.buffers())} == {"cpu"}
    assert all(parameter.requires_grad for parameter in mirror.parameters())


def test_every_process_reads_its_own_part(exported):
    """Sharded over 8 devices, the parameters are those of an unsharded load."""
    mesh = Mesh(np.array(jax.devices()).reshape(2, 4), ("x", "y"))

    def halves(shape):
        """The first even dimension over one mesh axis, replicated over the other."""
        even = next((i for i, size in enumerate(shape) if size % 2 == 0), None)
        return NamedSharding(mesh, PartitionSpec(*("x" if i == even else None for i in range(len(shape)))))

    shardings = {path: halves(spec.shape) for path, spec in param_specs(abstract_model(tiny())).items()}
    sharded = load_pretrained(exported, shardings=shardings)
    assert_same_model(sharded, load_pretrained(exported))
    kernel = get_params(sharded)["stack.slots.0.attn.q_proj.kernel"]
    assert kernel.addressable_shards[0].data.size < kernel.size


def test_the_tokenizer_travels_along(tmp_path):
    (tmp_path / "tokenizer.json").write_text("{}")

    class Tokenizer:
        def to_json(self):
            return "{}"

    save_pretrained(jax_model(tiny()), tmp_path / "a", tokenizer=tmp_path / "tokenizer.json")
    save_pretrained(jax_model(tiny()), tmp_path / "b", tokenizer=Tokenizer())
    convert(tmp_path / "a", tmp_path / "c")
    assert (tmp_path / "a" / "tokenizer.json").read_text() == "{}"
    assert contents(tmp_path / "a") == contents(tmp_path / "b") == contents(tmp_path / "c")
    with pytest.raises(WeightsError, match="no such tokenizer"):
        save_pretrained(jax_model(tiny()), tmp_path / "d", tokenizer=tmp_path / "none.json")


@pytest.mark.parametrize("load", ["jax", "torch"])
def test_a_cast_is_explicit_and_reported(tmp_path, load):
    model = normal_model(tiny())
    save_pretrained(model, tmp_path / "a")
    convert(tmp_path / "a", tmp_path / "b", dtype="bfloat16")
    if load == "jax":
        save_pretrained(load_pretrained(tmp_path / "a", dtype="bfloat16"), tmp_path / "c")
    else:
        checkpoint = pytest.importorskip("torch_reference.checkpoint")
        checkpoint.save_pretrained(checkpoint.load_pretrained(tmp_path / "a", dtype="bfloat16"), tmp_path / "c")
    assert contents(tmp_path / "b") == contents(tmp_path / "c")
    assert json.loads((tmp_path / "b" / "config.json").read_text())["dtype"]["param"] == "bfloat16"
    assert {str(info.dtype) for info in open_weights(tmp_path / "b").values()} == {"bfloat16"}
    kernel = get_params(model)["head.kernel"]
    assert np.array_equal(get_params(load_pretrained(tmp_path / "b"))["head.kernel"], kernel.astype("bfloat16"))


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_value_that_is_not_finite_is_counted(dtype):
    array = np.ones(7, numpy_dtype(dtype))
    check_finite("w", array)
    quiet = np.array([np.nan, np.inf, -np.inf], array.dtype)
    signalling = np.array([np.inf], array.dtype).view(f"u{array.itemsize}") + 1
    array[2:6] = [*quiet, *signalling.astype(f"u{array.itemsize}").view(array.dtype)]
    with pytest.raises(WeightsError, match="4 of 7"):
        check_finite("w", array)
    assert np.array_equal(np.isnan(cast("w", quiet, "float16")), [True, False, False])


def test_a_value_that_overflows_is_named():
    with pytest.raises(WeightsError, match=r"tensor 'w': 2 of 3 values overflow float16, the largest is 1e\+06"):
        cast("w", np.array([1.0, 70000.0, -1e6], np.float32), "float16")
    assert np.isnan(cast("w", np.array([np.nan], np.float32), "float16")).all()


def test_a_model_cast_behind_its_config_is_not_saved(exported, tmp_path):
    model = normal_model(tiny())
    halved = with_params(model, {path: array.astype("bfloat16") for path, array in get_params(model).items()})
    with pytest.raises(WeightsError, match=r"bfloat16.*dtype\.param=float32"):
        save_pretrained(halved, tmp_path / "a")
    mirror = pytest.importorskip("torch_reference.checkpoint")
    with pytest.raises(WeightsError, match=r"bfloat16.*dtype\.param=float32"):
        mirror.save_pretrained(mirror.load_pretrained(exported).bfloat16(), tmp_path / "a")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("dtype", ["float8", "int8", ""])
def test_a_dtype_that_is_none_is_refused(exported, dtype):
    with pytest.raises(WeightsError, match="unknown"):
        load_pretrained(exported, dtype=dtype)


@pytest.fixture
def run_folder(tmp_path):
    """A run with two committed steps; the first is the best."""
    run = config.Run(
        model=tiny(),
        data=config.Data(sequence_length=8, tokenizer=config.CharTokenizer()),
        train=config.Train(steps=10, batch_size=8, warmup_steps=1),
    )
    save_config(run, tmp_path / "config.yaml")
    (tmp_path / "tokenizer.json").write_text("{}")
    checkpointer = Checkpointer(tmp_path / "checkpoints", keep_last=2, keep_best=True)
    for step, loss in ((1, 1.0), (2, 2.0)):
        checkpointer.save(step, {"params": get_params(jax_model(run.model, seed=step))}, {}, loss)
    checkpointer.close()
    return tmp_path


def test_a_run_becomes_an_exchange_folder(run_folder, tmp_path):
    for step, seed in (("best", 1), ("latest", 2), (1, 1)):
        convert(run_folder, tmp_path / f"export-{step}", step=step)
        save_pretrained(jax_model(tiny(), seed), tmp_path / f"saved-{step}", tokenizer=run_folder / "tokenizer.json")
        assert contents(tmp_path / f"export-{step}") == contents(tmp_path / f"saved-{step}")


def test_a_run_that_cannot_be_converted_leaves_nothing(run_folder):
    with pytest.raises(CheckpointError, match="7"):
        convert(run_folder, run_folder / "export", step=7)
    save_config(tiny(layers=3), run_folder / "config.yaml")
    with pytest.raises(WeightsError, match="config of a model"):
        convert(run_folder, run_folder / "export")
    with pytest.raises(WeightsError, match="neither"):
        convert(run_folder / "checkpoints", run_folder / "export")
    assert not (run_folder / "export").exists()


BLOCKED = """
import sys
sys.modules[sys.argv[1]] = None
import {module}
print("ok")
"""


@pytest.mark.parametrize(
    ("module", "blocked"),
    [
        ("jax_transformer.convert.hub", "jax"),
        ("jax_transformer.convert.layout", "jax"),
        ("jax_transformer.convert.hub", "torch"),
        ("jax_transformer.convert.pretrained", "torch"),
        ("torch_reference.checkpoint", "jax"),
    ],
)
def test_one_framework_is_enough(module, blocked):
    root = Path(__file__).resolve().parents[2]
    code = BLOCKED.format(module=module)
    subprocess.run([sys.executable, "-c", code, blocked], cwd=root, check=True, capture_output=True)
