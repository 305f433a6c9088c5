"""FAULTS row 2: a build relies on a record of a verification only for what its contents say.

What is no passing verification of this core and network counts for nothing, and is told in a line;
what was verified is printed.
"""

import json
import logging

import pytest

from gen import build, verify
from gen.api import configure
from gen.check import record as records
from gen.check.record import described, passing, save, verified_path
from model import zoo
from model.error import InputError


CORE, NETWORK = "c" * 64, "4" * 64

GOOD = {"equal": True, "forms": ["integer", "iss", "rtl"], "model": "qsdt_nano",
        "inputs": "images", "images": 2, "lines": ["integer = iss: equal on images: 2"],
        "config": {"memory": "onchip"}, "memory": "on chip", "command": "qsdt verify",
        "figures": {"cycles": [100, 101], "layer_cycles": {"head": 7}}}


@pytest.fixture(autouse=True)
def workplace(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_passing_record_is_found_and_told():
    save(GOOD, CORE, NETWORK)
    found = passing(CORE, NETWORK)
    assert found["figures"] == GOOD["figures"]
    assert described(found) == ("verified: integer = iss = rtl on 2 images; memory: on chip; by "
                                "qsdt verify")
    assert passing("d" * 64, NETWORK) is None


def changed(**fields):
    """The file of a passing record with other fields (None: without them)."""
    record = json.loads(save(GOOD, CORE, NETWORK).read_text()) | fields
    return json.dumps({key: value for key, value in record.items() if value is not None})


FILES = {
    "empty": (lambda: "", "cannot be read"),
    "empty object": (lambda: "{}", "version"),
    "different": (lambda: changed(equal=False), "equal"),
    "equal as text": (lambda: changed(equal="true"), "equal"),
    "equal as number": (lambda: changed(equal=1), "equal"),
    "only different": (lambda: '{"equal": false}', "version"),
    "truncated": (lambda: changed()[:200], "cannot be read"),
    "not UTF-8": (lambda: b"\xff\xfe{}", "cannot be read"),
    "a list": (lambda: "[]", "no JSON object"),
    "deeply nested": (lambda: "[" * 100_000, "cannot be read"),
    "other version": (lambda: changed(version=0), "version"),
    "other core": (lambda: changed(core_digest="d" * 64), "core_digest"),
    "other network": (lambda: changed(network_digest=None), "network_digest"),
    "no RTL": (lambda: changed(forms=["integer", "iss"]), "integer and rtl"),
    "forms of a wrong kind": (lambda: changed(forms=[["integer"], 1]), "integer and rtl"),
    "patterns": (lambda: changed(inputs="patterns"), "patterns"),
    "layers": (lambda: changed(inputs=None), "patterns or of single layers"),
    "no images": (lambda: changed(images=0), "no images"),
    "true images": (lambda: changed(images=True), "no images"),
    "cycles missing": (lambda: changed(figures={}), "cycles of every image"),
    "cycles of one image": (lambda: changed(figures={"cycles": [1]}), "cycles of every image"),
    "cycles of a wrong kind": (lambda: changed(figures={"cycles": ["1", "2"]}),
                               "cycles of every image"),
    "configuration missing": (lambda: changed(config=None), "config"),
    "too large": (lambda: " " * (records.LARGEST + 1), "more than 10000000 bytes"),
}


@pytest.mark.parametrize("case", FILES)
def test_what_is_no_passing_verification(case, caplog):
    make, cause = FILES[case]
    content = make()
    path = verified_path(CORE, NETWORK)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with caplog.at_level(logging.WARNING):
        assert passing(CORE, NETWORK) is None
    message, = caplog.messages
    assert message.startswith(f"{path}: no passing verification: ") and cause in message
    assert message.endswith("; verify again")


def test_a_folder_in_its_place(caplog):
    verified_path(CORE, NETWORK).mkdir(parents=True)
    assert passing(CORE, NETWORK) is None
    assert "no passing verification" in caplog.text


@pytest.mark.parametrize("fields", [{"inputs": "patterns"}, {"equal": False}, {"images": 0}])
def test_nothing_else_is_saved(workplace, fields):
    with pytest.raises(InputError, match="cannot be relied on"):
        save(GOOD | fields, CORE, NETWORK)
    assert not list(workplace.rglob("*.json"))


def test_patterns_are_no_pass(workplace, capsys, monkeypatch):
    """Patterns in RTL are compared, and nothing is recorded that a build would rely on."""
    # One search for the configuration: it is not what is tested.
    design = configure(zoo.load("qsdt_nano"), name="qsdt_nano")
    for command in (verify, build):
        monkeypatch.setattr(command, "configure", lambda *_, **__: design)
    monkeypatch.setattr(verify, "verify", lambda *_, **__: type("", (), {
        "lines": ["integer = rtl: equal"], "differences": {},
        "figures": {"cycles": [5], "spike_events": [1], "layer_cycles": {}, "stats": {}}})())
    arguments = ["--model", "qsdt_nano", "--forms", "integer,rtl"]
    assert verify.cli([*arguments, "--patterns", "high"]) == 0
    assert not (workplace / "build" / "verified").exists()
    monkeypatch.setattr(verify, "core_digest", lambda core: CORE)
    monkeypatch.setattr(records, "core_digest", lambda core: CORE)
    assert verify.cli([*arguments, "--count", "1"]) == 0
    assert "verified: integer = rtl on 1 image; memory: on chip; by" in capsys.readouterr().out
    path = verified_path(CORE, zoo.load("qsdt_nano").digest())
    assert path.is_file()
    # A build says what it relies on, or asks for a verification.
    command = ["--board", "ulx3s", "--model", "qsdt_nano", "--until", "config"]
    assert build.cli(command) == 0
    assert "verified: integer = rtl on 1 image" in capsys.readouterr().err
    path.write_text('{"equal": true}')
    assert build.cli([*command[:-1], "synth"]) == 1
    error = capsys.readouterr().err
    assert "no passing verification: its version is None" in error
    assert "No passing verification of this configuration is recorded; run: " in error
    assert "Traceback" not in error


