"""Verification: passes for what is the same, fails and names what is not, and asks where models go wrong."""

import json
import shutil
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jax_transformer import config as c
from jax_transformer.config.errors import ConfigError, WeightsError
from jax_transformer.convert import hub
from jax_transformer.convert.pretrained import save_pretrained
from jax_transformer.verify import run
from jax_transformer.verify.checks import LIMITS, relative_error
from jax_transformer.verify.run import Question, check_frameworks, default_frameworks, verify
from jax_transformer.verify.side import Side
from parity_tests.builders import MAX_LENGTH, attention, block, cross, decoder, encoder, encoder_decoder, tower
from parity_tests.cli.test_commands import run as command
from parity_tests.convert.models import normal_model
from parity_tests.structure.test_imports import TORCH
from parity_tests.structure.test_imports import run as run_without

YARN = c.Rope(scaling=c.YarnScaling(factor=4.0, original_length=12))
DYNAMIC = c.Rope(scaling=c.DynamicNtkScaling(factor=2.0, original_length=12))
LEARNED = c.Embedding(position=c.Learned())
CONFIGS = {
    "decoder": decoder(block(attention(window=5, position=YARN)), block(), num_layers=3),
    "length": decoder(block(attention(position=DYNAMIC))),
    "learned": decoder(block(attention(position=c.NoPosition())), embedding=LEARNED, max_length=16),
    "encoder": encoder(block(attention(window=5)), embedding=c.Embedding(num_token_types=2)),
    "classifier": encoder(block(), head=c.ClassifierHead(num_classes=3)),
    "encoder_decoder": encoder_decoder(tower(block()), tower(block(cross_attention=cross()))),
}
BOTH = Question(("jax", "torch"))


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """An exchange folder of each config."""
    root = tmp_path_factory.mktemp("verify")
    for name, config in CONFIGS.items():
        save_pretrained(normal_model(config), root / name)
    return {name: root / name for name in CONFIGS}


def changed(folder: Path, target: Path, name: str) -> Path:
    """A copy of a folder, one value of one tensor off by a little."""
    reader = hub.open_weights(folder)
    tensors = {key: reader.read(key).copy() for key in reader}
    tensors[name].flat[0] += 0.5
    specs = {key: (value.shape, value.dtype) for key, value in tensors.items()}
    hub.write_weights(target, specs, tensors.items(), {"config.json": (folder / "config.json").read_bytes()})
    return target


def changed_config(folder: Path, target: Path, **keys: Any) -> Path:
    """A copy of a folder with other values in its config."""
    shutil.copytree(folder, target)
    values = json.loads((folder / "config.json").read_text())
    (target / "config.json").write_text(json.dumps(values | keys))
    return target


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", CONFIGS)
def test_a_checkpoint_is_the_same_in_both_frameworks(name: str, dtype: c.DtypeName, folders: dict[str, Path]):
    certificate = verify(folders[name], folders[name], Question(("jax", "torch"), dtype))
    assert certificate.passed, certificate.checks
    assert certificate.a.tensors_sha256 == certificate.b.tensors_sha256
    decodes = [check for check in certificate.checks if check.name.startswith("cached decode")]
    assert len(decodes) == (0 if CONFIGS[name].kind == "encoder" else 3)
    assert {check.limit for check in certificate.checks[2:]} == {LIMITS[dtype]}


def test_one_other_value_fails_and_its_tensor_is_named(folders: dict[str, Path], tmp_path: Path):
    other = changed(folders["decoder"], tmp_path / "other", "stack.layers.1.attn.v_proj.weight")
    certificate = verify(folders["decoder"], other, BOTH)
    failed = {check.name: check for check in certificate.checks if not check.passed}
    assert failed["bytes"].error == 1
    assert failed["bytes"].note == "stack.layers.1.attn.v_proj.weight"
    assert "logits, short" in failed
    assert "structure" not in failed
    assert not [name for name in failed if "one pass" in name]


def test_a_cache_that_decodes_otherwise_fails_alone(folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch):
    own = Side.decode
    monkeypatch.setattr(Side, "decode", lambda self, inputs, read: own(self, inputs, read) * 1.001)
    failed = [check.name for check in verify(folders["decoder"], folders["decoder"], BOTH).checks if not check.passed]
    assert failed == ["cached decode", "cached decode of A = one pass"]


def stretched(window: int = 10, factor: float = 2.0) -> c.Decoder:
    """Rows of 8 tokens are inside its window and those of 14 inside its original context."""
    scaling = c.DynamicNtkScaling(factor=factor, original_length=20)
    return decoder(block(attention(window=window, position=c.Rope(base=100.0, scaling=scaling))))


@pytest.mark.parametrize("half", [0, 1])
@pytest.mark.parametrize(
    ("wrong", "found"),
    [
        (stretched(window=12), ["logits, beyond the window", "logits, beyond the original context", "cached decode"]),
        (stretched(factor=3.0), ["logits, beyond the original context"]),
    ],
)
def test_a_half_that_is_wrong_far_from_the_beginning_is_found_there(
    wrong: c.Decoder, found: list[str], half: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    save_pretrained(normal_model(stretched()), tmp_path / "model")
    side = import_module(run.SIDES[BOTH.frameworks[half]])
    build = side.abstract_model
    monkeypatch.setattr(side, "abstract_model", lambda config: build(wrong.model_copy(update={"dtype": config.dtype})))
    certificate = verify(tmp_path / "model", tmp_path / "model", BOTH)
    checks = {check["name"]: check for check in json.loads(certificate.to_json())["checks"]}
    assert [name for name, check in checks.items() if not check["passed"]] == found
    lengths = [checks[f"logits, {probe}"]["length"] for probe in ("short", "beyond the window", "beyond the original context")]
    assert lengths == [8, 14, 24]


def test_other_dtypes_are_another_structure(folders: dict[str, Path], tmp_path: Path):
    from jax_transformer.convert.pretrained import convert

    convert(folders["decoder"], tmp_path / "wide", "float64")
    checks = {check.name: check for check in verify(folders["decoder"], tmp_path / "wide", BOTH).checks}
    assert not checks["structure"].passed
    assert "float32[" in checks["structure"].note
    assert "float64[" in checks["structure"].note
    assert checks["logits, short"].passed


def test_other_models_are_refused_with_every_difference(folders: dict[str, Path], tmp_path: Path):
    stack = json.loads((folders["decoder"] / "config.json").read_text())["stack"]
    stack["pattern"][0]["attention"]["window"] = 6
    stack["pattern"][1]["norm"]["eps"] = 1e-4
    other = changed_config(folders["decoder"], tmp_path / "other", stack=stack)
    with pytest.raises(ConfigError) as error:
        verify(folders["decoder"], other, BOTH)
    assert "layers.0.attention.window: A (" in str(error.value)
    assert "has 5, B (" in str(error.value)
    assert "layers.1.norm.eps" in str(error.value)
    with pytest.raises(ConfigError, match=r"vocab_size: A .* has 19 tokens and B .* 21"):
        verify(folders["decoder"], _padded(tmp_path / "padded"), BOTH)


def _padded(folder: Path) -> Path:
    config = CONFIGS["decoder"].model_copy(update={"vocab_size": 21})
    save_pretrained(normal_model(config), folder)
    return folder


def test_how_a_model_is_computed_is_no_difference(folders: dict[str, Path], tmp_path: Path):
    stack = json.loads((folders["decoder"] / "config.json").read_text())["stack"]
    other = changed_config(folders["decoder"], tmp_path / "other", stack=stack | {"remat": "full"}, max_length=MAX_LENGTH + 9)
    certificate = verify(folders["decoder"], other, Question(("jax", "jax")))
    assert certificate.passed
    assert certificate.a.config_sha256 == certificate.b.config_sha256


def test_a_framework_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(ConfigError, match="'flax' is unknown; wanted two of jax, torch, transformers"):
        check_frameworks(("jax", "flax"))
    monkeypatch.setattr(run, "find_spec", lambda name: None if name in ("torch", "transformers") else name)
    with pytest.raises(ConfigError, match="transformers needs torch and transformers"):
        check_frameworks(("jax", "transformers"))
    assert default_frameworks(alone=False) == ("jax", "jax")
    with pytest.raises(ConfigError, match="torch is not installed"):
        default_frameworks(alone=True)


def test_transformers_opens_no_folder_of_ours(folders: dict[str, Path]):
    pytest.importorskip("transformers")
    with pytest.raises(WeightsError, match="--format hf"):
        verify(folders["decoder"], folders["decoder"], Question(("jax", "transformers")))


def test_torch_is_not_imported_where_it_is_not_asked_for(folders: dict[str, Path]):
    arguments = ["jax-transformer", "verify", *[str(folders["decoder"])] * 2, "--frameworks", "jax", "jax"]
    done = run_without(f"sys.argv = {arguments!r}\nfrom jax_transformer.cli import main\nmain()", (*TORCH, "torch_reference"))
    assert done.returncode == 0, done.stderr
    assert "the same" in done.stdout


def test_the_command_writes_a_certificate_and_exits_with_the_verdict(folders: dict[str, Path], tmp_path: Path):
    done = command("verify", folders["decoder"], "--dtype", "float64", "--report", tmp_path / "good.json")
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "good.json").read_text())
    assert record["passed"] is True
    assert (record["a"]["framework"], record["b"]["framework"], record["dtype"]) == ("jax", "torch", "float64")
    assert record["a"]["stored_dtypes"] == ["float32"]
    assert {"python", "jax-transformer", "jax", "torch", "flax", "numpy"} <= record["versions"].keys()
    assert all({"name", "error", "limit", "passed", "length", "note"} == check.keys() for check in record["checks"])
    other = changed(folders["decoder"], tmp_path / "other", "embed.weight")
    done = command("verify", folders["decoder"], other, "--report", tmp_path / "bad.json")
    assert done.returncode == 1, done.stderr
    assert "not the same: bytes, logits, short" in " ".join(done.stdout.split())
    assert json.loads((tmp_path / "bad.json").read_text())["passed"] is False


def test_the_command_refuses_what_is_no_checkpoint(tmp_path: Path):
    done = command("verify", tmp_path)
    assert done.returncode == 2
    assert "neither checkpoints/ (a run folder) nor config.json" in done.stderr


@pytest.mark.parametrize(
    ("got", "want", "error"),
    [
        ([1.0, 2.0], [1.0, 4.0], 0.5),
        ([0.0], [0.0], 0.0),
        ([1.0], [0.0], np.inf),
        ([np.nan], [np.nan], np.inf),
        ([np.inf, 1.0], [np.inf, 1.0], np.inf),
        ([1.0, 1.0], [1.0], np.inf),
    ],
)
def test_errors_are_relative_to_the_largest_logit(got: list[float], want: list[float], error: float):
    assert relative_error(np.array(got), np.array(want)) == error
