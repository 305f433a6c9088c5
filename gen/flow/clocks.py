"""Clocks of a routed design: what they reach, and what they are required to reach."""

from collections.abc import Iterable, Mapping
import re

from gen.pnr.ecp5 import crossing_limit


__all__ = ["clock_margin", "derived_clocks", "long_crossings", "port_clocks",
           "read_clocks", "read_crossings"]


_MHZ = {"HZ": 1e-6, "KHZ": 1e-3, "MHZ": 1.0, "GHZ": 1e3}

_PORT_FREQUENCY = re.compile(r'FREQUENCY\s+PORT\s+"([^"]+)"\s+([0-9.]+)\s*([KMG]?HZ)',
                             re.IGNORECASE)


def read_clocks(report: Mapping) -> dict[str, dict[str, float]]:
    """``{clock: {"achieved": MHz, "constraint": MHz}}`` of nextpnr's report."""
    return {name.removeprefix("$glbnet$"): {"achieved": round(clock["achieved"], 2),
                                            "constraint": round(clock["constraint"], 2)}
            for name, clock in report["fmax"].items()}


def clock_margin(clocks: Mapping[str, Mapping[str, float]]) -> float:
    """Smallest ratio of achieved to required frequency; 0 without a clock."""
    return min((clock["achieved"] / clock["constraint"] for clock in clocks.values()),
               default=0.0)


def read_crossings(report: Mapping) -> list[dict]:
    """The longest path of every pair of clocks in nextpnr's report.

    Returns
    -------
    list of dict
        ``from``, ``to`` (clocks), ``ns`` (clock to output and setup included), ``start``,
        ``end`` (cells); the longest first. Pins have no clock and are not among them.
    """
    found = []
    for path in report.get("critical_paths", ()):
        clocks = [re.sub(r"^(pos|neg)edge (\$glbnet\$)?", "", path[side])
                  for side in ("from", "to")]
        if clocks[0] == clocks[1] or "<async>" in clocks or not path["path"]:
            continue
        found.append({"from": clocks[0], "to": clocks[1],
                      "ns": round(sum(step["delay"] for step in path["path"]), 2),
                      "start": path["path"][0]["from"]["cell"],
                      "end": path["path"][-1]["to"]["cell"]})
    return sorted(found, key=lambda crossing: -crossing["ns"])


def long_crossings(crossings: Iterable[Mapping]) -> str:
    """Those above the limit, in words; empty if there are none."""
    return ", ".join(f"{crossing['from']} to {crossing['to']} takes {crossing['ns']:g} of at most "
                     f"{limit:g} ns (from {crossing['start']} to {crossing['end']})"
                     for crossing in crossings
                     if crossing["ns"] > (limit := crossing_limit(crossing["from"])))


def derived_clocks(log_text: str) -> dict[str, float]:
    """MHz of the nets with clock constraints that nextpnr derived when it packed.

    A design read back from its JSON has lost them. Nets that became global have another name.
    """
    found = re.findall(r"Derived frequency constraint of ([0-9.]+) MHz for net (\S+)", log_text)
    return {prefix + net: float(mhz) for mhz, net in found for prefix in ("", "$glbnet$")}


def port_clocks(constraints: str, placed: Mapping) -> dict[str, float]:
    """MHz of the nets behind the pins that a constraint file (LPF) has frequencies for.

    nextpnr moves such a constraint from the pin's net to the net behind the input buffer, without
    a word in its log. A design read back from its JSON has lost it: the clock is then only
    required to reach nextpnr's default, 12 MHz.
    """
    module = max(placed["modules"].values(), key=lambda module: len(module["cells"]))
    names: dict[int, list[str]] = {}
    for name, net in module["netnames"].items():
        for bit in net["bits"]:
            names.setdefault(bit, []).append(name)
    clocks: dict = {}
    for port, number, unit in _PORT_FREQUENCY.findall(constraints):
        outside = module["ports"].get(port, {"bits": []})["bits"]
        for cell in module["cells"].values():
            if cell["type"] == "TRELLIS_IO" and cell["connections"].get("B") == outside:
                for bit in cell["connections"].get("O", ()):
                    clocks |= dict.fromkeys(_with_global(names.get(bit, ())),
                                            float(number) * _MHZ[unit.upper()])
    return clocks


def _with_global(nets: Iterable[str]) -> list[str]:
    """Names of nets, and those that they have where they became global."""
    return [prefix + net.removeprefix("$glbnet$") for net in nets for prefix in ("", "$glbnet$")]
