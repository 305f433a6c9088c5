"""Tools of a build that are shell scripts, and what they work on."""

BOARD_NAME = "ulx3s-12f"

CELLS = {"LUT4": 100, "CCU2C": 10, "TRELLIS_FF": 20, "DP16KD": 3, "MULT18X18D": 1}


def nextpnr_script(table, crossings=None):
    """A fake nextpnr: ``table`` maps a seed to (MHz, exit code), ``crossings`` one to the ns of a
    path between two clocks."""
    cases = "".join(f"{seed}) mhz={mhz}; code={code}; ns={(crossings or {}).get(seed, 1)};;\n"
                    for seed, (mhz, code) in table.items())
    return f"""
while [ $# -gt 0 ]; do
  case $1 in --seed) seed=$2;; --textcfg) config=$2;; --report) report=$2;;
             --write) written=$2;; esac; shift
done
echo seed $seed >> "$RUNS"
case $seed in
{cases}
esac
echo "Info: routing seed $seed"
[ $code -gt 1 ] && exit $code
echo "config $seed" > $config
echo '{{"modules": {{"top": {{"cells": {{}}}}}}}}' > $written
cat > $report <<END
{{"fmax": {{"\\$glbnet\\$clk": {{"achieved": $mhz, "constraint": 80.0}},
           "\\$glbnet\\$board_clk": {{"achieved": 300, "constraint": 25}}}},
 "critical_paths": [{{"from": "posedge \\$glbnet\\$clk", "to": "posedge sdram", "path": [
   {{"delay": $ns, "from": {{"cell": "one"}}, "to": {{"cell": "other"}}}}]}}],
 "utilization": {{"TRELLIS_COMB": {{"used": 130, "available": 24288}},
                  "DP16KD": {{"used": 3, "available": 56}}}}}}
END
exit $code
"""


PACK = r"""printf '\377\000\377\377\275\263\342\000\000\000\041\021\020\103' > top.bit"""


EMPTY = {"modules": {"top": {"cells": {}, "ports": {}, "netnames": {}}}}
"""A netlist as yosys writes it."""


def runs(folder):
    path = folder.parent / "runs.txt"
    return path.read_text().split("\n")[:-1] if path.exists() else []
