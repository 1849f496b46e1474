"""A run moves to PyTorch and back in the middle: no bit of its state changes, and both continue alike."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from jax_transformer import config as c
from jax_transformer.config.errors import CheckpointError, ConfigError, WeightsError
from jax_transformer.convert.hub import open_weights
from jax_transformer.convert.training_folder import PARTS, Progress, read_progress
from jax_transformer.models import abstract_model
from jax_transformer.nn.params import param_specs
from jax_transformer.train.checkpoint import restore_arrays
from jax_transformer.train.committed import list_steps
from jax_transformer.train.exchange import export_training, import_training
from jax_transformer.train.loop import train
from jax_transformer.train.session import open_session
from parity_tests.tolerances import FLOAT32_TRAINED, FLOAT64, FLOOR, relative_error
from parity_tests.train.runs import killed_after, tiny_model, tiny_run

torch = pytest.importorskip("torch")
from parity_tests.torch_side import build_optimizer, clip_gradients, scheduled_rate  # noqa: E402
from torch_reference.checkpoint import load_pretrained, to_array  # noqa: E402
from torch_reference.ops.loss import cross_entropy, next_token_weights  # noqa: E402
from torch_reference.optimizer import adamw_state, load_training, save_training  # noqa: E402

LAST, MOVED = 7, 4
WIDE = c.Dtype(param="float64", compute="float64", logits="float64")


def plain_block() -> c.Block:
    """A layer that every Llama has."""
    return c.Block(attention=c.Softmax(num_heads=4, num_kv_heads=2, head_dim=6), ffn=c.Glu(hidden_dim=24), norm=c.RMSNorm())


def wide_run() -> c.Run:
    """A run in float64, without dropout, that Hugging Face's Llama expresses too."""
    model = tiny_model(stack=c.Stack(pattern=(plain_block(),), num_layers=2), dtype=WIDE, head=c.Head(tied=False))
    optimizer = c.AdamW(eps=1e-6, weight_decay=0.3)
    return tiny_run(model=model, steps=LAST, evaluate_every=4, batch_size=8, optimizer=optimizer, learning_rate=3e-3)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run to its end, by JAX alone."""
    folder = tmp_path_factory.mktemp("exchange") / "whole"
    train(wide_run(), folder)
    return folder


@pytest.fixture
def moved(whole: Path, tmp_path: Path) -> Path:
    """The run as it was when it moved."""
    killed_after(MOVED, whole, tmp_path / "run")
    return tmp_path / "run"


def batches(run: Path) -> Iterator[dict[str, np.ndarray]]:
    """What the run reads next."""
    session = open_session(wide_run(), run)
    step = list_steps(run / "checkpoints")[-1]
    session.loader.restore(restore_arrays(run / "checkpoints", step, "step")[1]["position"])
    return session.loader


def step_in_torch(model: Any, optimizer: Any, batch: dict[str, np.ndarray], step: int, logits_of: Any) -> None:
    """One step of the run."""
    settings = wide_run().train
    tokens = torch.from_numpy(np.array(batch["tokens"])).long()
    counted = next_token_weights(torch.ones_like(tokens))
    model.zero_grad()
    (cross_entropy(logits_of(model, tokens[:, :-1]), tokens[:, 1:], counted) / counted.sum()).backward()
    clip_gradients(list(model.parameters()), settings.clip_norm)
    for group in optimizer.param_groups:
        group["lr"] = scheduled_rate(settings, step)
    optimizer.step()


def arrays(run: Path, step: int) -> dict[str, np.ndarray]:
    return restore_arrays(run / "checkpoints", step)[0]


def assert_close(got: dict[str, np.ndarray], want: dict[str, np.ndarray]) -> None:
    assert got.keys() == want.keys()
    largest = {part: max(float(np.abs(v).max()) for n, v in want.items() if part in n) for part in ("params", "/mu/", "/nu/")}
    for name, value in want.items():
        part = next((part for part in largest if part in name), None)
        scale = 1.0 if part is None else float(np.abs(value).max()) + FLOOR * largest[part]
        assert relative_error(got[name], value, scale) <= FLOAT64, name


def test_three_steps_in_torch_are_three_steps_in_jax(whole: Path, moved: Path, tmp_path: Path):
    assert export_training(moved, tmp_path / "state") == Progress(MOVED, MOVED)
    model = load_pretrained(tmp_path / "state" / "weights")
    optimizer = build_optimizer(model, wide_run().train)
    assert load_training(tmp_path / "state", model, optimizer) == Progress(MOVED, MOVED)
    for step, batch in zip(range(MOVED, LAST), batches(moved), strict=False):
        step_in_torch(model, optimizer, batch, step, lambda model, tokens: model(tokens)[0])
    save_training(tmp_path / "later", model, optimizer, LAST)
    assert import_training(tmp_path / "later", moved) == Progress(LAST, LAST)
    assert_close(arrays(moved, LAST), arrays(whole, LAST))
    record = [restore_arrays(run / "checkpoints", LAST, "step")[1] for run in (moved, whole)]
    assert record[0]["position"] == record[1]["position"]


@pytest.mark.parametrize("stop", [5, 6])
def test_a_run_that_came_back_is_resumed(whole: Path, moved: Path, tmp_path: Path, stop: int):
    export_training(moved, tmp_path / "state")
    model = load_pretrained(tmp_path / "state" / "weights")
    optimizer = build_optimizer(model, wide_run().train)
    load_training(tmp_path / "state", model, optimizer)
    for step, batch in zip(range(MOVED, stop), batches(moved), strict=False):
        step_in_torch(model, optimizer, batch, step, lambda model, tokens: model(tokens)[0])
    save_training(tmp_path / "later", model, optimizer, stop)
    import_training(tmp_path / "later", moved)
    assert train(wide_run(), moved, resume=True).step == LAST
    assert_close(arrays(moved, LAST), arrays(whole, LAST))


def test_through_torch_and_back_changes_no_bit(moved: Path, tmp_path: Path):
    export_training(moved, tmp_path / "state")
    model = load_pretrained(tmp_path / "state" / "weights")
    optimizer = build_optimizer(model, wide_run().train)
    load_training(tmp_path / "state", model, optimizer)
    save_training(tmp_path / "back", model, optimizer, MOVED + 1)
    for part in PARTS:
        for file in (tmp_path / "state" / part).iterdir():
            assert (tmp_path / "back" / part / file.name).read_bytes() == file.read_bytes()
    import_training(tmp_path / "back", moved)
    before, after = arrays(moved, MOVED), arrays(moved, MOVED + 1)
    assert before.keys() == after.keys()
    for name, value in before.items():
        assert after[name].dtype == value.dtype, name
        assert name == "step" or after[name].tobytes() == value.tobytes(), name


def test_the_state_is_the_one_that_torch_itself_keeps(moved: Path, tmp_path: Path):
    export_training(moved, tmp_path / "state")
    model = load_pretrained(tmp_path / "state" / "weights")
    optimizer = build_optimizer(model, wide_run().train)
    state = adamw_state(tmp_path / "state", model, optimizer)
    step_in_torch(model, optimizer, next(batches(moved)), 0, lambda model, tokens: model(tokens)[0])
    own = optimizer.state_dict()
    assert state["state"].keys() == own["state"].keys()
    for number, entry in own["state"].items():
        assert {key: (value.shape, value.dtype) for key, value in entry.items()} == {
            key: (value.shape, value.dtype) for key, value in state["state"][number].items()
        }
    first = open_weights(tmp_path / "state" / "exp_avg")
    numbered = {parameter: number for number, parameter in enumerate(p for g in optimizer.param_groups for p in g["params"])}
    for name, parameter in model.named_parameters():
        assert to_array(state["state"][numbered[parameter]]["exp_avg"]).tobytes() == first.read(name).tobytes()


def test_transformers_continues_a_run_under_its_own_names(whole: Path, moved: Path, tmp_path: Path):
    transformers = pytest.importorskip("transformers")
    export_training(moved, tmp_path / "state", format="hf", family="llama")
    names = set(open_weights(tmp_path / "state" / "exp_avg_sq"))
    assert "model.layers.1.self_attn.q_proj.weight" in names
    own = wide_run().train.optimizer
    model = transformers.LlamaForCausalLM.from_pretrained(tmp_path / "state" / "weights", dtype=torch.float64)
    decayed = [p for name, p in model.named_parameters() if p.ndim == 2 and ("embed" not in name or own.decay_embedding)]
    plain = [p for p in model.parameters() if all(p is not q for q in decayed)]
    groups = [{"params": decayed, "weight_decay": own.weight_decay}, {"params": plain, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, betas=(own.beta1, own.beta2), eps=own.eps)
    load_training(tmp_path / "state", model, optimizer)
    for step, batch in zip(range(MOVED, LAST), batches(moved), strict=False):
        step_in_torch(model, optimizer, batch, step, lambda model, tokens: model(input_ids=tokens).logits)
    save_training(tmp_path / "later", model, optimizer, LAST)
    import_training(tmp_path / "later", moved)
    got, want = arrays(moved, LAST), arrays(whole, LAST)
    for name, value in want.items():  # transformers rounds norms, softmax and rotations to float32 inside
        assert relative_error(got[name], value) <= FLOAT32_TRAINED, name


def test_what_does_not_fit_is_refused(moved: Path, tmp_path: Path):
    export_training(moved, tmp_path / "state")
    with pytest.raises(WeightsError, match="exists already"):
        export_training(moved, tmp_path / "state")
    with pytest.raises(CheckpointError, match=f"is at step {MOVED}, wanted one after the newest of .*, {MOVED}"):
        import_training(tmp_path / "state", moved)
    with pytest.raises(WeightsError, match=r"has no training\.json"):
        read_progress(tmp_path)
    (tmp_path / "state" / "training.json").write_text(json.dumps({"step": 9, "updates": -1}))
    with pytest.raises(WeightsError, match="wanted step and updates, both counts"):
        read_progress(tmp_path / "state")
    (tmp_path / "state" / "training.json").write_text(json.dumps({"step": 9, "updates": 9}))
    values = json.loads((tmp_path / "state" / "exp_avg" / "config.json").read_text())
    values["final_norm"]["eps"] = 0.5
    (tmp_path / "state" / "exp_avg" / "config.json").write_text(json.dumps(values))
    with pytest.raises(ConfigError, match=r"final_norm\.eps: the run has 1e-06"):
        import_training(tmp_path / "state", moved)
    narrow = load_pretrained(tmp_path / "state" / "weights", dtype="float32")
    with pytest.raises(WeightsError, match=r"is torch\.float64, the model's parameter torch\.float32"):
        load_training(tmp_path / "state", narrow, build_optimizer(narrow, wide_run().train))
    assert list_steps(moved / "checkpoints")[-1] == MOVED


def test_every_moment_has_a_place(whole: Path):
    paths = param_specs(abstract_model(wide_run().model)).keys()
    found = {name.rpartition("/")[2] for name in arrays(whole, LAST) if "/mu/" in name or "/nu/" in name}
    assert found == set(paths)
    assert jax.config.read("jax_enable_x64")
