"""gen.campaign.trial: each kind of fault ends in the class that it should; boards in software."""

from functools import cache, partial

import numpy as np
import pytest

from boards import find_board
from gen.campaign.board import GROUPS
from gen.campaign.fault import draw, Fault, KINDS, MODES, NEVER_WRONG, Space, TURNS
from gen.campaign.measure import loaded_regions
from gen.campaign.trial import Reference, Trial, Trials
from gen.compile.package import ProgramImage
from gen.device.port import LinkError
from gen.machine.iss import Iss
from tests.faults.conftest import case  # noqa: F401
from tests.gen.campaign.software_shelf import open_port, POOL, SoftwareShelf


@pytest.fixture(scope="module")
def make(case):  # noqa: F811
    """Makes a :class:`Trial`."""
    network, program, images, _ = case
    wanted = network.run_batched(images, keep=("logits_acc",))["logits_acc"]

    @cache
    def simulated(words):
        acc, _, outcomes = Iss(program).run(np.frombuffer(words, np.int8).reshape(images[0].shape))
        return [outcome.write_hash for outcome in outcomes], acc.reshape(-1)

    def host(image):
        return simulated(image.tobytes())

    image = ProgramImage.of(program, model="random", network=network, predicted_cycles=4000)
    return partial(Trial, SoftwareShelf(case), image,
                   Reference(images, wanted.reshape(len(images), -1), host), timeout=0.01,
                   patience=1.0, board=find_board("ulx3s"), open_port=open_port)


@pytest.fixture
def run(make):
    """Runs a fault."""
    trials = Trials(make, timeout=0.01, limit=60)

    def one(kind, check="none", **place):
        return trials.run(Fault(0, kind, check, 0, place))

    return one


def test_results_are_plain(run):
    found = run("pool", array=POOL, entry=0, bit=0, cycle=0)
    assert found["number"] == 0 and found["kind"] == "pool" and found["check"] == "none"
    assert found["place"] == {"array": POOL, "entry": 0, "bit": 0, "cycle": 0}
    assert found["seconds"] >= 0 and found["planted"] is True


@pytest.mark.parametrize("check, outcome", [("none", "wrong"), ("crc", "wrong"),
                                            ("twice", "detected"), ("host", "detected")])
def test_working_memory(run, check, outcome):
    found = run("pool", check, array=POOL, entry=0, bit=0, cycle=0)
    assert found["class"] == outcome
    assert ("other_class" in found) == (outcome == "wrong")


@pytest.mark.parametrize("when", [{"when": "before"}, {"cycle": 5}])
@pytest.mark.parametrize("check, outcome", [("none", "wrong"), ("crc", "detected"),
                                            ("host", "detected")])
def test_loaded_memory(run, check, outcome, when):
    """A wrong weight is the same twice; what was wrong is mended."""
    found = run("weights", check, address=2, bit=7, **when)
    assert found["class"] == outcome
    assert found.get("recovered") == (None if outcome == "wrong" else "itself")


def test_result(make, run):
    trial = make()
    trial.open()
    address = trial.runner.session.result_address
    trial.close()
    assert run("result", "crc", address=address, bit=0)["class"] == "wrong"
    for check in ("twice", "host"):
        found = run("result", check, address=address, bit=0)
        assert found["class"] == "detected" and "memory is unreliable" in found["error"]


@pytest.mark.parametrize("place", [
    {"step": "open", "byte": 30}, {"step": "load", "byte": 400}, {"step": "exchange", "byte": 100},
    {"step": "run", "cycle": 3}])
def test_interruptions(run, place):
    found = run("restart", cause=3, **place)
    # Before the session begins a restart is none of its business: what follows loads the board.
    assert found["class"] == "masked" if place["step"] == "open" else (
        found["class"] == "detected" and found["recovered"] == "itself")
    found = run("power", back=True, **place)
    assert found["class"] == "detected" and found["recovered"] == "itself", found
    found = run("power", back=False, **place)
    assert found["class"] == "wedged" and found["recovered"] == "command"


def test_late_restart_does_no_harm(run):
    assert run("restart", cause=3, step="exchange", byte=10**6)["class"] == "masked"


def test_hang(case, run):  # noqa: F811
    found = run("hang", word=case[1].program, value=1)
    assert found["class"] == "detected" and "watchdog" in found["error"]


@pytest.mark.parametrize("variant", ["identity", "configuration", "exchanged"])
def test_another_bitstream(run, variant):
    found = run("bitstream", variant=variant, bit=3, byte=10)
    assert found["class"] == "detected" and found["recovered"] == "command"
    assert found["error"].startswith("LinkError: Lost" if variant == "exchanged" else
                                     "WeightsMismatch: ")


def test_flash(run):
    found = run("flash", share=0.5)
    assert found["class"] == "wedged" and found["recovered"] == "command"
    assert "no answer after" in found["error"]


def test_cut(run):
    found = run("cut", byte=60)
    assert found["class"] == "detected" and found["recovered"] == "itself"


@pytest.mark.parametrize("kind", ["loss", "flip", "duplicate", "reorder", "delay"])
def test_line(run, kind):
    assert run(kind, rate=0.05, seed=1)["class"] in ("masked", "detected")


def test_what_accepts_anything_is_wrong(run, monkeypatch):
    """The classes are not blind: a host that overlooks something is found."""
    monkeypatch.setattr("gen.device.session._compare", lambda info, image: "")
    assert run("bitstream", variant="identity", bit=3, byte=10)["class"] == "wrong"
    monkeypatch.setattr("gen.device.session.Session._check_inputs", lambda *arguments: None)
    assert run("weights", "crc", address=2, bit=7, when="before")["class"] == "wrong"


def test_not_even_a_command(run, monkeypatch):
    monkeypatch.setattr(Trial, "is_right", lambda *arguments: (_ for _ in ()).throw(
        LinkError("no")))
    assert run("flash", share=0.1)["class"] == "lost"


def test_hung(make, monkeypatch):
    """A host that never ends is stopped."""
    def forever(self, **options):
        while True:
            self.state()

    monkeypatch.setattr("gen.device.device.Device.wait", forever)
    trials = Trials(make, timeout=0.01, limit=0.3)
    found = trials.run(Fault(0, "weights", "none", 0, {"address": 0, "bit": 0, "when": "before"}))
    assert found["class"] == "hung"


@pytest.mark.slow
def test_every_kind_as_drawn(case, make):  # noqa: F811
    """One of each kind and check at least: no promise is broken."""
    program = case[1]
    trial = make()
    trial.open()
    session, opening = trial.runner.session, trial.line.written
    trial.close()
    space = Space(
        images=2, cycles=4000, bytes=2000, opening=opening, loading=9 * len(program.payload),
        regions={**loaded_regions(program), "image": [(session.image_address, 4)],
                 "result": [(session.result_address, program.result_words)]},
        arrays={kind: [(POOL, 4, 8)] for kind in GROUPS}, hung=[(program.program, 1)])
    trials = Trials(make, timeout=0.01, limit=60)
    wrong = []
    for number in range(len(TURNS) * len(MODES)):
        found = trials.run(draw(space, 1, number))
        if found["class"] in ("hung", "lost") or (
                found["class"] == "wrong" and found["check"] in NEVER_WRONG[found["kind"]]):
            wrong.append(found)
    assert not wrong
    assert np.all([kind in KINDS for kind in TURNS])
