"""gen.pnr on a design of somebody else: ``python examples/pnr_foreign.py``.

A FIR filter in Verilog is synthesised for an ECP5, its netlist improved, its timing estimated. Then
nextpnr places it for wire length alone, detailed placement makes it faster, and nextpnr routes what
came out. Takes about a minute and the packages of ``pip install '.[build]'``.
"""

import argparse
import json
from pathlib import Path
import re

from gen.flow.toolchain import find_toolchain, run_tool
from gen.pnr.estimate import worst_paths
from gen.pnr.graph import main_module
from gen.pnr.handover import prepare
from gen.pnr.passes import improve
from gen.pnr.place import place_detailed


FIR = """
module fir(input clk, input signed [11:0] x, output reg signed [23:0] y);
  reg signed [11:0] taps [0:15];
  reg signed [23:0] sum;
  integer k;
  always @(posedge clk) begin
    taps[0] <= x;
    for (k = 1; k < 16; k = k + 1) taps[k] <= taps[k - 1];
    sum = 0;
    for (k = 0; k < 16; k = k + 1) sum = sum + (taps[k] <<< (k % 4)) - (taps[k] >>> (k % 3));
    y <= sum;
  end
endmodule
"""

MHZ = 60.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("build/pnr_foreign"), metavar="DIR")
    folder = parser.parse_args().out
    folder.mkdir(parents=True, exist_ok=True)
    tools = find_toolchain()

    # Synthesis. The names of the files are relative: WebAssembly tools see another /tmp.
    (folder / "fir.v").write_text(FIR)
    (folder / "fir.ys").write_text("read_verilog fir.v\nsynth_ecp5 -top fir -json fir.json\n")
    run_tool([*tools.yosys.command, "fir.ys"], folder=folder, name="yosys",
             log_path=folder / "synth.log")
    netlist = json.loads((folder / "fir.json").read_text())
    print("improved:", improve(netlist))
    (slowest, end, path), *_ = worst_paths(main_module(netlist), 1)
    print(f"estimate: {slowest:.1f} ns to {end}, through {len(path)} nets")
    (folder / "improved.json").write_text(json.dumps(netlist))
    (folder / "fir.lpf").write_text(f'FREQUENCY PORT "clk" {MHZ} MHZ;\n')

    # Global placement by nextpnr, detailed placement here.
    device = ["--25k", "--package", "CABGA381", "--speed", "6", "--lpf", "fir.lpf",
              "--lpf-allow-unconstrained"]

    def nextpnr(*arguments: str) -> None:
        run_tool([*tools.nextpnr.command, *device, *arguments], folder=folder,
                 name="nextpnr-ecp5", log_path=folder / "nextpnr.log", check=False)

    nextpnr("--json", "improved.json", "--placer", "static", "--no-tmdriv", "--no-route",
            "--write", "placed.json")
    placed = json.loads((folder / "placed.json").read_text())
    module = main_module(placed)
    clock = next(name for name in module["netnames"] if re.fullmatch(r"\$glbnet\$clk.*", name))
    result = place_detailed(placed, {clock: MHZ}, rounds=10, moves=60_000)
    print(f"wire length {result.wire_before} -> {result.wire} tiles, slowest path "
          f"{result.slowest_before} -> {result.slowest} ns")

    prepare(module)
    (folder / "placed.json").write_text(json.dumps(placed))
    nextpnr("--json", "placed.json", "--report", "fir.report.json",
            "--textcfg", "fir.config")
    for name, figures in json.loads((folder / "fir.report.json").read_text())["fmax"].items():
        print(f"routed: {name} {figures['achieved']:.1f} MHz")


if __name__ == "__main__":
    main()
