import os

import pytest

from gen.config.plans import Plans


@pytest.fixture(scope="session")
def cache_home(tmp_path_factory):
    """A cache folder of the whole run, for what several tests, in any process, search for."""
    base = tmp_path_factory.getbasetemp()
    return base.parent if "PYTEST_XDIST_WORKER" in os.environ else base


@pytest.fixture(scope="session")
def plans(cache_home):
    """The plans of that folder: where the commands look for them, too."""
    return Plans(cache_home / "qsdt" / "plans")
