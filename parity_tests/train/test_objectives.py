"""Every objective trains, evaluates, saves, resumes to the same numbers, and exports, through the one ``train``."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import torch_reference
from jax_transformer import config
from jax_transformer.convert.pretrained import load_pretrained, save_pretrained
from jax_transformer.data.corpus import open_corpus
from jax_transformer.data.loader import TrainLoader, validation_batches
from jax_transformer.models import abstract_model, build_model
from jax_transformer.nn.params import get_params
from jax_transformer.train.loop import train
from jax_transformer.train.objective import TASK, Batch, has_segments
from jax_transformer.train.step import make_eval_step
from parity_tests.tolerances import FLOAT32_MODEL, FLOAT32_MODULE, FLOAT32_OPERATION, relative_error
from parity_tests.train.objectives import NAMES, hybrid, objective_run
from parity_tests.train.restored import restore_params
from parity_tests.train.runs import killed_after

NUMBERS = ("loss", "grad_norm", "validation_loss", "perplexity", "validation_accuracy")


def rows(folder: Path) -> list[dict[str, float]]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{name: line[name] for name in ("step", *NUMBERS) if name in line} for line in lines]


@pytest.mark.parametrize("name", NAMES)
def test_a_run_learns_resumes_to_the_same_bits_and_exports(name: str, tmp_path: Path) -> None:
    run = objective_run(name, tmp_path)
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert train(run, whole).step == 8
    found = rows(whole)
    assert found[-1]["loss"] < found[0]["loss"]
    measured = {"validation_accuracy"} if name == "classification" else {"perplexity"}
    assert found[-1].keys() == {"step", "loss", "grad_norm", "validation_loss"} | measured
    killed_after(3, whole, cut)
    assert train(run, cut, resume=True).step == 8
    assert rows(cut) == found
    params, _ = restore_params(whole / "checkpoints")
    for folder in (whole, cut):
        exported = get_params(load_pretrained(folder / "export"))
        assert exported.keys() == params.keys()
        for path, value in params.items():
            np.testing.assert_array_equal(exported[path], value, err_msg=path)


def test_torch_reads_the_export_of_a_hybrid_and_agrees(tmp_path: Path, rng: np.random.Generator) -> None:
    model = build_model(hybrid(), seed=3)
    save_pretrained(model, tmp_path / "model")
    tokens = rng.integers(0, model.config.vocab_size, (2, 20)).astype(np.int32)
    segments = np.stack([np.ones(20, np.int32), np.repeat([1, 2, 0], (9, 7, 4)).astype(np.int32)])
    want = np.asarray(model(tokens, segments=segments)[0])
    with torch.no_grad():
        got = torch_reference.load_pretrained(tmp_path / "model")(tokens, segments=segments)[0].numpy()
    assert relative_error(got[segments != 0], want[segments != 0]) <= FLOAT32_MODEL


def batch_of(run: config.Run, folder: Path) -> Batch:
    start = getattr(run.model, "start_token", 0)
    corpus = open_corpus(run.data, folder / "cache", run.model.vocab_size, run.effective_objective, start)
    return next(TrainLoader(corpus, 8, 0, corrupt=corpus.corrupt))


@pytest.mark.parametrize("name", NAMES)
def test_the_loss_counts_only_what_is_to_be_predicted(name: str, tmp_path: Path, rng: np.random.Generator) -> None:
    run = objective_run(name, tmp_path)
    batch = dict(batch_of(run, tmp_path))
    task, model = TASK[type(run.effective_objective)], build_model(run)
    targets, weights = (np.asarray(value) for value in task.answers(batch))
    logits, _ = task.outputs(model, batch, has_segments(run), None)
    assert logits.shape == (*targets.shape, logits.shape[-1])
    assert weights.shape == targets.shape
    assert set(np.unique(weights)) <= {0.0, 1.0}
    assert weights.sum() > 0
    pieces = np.log(np.sum(np.exp(np.asarray(logits, np.float64)), axis=-1))
    pieces -= np.take_along_axis(np.asarray(logits, np.float64), np.asarray(targets)[..., None], axis=-1)[..., 0]
    step = make_eval_step(abstract_model(run), segmented=has_segments(run), objective=run.effective_objective)
    sums = step(get_params(model), batch)
    np.testing.assert_allclose(sums["loss"], np.sum(pieces * weights), **FLOAT32_MODULE)
    assert sums["tokens"] == weights.sum()


def test_targets_are_what_follows_and_count_where_the_row_says_so() -> None:
    batch = {"tokens": np.array([[5, 6, 7, 8, 9, 0]]), "segments": np.array([[1, 1, 2, 2, 2, 0]])}
    task = TASK[config.NextToken]
    targets, weights = task.answers(batch)
    assert targets.tolist() == [[6, 7, 8, 9, 0]]
    assert weights.tolist() == [[1, 0, 1, 1, 0]]
    assert task.answers(batch | {"weights": np.array([[1, 0, 1, 0, 1, 1]])})[1].tolist() == [[0, 0, 0, 1, 0]]


@pytest.mark.parametrize("name", [name for name in NAMES if name != "next_token"])
def test_what_stands_in_padding_changes_nothing(name: str, tmp_path: Path, rng: np.random.Generator) -> None:
    run = objective_run(name, tmp_path)
    corpus = open_corpus(run.data, tmp_path / "cache", run.model.vocab_size, run.effective_objective)
    *_, last = validation_batches(corpus, len(corpus.validation) + 2)
    filled = dict(last)
    for ids, segments in (("tokens", "segments"), ("source", "source_segments")):
        if ids in last:
            noise = rng.integers(0, run.model.vocab_size, last[ids].shape).astype(np.int32)
            filled[ids] = np.where(last[segments] == 0, noise, last[ids])
            assert (filled[ids] != last[ids]).any()
    step = make_eval_step(abstract_model(run), segmented=has_segments(run), objective=run.effective_objective)
    params = get_params(build_model(run))
    sums, again = step(params, last), step(params, filled)
    assert sums["tokens"] == again["tokens"] > 0
    np.testing.assert_allclose(sums["loss"], again["loss"], **FLOAT32_OPERATION)
