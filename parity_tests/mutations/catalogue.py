"""Every mutation, by name."""

from parity_tests.mutations.attention import ATTENTION_MUTATIONS
from parity_tests.mutations.casts import CAST_MUTATIONS
from parity_tests.mutations.components import COMPONENT_MUTATIONS
from parity_tests.mutations.experts import EXPERT_MUTATIONS
from parity_tests.mutations.fields import FIELD_MUTATIONS
from parity_tests.mutations.linear_time import LINEAR_TIME_MUTATIONS
from parity_tests.mutations.modules import MODULE_MUTATIONS
from parity_tests.mutations.training import TRAINING_MUTATIONS
from parity_tests.mutations.wiring import WIRING_MUTATIONS

_ALL = (
    *FIELD_MUTATIONS,
    *COMPONENT_MUTATIONS,
    *EXPERT_MUTATIONS,
    *LINEAR_TIME_MUTATIONS,
    *MODULE_MUTATIONS,
    *ATTENTION_MUTATIONS,
    *WIRING_MUTATIONS,
    *CAST_MUTATIONS,
    *TRAINING_MUTATIONS,
)
MUTATIONS = {mutation.name: mutation for mutation in _ALL}
