"""Serve the ports of hw/port.py and run units of generated Verilog from cocotb."""

from cocotb.triggers import RisingEdge


def _port(dut, name, *parts):
    return {part: getattr(dut, f"{name}__{part}") for part in ("address", "valid", "ready", *parts)}


async def serve_read(dut, name, read, *, latency, rng, stall):
    """Answer the read port ``name``: ``read(address)`` gives the data, as an unsigned integer."""
    port = _port(dut, name, "data", "data_valid")
    pipeline, ready = [None] * (latency - 1), 0
    port["ready"].value = port["data_valid"].value = 0
    while True:
        await RisingEdge(dut.clk)
        asked = ready and port["valid"].value == 1
        pipeline.append(read(port["address"].value.to_unsigned()) if asked else None)
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


async def run_unit(dut, packed):
    """Run one packed descriptor on a unit; returns (crc, events)."""
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
    return dut.control__crc.value.to_unsigned(), dut.control__events.value.to_unsigned()
