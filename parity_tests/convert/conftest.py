"""An exported model that tests share."""

import pytest

from jax_transformer.convert.pretrained import save_pretrained
from parity_tests.convert.models import jax_model, tiny


@pytest.fixture(scope="session")
def exported(tmp_path_factory):
    """The exchange folder of ``jax_model(tiny())``; not to be changed."""
    folder = tmp_path_factory.mktemp("exported") / "model"
    save_pretrained(jax_model(tiny()), folder)
    return folder
