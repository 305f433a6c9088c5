"""gen.campaign.run: resumed, never mixed with another campaign; nothing lost, nothing twice."""

import json
import threading

import pytest

from gen.campaign.run import Campaign
from model.error import InputError
from tests.gen.campaign.test_fault import SPACE


SETTINGS = {"model": "random", "core": "16x16 lanes", "cycles": 1000, "seed": 1, "command": "c",
            "count": 12, "note": ""}

KINDS, MODES = ("pool", "cut"), ("none", "crc")


class Trials:
    """Counts what is asked for; ends the campaign at some fault."""

    def __init__(self, stop_at=None):
        self.ran, self.stop_at, self.lock, self.stopped = [], stop_at, threading.Lock(), 0

    def __call__(self, fault):
        with self.lock:
            if len(self.ran) == self.stop_at:
                raise KeyboardInterrupt
            self.ran.append(fault)
        return {**fault.to_dict(), "class": "masked", "planted": True, "error": ""}

    def stop(self):
        self.stopped += 1


def run(folder, trials, *, count=12, settings=SETTINGS, jobs=3):
    return Campaign(folder, settings).run(SPACE, trials, count=count, seed=1, kinds=KINDS,
                                          modes=MODES, jobs=jobs, stop=trials.stop)


def test_whole(tmp_path):
    trials = Trials()
    found = run(tmp_path, trials)
    assert found["faults"] == 12 and sorted(fault.number for fault in trials.ran) == [*range(12)]
    assert json.loads((tmp_path / "campaign.json").read_text()) == found
    assert "| pool | none | 3 |" in (tmp_path / "campaign.md").read_text()


def test_resumed(tmp_path):
    """Interrupted twice, once within a line: the same as in one go."""
    whole = run(tmp_path / "whole", Trials())
    folder, ran = tmp_path / "parts", []
    for stop_at in (5, 3):
        trials = Trials(stop_at)
        with pytest.raises(KeyboardInterrupt):
            run(folder, trials, jobs=1)
        assert trials.stopped == 1 and not (folder / "campaign.md").exists()
        ran += trials.ran
    path = folder / "results.jsonl"
    assert len(path.read_text().splitlines()) == 8
    path.write_bytes(path.read_bytes()[:-30])
    trials = Trials()
    assert run(folder, trials) == whole
    assert [fault.number for fault in ran] == [*range(8)]
    assert sorted(fault.number for fault in trials.ran) == [*range(7, 12)]
    trials = Trials()
    assert run(folder, trials) == whole and trials.ran == []
    assert run(folder, trials, count=14)["faults"] == 14 and len(trials.ran) == 2


def test_measured_once(tmp_path):
    """Where a frame was sent twice, a run has more bytes: the first measurement stays."""
    from dataclasses import replace

    run(tmp_path, Trials(), count=4)
    known = (tmp_path / "settings.json").read_text()
    trials = Trials()
    Campaign(tmp_path, SETTINGS).run(replace(SPACE, bytes=9999), trials, count=40, seed=1,
                                     kinds=("cut",), modes=("none",), jobs=1)
    assert max(fault.place["byte"] for fault in trials.ran) < SPACE.bytes
    assert (tmp_path / "settings.json").read_text() == known


def test_another_campaign(tmp_path):
    run(tmp_path, Trials())
    run(tmp_path, Trials(), settings={**SETTINGS, "command": "d", "count": 13, "note": "x"})
    with pytest.raises(InputError, match="holds a campaign with other settings"):
        run(tmp_path, Trials(), settings={**SETTINGS, "seed": 2})
    (tmp_path / "settings.json").write_text("[")
    with pytest.raises(InputError, match=r"settings.json: is damaged; choose another folder"):
        run(tmp_path, Trials())
