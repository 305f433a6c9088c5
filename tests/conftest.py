import os

import pytest


@pytest.fixture(scope="session")
def cache_home(tmp_path_factory):
    """A cache folder of the whole run, for what several tests, in any process, search for."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
