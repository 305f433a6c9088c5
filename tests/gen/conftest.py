import pytest

from gen.config.plans import Plans


@pytest.fixture(scope="session")
def plans(cache_home):
    """The plans of that folder: where the commands look for them, too."""
    return Plans(cache_home / "qsdt" / "plans")
