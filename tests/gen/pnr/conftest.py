import pytest

from gen.pnr import place


@pytest.fixture
def short(monkeypatch):
    """Little annealing."""
    monkeypatch.setattr(place, "ROUNDS", 8)
    monkeypatch.setattr(place, "MOVES", 40_000)
