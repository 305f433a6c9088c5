"""Serve the ports of hw/port.py and run units of generated Verilog from cocotb."""

from cocotb.triggers import RisingEdge

from hw.port import PSUM_HALF_DATA, PSUM_ROW_DATA
from sim.drive.memory_server import MemoryServer


def _port(dut, name, *parts):
    return {part: getattr(dut, f"{name}__{part}") for part in ("address", "valid", "ready", *parts)}


async def serve_read(dut, name, read, *, latency, rng, stall, grouped=False):
    """Answer the read port ``name``: ``read(address)`` gives the data, as an unsigned integer.

    ``grouped``: of a narrow port of the partial sums, ``read(address, group)``.
    """
    place = ("address", "group") if grouped else ("address",)
    port = _port(dut, name, *place[1:], "data", "data_valid")
    pipeline, ready = [None] * (latency - 1), 0
    port["ready"].value = port["data_valid"].value = 0
    while True:
        await RisingEdge(dut.clk)
        asked = ready and port["valid"].value == 1
        pipeline.append(read(*(int(port[part].value) for part in place))
                        if asked else None)
        value = pipeline.pop(0)
        port["data_valid"].value = value is not None
        if value is not None:
            port["data"].value = value
        ready = int(rng.random() >= stall)
        port["ready"].value = ready


async def serve_write(dut, name, write, *, rng, stall):
    """Take the write port ``name``: calls ``write(address, data)``."""
    port = _port(dut, name, "data")
    ready = port["ready"].value = 0
    while True:
        await RisingEdge(dut.clk)
        if ready and port["valid"].value == 1:
            write(port["address"].value.to_unsigned(), port["data"].value.to_unsigned())
        ready = int(rng.random() >= stall)
        port["ready"].value = ready


async def serve_rows(dut, name, add):
    """Take the additions of the ``PsumRow`` ``name``: calls ``add(address, accumulate, data)`` when
    they are made."""
    await _serve_additions(dut, name, ("address", "accumulate"), PSUM_ROW_DATA, add)


async def serve_halves(dut, name, add, *, rng, stall):
    """Take the additions of the ``PsumHalf`` or ``PsumNarrow`` ``name``: calls
    ``add(address, half, accumulate, data)`` when they are made, without ``accumulate`` for a
    ``PsumNarrow``."""
    place = ("address", "half", *(("accumulate",) if hasattr(dut, f"{name}__accumulate") else ()))
    await _serve_additions(dut, name, place, PSUM_HALF_DATA, add,
                           free=lambda: int(rng.random() >= stall))


async def _serve_additions(dut, name, place, latency, add, *, free=None):
    # Without `free` every cycle will do but the one behind an addition.
    port = {part: getattr(dut, f"{name}__{part}")
            for part in ("valid", *place, "data", *(("free",) if free else ()))}
    pipeline, made, allowed, following = [None] * latency, None, free is None, 0
    if free:
        port["free"].value = following
    while True:
        await RisingEdge(dut.clk)
        valid = port["valid"].value == 1
        assert allowed or not valid, f"{name}: an addition that has no cycle of the partial sums"
        allowed = following if free else not valid
        if made:
            add(*made)
        pipeline.append([int(port[part].value) for part in place] if valid else None)
        due = pipeline.pop(0)
        made = due and (*due, port["data"].value.to_unsigned())
        if free:
            following = free()
            port["free"].value = following


async def run_unit(dut, packed):
    """Run one packed descriptor on a unit; returns (sig, events)."""
    dut.control__run__payload.value = packed
    dut.control__run__valid.value = 1
    while True:
        await RisingEdge(dut.clk)
        if dut.control__run__ready.value == 1:
            break
    dut.control__run__valid.value = 0
    while True:
        await RisingEdge(dut.clk)
        if dut.control__done.value == 1:
            break
    return dut.control__sig.value.to_unsigned(), dut.control__events.value.to_unsigned()


async def serve_memory(dut, name, content, *, rng, stall, latency=4):
    """Memory behind the port ``name``, see :class:`sim.drive.memory_server.MemoryServer`."""
    # A unit that only reads or only writes lacks the signals of the other direction.
    commands, w_data, r_data = (
        {part: getattr(dut, f"{name}__{stream}__{part}") for part in ("payload", "valid", "ready")
         if hasattr(dut, f"{name}__{stream}__{part}")}
        for stream in ("commands", "w_data", "r_data"))
    server = MemoryServer(content, rng=rng, stall=stall, latency=latency, name=name)

    def offer(port):
        if "valid" in port and port["valid"].value == 1:
            return port["payload"].value.to_unsigned()
        return None

    while True:
        commands["ready"].value = int(server.commands_ready)
        if "ready" in w_data:
            w_data["ready"].value = int(server.w_ready)
        r_data["valid"].value = int(server.r_valid)
        r_data["payload"].value = server.r_payload
        await RisingEdge(dut.clk)
        server.step(command=offer(commands), w_data=offer(w_data),
                    r_ready="ready" in r_data and r_data["ready"].value == 1)
