"""Records of passing verifications: what a build relies on, and checks before it does."""

from collections.abc import Mapping, Sequence
from functools import partial
import json
import logging
from pathlib import Path
from typing import Any

from model.error import InputError
from model.files import digest_bytes, make_folder, write_atomic
from sim.rtl.verilator import SIMULATORS
from sim.rtl.verilog import cached_rtlil


__all__ = ["VERIFIED", "core_digest", "described", "any_record", "passing", "save",
           "verified_path"]


log = logging.getLogger(__name__)


VERSION = 1
"""Of the contents of a record. Records of another version are no verification."""

VERIFIED = Path("build/verified")
"""Folder of the records, one file for each core and network."""

FORMS = ("integer", "rtl")
"""Forms that must have been compared: the ISS between them may be left out."""

LARGEST = 10_000_000
"""Bytes of a record that are read: one of a thousand images has some 100 kB."""


def core_digest(config):
    """Digest of the core's RTL: what a verification is valid for.

    That of the RTLIL which Amaranth makes, so that it does not depend on which yosys there is.
    """
    from hw.core import Core

    return digest_bytes(cached_rtlil(partial(Core, config), "core", SIMULATORS).encode())


def verified_path(core, network):
    """Where the record for digests of a core and a network lies."""
    return VERIFIED / f"{core[:16]}-{network[:16]}.json"


def any_record(network):
    """Whether there may be a record for this digest of a network, of whatever core."""
    return any(VERIFIED.glob(f"*-{network[:16]}.json"))


def _is_count(value):
    return isinstance(value, int) and not isinstance(value, bool)


def _fault(record: Any, core: str, network: str) -> str | None:
    """Why the contents of a file are no passing verification of this core and network."""
    if not isinstance(record, Mapping):
        return "it is no JSON object"
    if record.get("version") != VERSION:
        return f"its version is {record.get('version')!r}, not {VERSION}"
    if record.get("equal") is not True:
        return "it does not say that the forms are equal"
    for name, wanted in (("core_digest", core), ("network_digest", network)):
        if record.get(name) != wanted:
            return f"its {name} is that of another"
    forms = record.get("forms")
    if not isinstance(forms, Sequence) or not set(FORMS) <= {f for f in forms
                                                            if isinstance(f, str)}:
        return f"it did not compare {' and '.join(FORMS)}"
    if record.get("inputs") != "images":
        return "it is of patterns or of single layers, not of images"
    if not _is_count(record.get("images")) or record["images"] < 1:
        return "it has no images"
    for name, kind in (("config", Mapping), ("figures", Mapping), ("lines", Sequence),
                       ("memory", str), ("command", str)):
        if not isinstance(record.get(name), kind):
            return f"its {name!r} is missing or of the wrong kind"
    cycles = record["figures"].get("cycles")
    if (not isinstance(cycles, Sequence) or len(cycles) != record["images"]
            or not all(_is_count(count) and count > 0 for count in cycles)):
        return "it does not have the cycles of every image"
    layers = record["figures"].get("layer_cycles")
    if not isinstance(layers, Mapping) or not all(map(_is_count, layers.values())):
        return "it does not have the cycles of the layers"
    return None


def passing(core, network):
    """The record of a passing verification for these digests, or None.

    A file that is there but is no such record counts for nothing; the log says why.
    """
    path = verified_path(core, network)
    try:
        with open(path, "rb") as file:
            text = file.read(LARGEST + 1)
        if len(text) > LARGEST:
            raise ValueError(f"it has more than {LARGEST} bytes")
        record = json.loads(text)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        cause = getattr(error, "strerror", None) or f"it cannot be read ({error})"
        log.warning("%s: no passing verification: %s; verify again", path, cause)
        return None
    cause = _fault(record, core, network)
    if cause is not None:
        log.warning("%s: no passing verification: %s; verify again", path, cause)
        return None
    return record


def described(record):
    """One line: what a passing record says was compared."""
    count = record["images"]
    return (f"verified: {' = '.join(record['forms'])} on {count} image{'s' * (count > 1)}; memory: "
            f"{record['memory']}; by {record['command']}")


def save(record, core, network):
    """Keep a record of a verification that passed; returns its path.

    Raises
    ------
    InputError
        If it could not be relied on, or the file cannot be written.
    """
    record = {"version": VERSION, **record, "core_digest": core, "network_digest": network}
    cause = _fault(json.loads(json.dumps(record)), core, network)
    if cause is not None:
        raise InputError(f"The verification cannot be relied on: {cause}")
    path = verified_path(core, network)
    make_folder(path.parent)
    write_atomic(path, json.dumps(record, indent=1) + "\n")
    return path
