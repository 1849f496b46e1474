"""Two processes write one checkpoint, restore it, fail and stop together."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from parity_tests.train.restored import restore_params

TWO_PROCESSES = """
import sys
from pathlib import Path
import jax
jax.config.update("jax_num_cpu_devices", 2)
folder, port, index = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
jax.distributed.initialize(f"127.0.0.1:{port}", 2, index)
import jax.numpy as jnp, numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from jax_transformer.config.errors import CheckpointError
from jax_transformer.train.checkpoint import Checkpointer
from jax_transformer.train.signals import StopFlag
mesh = jax.make_mesh((4,), ("fsdp",), axis_types=(AxisType.Auto,))
sharding = NamedSharding(mesh, PartitionSpec("fsdp"))
values = np.arange(16.0, dtype=np.float32)
w = jax.make_array_from_callback((16,), sharding, lambda at: values[at])
checkpointer = Checkpointer(folder, keep_last=2, keep_best=True)
for step in (1, 2, 3):
    checkpointer.save(step, {"params": {"w": w + step}}, {"step": step}, float(step))
checkpointer.wait()
if index == 0:
    assert checkpointer.poll() == (1, 2, 3)
    (folder / "3" / "record.json").unlink()
restored = checkpointer.restore({"params": {"w": jax.ShapeDtypeStruct((16,), np.float32, sharding=sharding)}})
for shard in restored.state["params"]["w"].addressable_shards:
    np.testing.assert_array_equal(np.asarray(shard.data), (values + 2)[shard.index])
assert restored.step == 2 and restored.record == {"step": 2}
try:
    checkpointer.restore({}, 9)
except CheckpointError:
    pass
else:
    raise SystemExit("both processes must learn that there is no step 9")
with StopFlag() as flag:
    if index == 1:
        flag.request()
    assert not flag.agreed(7) and flag.agreed(8) and flag.requested
checkpointer.close()
print("agreed")
"""


@pytest.mark.fault
def test_two_processes_commit_restore_and_fail_together(tmp_path: Path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-c", TWO_PROCESSES, str(tmp_path / "checkpoints"), str(port)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    processes = [subprocess.Popen([*command, str(index)], env=environment, text=True, **pipes) for index in range(2)]
    for process in processes:
        output, _ = process.communicate(timeout=120)
        assert process.returncode == 0, output
        assert "agreed" in output
    params, _ = restore_params(tmp_path / "checkpoints")
    np.testing.assert_array_equal(params["w"], np.arange(16.0) + 2)
