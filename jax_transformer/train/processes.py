"""Agreement between the processes of one run; every function returns at once when there is only one."""

from collections.abc import Callable

import jax
import numpy as np
from jax.experimental import multihost_utils

from jax_transformer.config.errors import CheckpointError

_FAILED = -1


def any_process(flag: bool) -> bool:
    """True on every process if ``flag`` is true on at least one. All processes must call it."""
    if jax.process_count() == 1:
        return flag
    return bool(np.any(multihost_utils.process_allgather(np.int32(flag))))


def on_leader(action: Callable[[], int]) -> int:
    """Runs ``action`` (result >= 0) on process 0 alone and returns its result on every process. All must call it.

    Its exception is raised on process 0, and a CheckpointError on the others: no process is left waiting.
    """
    if jax.process_count() == 1:
        return action()
    result, failure = _FAILED, None
    if jax.process_index() == 0:
        try:
            result = action()
        except Exception as error:
            failure = error
    result = int(multihost_utils.broadcast_one_to_all(np.int32(result)))
    if failure is not None:
        raise failure
    if result == _FAILED:
        raise CheckpointError("process 0 failed; its message says why")
    return result
