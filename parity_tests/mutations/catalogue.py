"""Every mutation, by name."""

from parity_tests.mutations.code import CODE_MUTATIONS
from parity_tests.mutations.fields import FIELD_MUTATIONS
from parity_tests.mutations.training import TRAINING_MUTATIONS

MUTATIONS = {mutation.name: mutation for mutation in (*FIELD_MUTATIONS, *CODE_MUTATIONS, *TRAINING_MUTATIONS)}
