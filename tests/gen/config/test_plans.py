"""Plans of earlier searches: the same program without a search, and never a wrong one."""

from dataclasses import asdict, is_dataclass, replace
import json

import pytest

from boards import find_board
from gen.compile.residency import Residency
from gen.config import plans as module
from gen.config.derive import derive
from gen.config.plans import Plans
from model import zoo


BOARD = find_board("ulx3s")


@pytest.fixture(scope="module")
def network():
    return zoo.load("qsdt_nano")


@pytest.fixture(scope="module")
def kept(network, tmp_path_factory):
    """(plans, what the first search found)."""
    plans = Plans(tmp_path_factory.mktemp("plans"))
    return plans, derive(BOARD, network, plans=plans)


@pytest.fixture
def no_search(monkeypatch):
    def search(self):
        pytest.fail("searched again")

    monkeypatch.setattr(Residency, "_search", search)


def plain(value):
    return asdict(value) if is_dataclass(value) else value.tolist()


def assert_same(left, right):
    assert left[0] == right[0]
    for name in ("payload", "program", "spill", "image", "result", "log", "memory_words", "homes",
                 "strips", "groups", "plan", "stem", "results"):
        one, other = (json.dumps(value, default=plain, sort_keys=True)
                      for value in (getattr(left[1], name), getattr(right[1], name)))
        assert one == other, name
    assert left[1].descriptors == right[1].descriptors
    assert left[1].maps.keys() == right[1].maps.keys()


def test_second_time_without_a_search(kept, network, no_search):
    plans, found = kept
    assert_same(derive(BOARD, network, plans=plans), found)
    path = plans.path(BOARD, network, {})
    assert path.stat().st_size < 100_000


@pytest.mark.parametrize("overrides", [
    {"memory": "sdram"},
    {"core": {"rows": 16, "pool_bank_words": 512, "psum_words": 64}, "twin": {"latency": 20}},
])
def test_spilled_and_in_sdram(network, overrides, tmp_path, monkeypatch):
    plans = Plans(tmp_path)
    found = derive(BOARD, network, overrides, plans=plans)
    monkeypatch.setattr(Residency, "_search", lambda self: pytest.fail("searched again"))
    assert_same(derive(BOARD, network, overrides, plans=plans), found)


def test_what_a_plan_depends_on(kept, network, monkeypatch):
    plans, _ = kept
    paths = {plans.path(BOARD, network, {}), plans.path(BOARD, network, {"fold": 1}),
             plans.path(replace(BOARD, ebr=BOARD.ebr - 1), network, {}),
             plans.path(find_board("ulx3s-45f"), network, {}),
             plans.path(BOARD, zoo.load("qsdt_s"), {})}
    monkeypatch.setattr(module, "code_digest", lambda *names: {"gen.compile.group": "another"})
    paths.add(plans.path(BOARD, network, {}))
    assert len(paths) == 6


@pytest.mark.parametrize("damage", [
    lambda text: "", lambda text: "[]", lambda text: "nothing", lambda text: "[" * 100_000,
    lambda text: text[:-2], lambda text: text.replace('"apart": false', '"apart": true'),
    lambda text: text.replace('"rows": 32', '"rows": 64')])
def test_a_damaged_plan_costs_a_search(kept, network, tmp_path, damage):
    plans, found = kept
    text = plans.path(BOARD, network, {}).read_text()
    other = Plans(tmp_path)
    path = other.path(BOARD, network, {})
    assert damage(text) != text
    path.write_text(damage(text))
    assert other.read(path, network) is None


def test_a_folder_that_cannot_be_written(kept, network, tmp_path):
    plans, found = kept
    (tmp_path / "file").write_text("")
    unwritable = Plans(tmp_path / "file")
    path = unwritable.path(BOARD, network, {})
    assert unwritable.read(path, network) is None
    unwritable.write(path, *found)
    assert (tmp_path / "file").read_text() == ""


def test_the_oldest_go_first(kept, network, tmp_path, monkeypatch):
    _, found = kept
    monkeypatch.setattr(module, "KEPT", 2)
    plans = Plans(tmp_path)
    for name in "abc":
        plans.write(tmp_path / f"{name}.json", *found)
    assert len(list(tmp_path.iterdir())) == 2 and (tmp_path / "c.json").exists()
