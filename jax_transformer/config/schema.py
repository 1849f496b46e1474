"""The JSON Schema of config files, from which editors complete and check YAML.

``python -m jax_transformer.config.schema > configs/schema.json`` refreshes the committed copy.
"""

import json
from typing import Any

from pydantic import TypeAdapter

from jax_transformer.config.model import Model
from jax_transformer.config.run import Run


def json_schema() -> dict[str, Any]:
    """The schema of a config file: a run or a model, with the short forms of a run's ``model`` included."""
    schema = TypeAdapter(Run | Model).json_schema()
    model = schema["$defs"]["Run"]["properties"]["model"]
    name = {"type": "string", "description": "Name or path of a model config."}
    over = {
        "type": "object",
        "properties": {"preset": name},
        "required": ["preset"],
        "description": "A preset and changes to it.",
    }
    schema["$defs"]["Run"]["properties"]["model"] = {"anyOf": [model, name, over]}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "jax-transformer config"} | schema


if __name__ == "__main__":
    print(json.dumps(json_schema(), indent=2))
