"""Global test settings: eight fake CPU devices, 64-bit numbers, no rank promotion, fixed seeds.

Set through ``jax.config`` rather than the environment, so that processes started by a test begin as a user's would.
"""

import contextlib
import os
import zlib
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import jaxtyping
import numpy as np
import pytest
from hypothesis import HealthCheck, settings

jax.config.update("jax_num_cpu_devices", 8)
# Eight devices on two busy cores may meet late in a collective; XLA would end the process after 40 seconds.
_PATIENCE = ("xla_cpu_collective_timeout_seconds", "xla_cpu_collective_call_terminate_timeout_seconds")
os.environ["XLA_FLAGS"] = " ".join([os.environ.get("XLA_FLAGS", ""), *(f"--{flag}=600" for flag in _PATIENCE)])
_INHERITED = os.environ["XLA_FLAGS"]
# Compiles the drawn configs in half of the processor time. XLA reads the variable once, so that processes started later do
# not get it.
os.environ["XLA_FLAGS"] += " --xla_cpu_use_fusion_emitters=false"
jax.config.update("jax_enable_x64", True)
jax.config.update("jax_numpy_rank_promotion", "raise")
# Compiling is what the suite's time goes into, and at these sizes optimised code earns none of it back. The laws hold either
# way; what runs in a process of its own (training, the command line) is compiled as a user's would be.
jax.config.update("jax_disable_most_optimizations", True)
jax.devices()
os.environ["XLA_FLAGS"] = _INHERITED

with contextlib.suppress(ImportError):  # the tests that need no torch run without it
    import torch

    torch.set_num_threads(1)

# Every annotation of a shape, dtype or type is checked at every call; the strings are the same in both packages.
CHECKED = [f"{package}.{floor}" for package in ("jax_transformer", "torch_reference") for floor in ("ops", "nn")]
jaxtyping.install_import_hook(CHECKED, "beartype.beartype")

settings.register_profile(
    "laws",
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.load_profile("laws")


MOST_MAPPINGS = 16_384
"""A quarter of what Linux grants a process (``vm.max_map_count``). A model with experts takes up to 1500, and never gives them
back while its compiled functions are cached; at the limit LLVM ends the process."""
_MAPPINGS = Path("/proc/self/maps")


@pytest.fixture(autouse=True)
def _compiled_functions_are_forgotten_in_time() -> Iterator[None]:
    yield
    if _MAPPINGS.exists() and _MAPPINGS.read_bytes().count(b"\n") > MOST_MAPPINGS:
        jax.clear_caches()


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    """A seed of the test's own: the same on every run, different between tests and parameters."""
    return zlib.crc32(request.node.name.encode())


@pytest.fixture
def rng(seed: int) -> np.random.Generator:
    """A numpy generator with the test's seed."""
    return np.random.default_rng(seed)
