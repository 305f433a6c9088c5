"""What LUTs, carry bits and the multiplexers of controls do, in a form that compares."""

import hashlib


__all__ = ["control", "function", "halves", "meaning", "number", "tied"]


def function(contents, pins):
    """Canonical form of a LUT.

    Parameters
    ----------
    contents : int
        16 bits or 4.
    pins : sequence
        What its address bits are, the lowest first: "0", "1" or a net.

    Returns
    -------
    "0", "1", a net, or ("lut", nets, table)
        Nets that matter, in order; the table's address bits are theirs.
    """
    nets = sorted({pin for pin in pins if pin not in ("0", "1")}, key=str)
    while True:
        table = []
        for index in range(1 << len(nets)):
            value = {net: index >> place & 1 for place, net in enumerate(nets)}
            address = sum((value[pin] if pin in value else int(pin)) << bit
                          for bit, pin in enumerate(pins))
            table.append(contents >> address & 1)
        idle = [net for place, net in enumerate(nets)
                if all(table[index] == table[index ^ 1 << place] for index in range(len(table)))]
        if not idle:
            break
        nets.remove(idle[0])
        pins = ["1" if pin == idle[0] else pin for pin in pins]
    if not nets:
        return str(table[0])
    if table == [0, 1]:
        return nets[0]
    return "lut", tuple(nets), tuple(table)


def _carry(lut, half, carry):
    """Carry out of half a CCU2C; a digest where it is none of its inputs."""
    if lut == "1":
        return carry
    if lut == "0" or half == carry:
        return half
    return "carry " + hashlib.blake2s(repr((lut, half, carry)).encode()).hexdigest()


def _sum(lut, carry):
    """What drives the sum of half a CCU2C."""
    if carry == "0":
        return lut
    if lut == "0":
        return carry
    return "sum", lut, carry


def halves(contents, pins, inject, carry):
    """(sum, carry out) of half a CCU2C from its LUT, its pins A to D, and the carry in."""
    lut = function(contents, pins)
    if inject:
        return lut, _carry(lut, "0", carry)
    return _sum(lut, carry), _carry(lut, function(contents & 15, pins[:2]), carry)


def number(value):
    """A parameter in binary digits; what is undefined is 0, as in the bitstream."""
    return int(str(value).strip().replace("x", "0") or "0", 2)


def control(value, mux, pin):
    """(net or constant, inverted) of a clock, an enable or a reset behind its multiplexer."""
    mux = str(mux).strip()
    if mux in ("0", "1"):
        return mux
    if value in ("0", "1"):
        return str(int(value) ^ (mux == "INV"))
    return value, mux == "INV"


def meaning(mode, inject, contents, pins):
    """What a LUT with its pins on these nets does: of half a CCU2C also the part of it that the
    carry takes; of LUT-RAM its pins must be the same."""
    if mode == "LOGIC":
        return function(contents, pins)
    if mode == "CCU2":
        half = None if inject == "YES" else function(contents & 15, pins[:2])
        return function(contents, pins), half
    return contents, pins


def tied(cell, port):
    """Value of an open input of a block RAM or another large cell (nextpnr,
    ecp5/bitstream.cc)."""
    mux = str(cell["parameters"].get(f"{port}MUX", "")).strip()
    if cell["type"] == "DP16KD" and port[:-1] in ("CLK", "WE", "RST", "CE", "OCE"):
        default = "INV" if port[:-1] in ("CLK", "WE", "RST") else port
        return "0" if (mux or default) == "INV" else "1"
    if cell["type"] == "DP16KD" and port[:2] == "CS":
        return "0" if mux in ("", "INV") else "1"
    return "1" if mux == "1" else "0"
