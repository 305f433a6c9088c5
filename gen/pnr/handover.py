"""A placed netlist from one run of nextpnr-ecp5 to the next, which reads it from a file.

nextpnr does not take everything back in as it wrote it; what would change a design is seen to here.
"""


__all__ = ["give_ports", "prepare"]


def prepare(module: dict) -> None:
    """Make a placed module ready to be routed by another run of nextpnr, in place.

    The run must not be given ``--no-place``.

    - A cell with a ``NEXTPNR_BEL`` is bound to it before it is known to be a carry, a LUT-RAM or a
      LUT-RAM's write port, and then router2 permutes its inputs as if it were a LUT, which changes
      what it does (``bindBel`` in nextpnr's ecp5/arch.h). One with a ``BEL`` is bound by the
      placer, which knows.
    - A global set/reset that is synchronous would become asynchronous.
    - That clocks did not matter (``--no-tmdriv``) is noted, and believed before the options.

    Parameters
    ----------
    module : dict
        Of nextpnr's JSON.
    """
    for cell in module["cells"].values():
        attributes = cell["attributes"]
        attributes.pop("BEL_STRENGTH", None)
        if place := attributes.pop("NEXTPNR_BEL", None):
            attributes["BEL"] = place
        if cell["type"] == "GSR" and cell["parameters"].get("SYNCMODE") == "SYNC":
            cell["type"] = "SGSR"
    module["settings"]["timing_driven"] = f"{1:032b}"


def give_ports(placed: dict, routed: dict) -> None:
    """Write the ports of the module ``placed`` into ``routed``, the same one, which lost them."""
    names = {bit: name for name, net in placed["netnames"].items() for bit in net["bits"]}
    routed["ports"] = {
        name: {**port, "bits": [routed["netnames"][names[bit]]["bits"][0] for bit in port["bits"]]}
        for name, port in placed["ports"].items()}
