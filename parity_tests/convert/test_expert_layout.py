"""The weights of experts keep their numbering on the way to the hub."""

import numpy as np

from jax_transformer.convert.layout import to_hub
from parity_tests.convert.test_layout import Spec, copied, kernel, random_params


def test_experts_stay_apart():
    specs = {
        "stack.slots.0.ffn.experts.up_proj.kernel": copied(kernel(5, 7, batch=(2,)), 3),
        "stack.slots.0.ffn.experts.up_proj.bias": Spec((2, 3, 7), axes=("experts", "ffn"), copies=1),
        "stack.tail.0.ffn.choice_bias": Spec((3,), axes=("experts",)),
    }
    params = random_params(specs)
    hub = dict(to_hub(params, specs))
    assert {name: value.shape for name, value in hub.items()} == {
        "stack.layers.0.ffn.experts.up_proj.weight": (3, 7, 5),
        "stack.layers.1.ffn.experts.up_proj.weight": (3, 7, 5),
        "stack.layers.0.ffn.experts.up_proj.bias": (3, 7),
        "stack.layers.1.ffn.experts.up_proj.bias": (3, 7),
        "stack.layers.2.ffn.choice_bias": (3,),
    }
    kernel_of = params["stack.slots.0.ffn.experts.up_proj.kernel"]
    for layer in range(2):
        for expert in range(3):
            weight = hub[f"stack.layers.{layer}.ffn.experts.up_proj.weight"][expert]
            assert weight.tobytes() == np.ascontiguousarray(kernel_of[layer, expert].T).tobytes()
