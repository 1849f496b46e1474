"""Mistakes made on purpose, in the torch half only: a ladder that lets one of them through proves nothing."""

from parity_tests.mutations.catalogue import MUTATIONS
from parity_tests.mutations.mutation import BASES, Mutation

__all__ = ["BASES", "MUTATIONS", "Mutation"]
