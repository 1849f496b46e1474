"""What a model must beat to have learned anything: the loss of knowing only how frequent each token is.

    python scripts/unigram_entropy.py quickstart
    python scripts/unigram_entropy.py configs/runs/mlm_topics.yaml data.seed=1

Counts the tokens that a run's objective predicts in one epoch of its training split, and prints the nats per predicted token
that those frequencies give on the validation split: compare with ``validation_loss`` in a run's ``metrics.jsonl``.
"""

import argparse
import itertools
import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from jax_transformer import config
from jax_transformer.config.load import load_run
from jax_transformer.data.corpus import open_corpus
from jax_transformer.data.loader import TrainLoader, validation_batches
from jax_transformer.train.objective import TASK, Batch


def predicted_counts(run: config.Run, batches: Iterable[Batch], outcomes: int) -> np.ndarray:
    """How often each id (or label) is to be predicted in ``batches``."""
    counts = np.zeros(outcomes)
    for batch in batches:
        targets, weights = (np.asarray(value) for value in TASK[type(run.effective_objective)].answers(batch))
        np.add.at(counts, targets.ravel(), weights.ravel())
    return counts


def unigram_entropy(run: config.Run, cache: Path) -> tuple[float, int]:
    """Nats per predicted token of the validation split under the training split's frequencies, and the number of tokens.

    One is added to every count, so that a token that training never showed has a finite price.
    """
    corpus = open_corpus(run.data, cache, run.model.vocab_size, run.effective_objective, run.start_token)
    size = run.train.batch_size // run.train.accumulation  # the batches that training evaluates
    epoch = TrainLoader(corpus, size, run.data.seed, corrupt=corpus.corrupt)
    source = run.data.source
    outcomes = len(source.labels) if isinstance(source, config.Labelled) else run.model.vocab_size
    trained = predicted_counts(run, itertools.islice(epoch, -(-len(corpus.train) // size)), outcomes) + 1
    held_out = predicted_counts(run, validation_batches(corpus, size, limit=run.train.evaluate_batches), outcomes)
    return float(-held_out @ np.log(trained / trained.sum()) / held_out.sum()), int(held_out.sum())


def main() -> None:
    """Print the entropy of the run that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", help="a run config: file, folder or preset")
    parser.add_argument("overrides", nargs="*", metavar="path=value", help="changes to it")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as cache:
        entropy, tokens = unigram_entropy(load_run(arguments.run, arguments.overrides), Path(cache))
    print(f"unigram entropy {entropy:.4f} nats per predicted token, over {tokens} tokens of the validation split")


if __name__ == "__main__":
    main()
