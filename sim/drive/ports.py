"""Serve and drive the ports of hw/port.py in Amaranth's simulator, with random stalls.

Every process draws its stalls from the random generator it is given; ``stall`` is the chance
that a ``ready`` (or ``valid``) is low in a cycle.
"""

from amaranth.sim import Simulator

from hw.port import PSUM_HALF_DATA, PSUM_ROW_DATA
from sim.drive.memory_server import MemoryServer


def simulate(dut, *testbenches, background=(), cycles=100_000, vcd=None, clocks=None):
    """Run ``testbenches`` on ``dut`` until all end, beside ``background`` processes.

    ``clocks`` gives the period of each further clock domain, in periods of ``sync``. Raises
    :exc:`TimeoutError` after ``cycles`` clock cycles.
    """
    async def watchdog(ctx):
        for _ in range(cycles):
            await ctx.tick()
        raise TimeoutError(f"simulation still running after {cycles} cycles")

    sim = Simulator(dut)
    sim.add_clock(1e-6)
    for domain, period in (clocks or {}).items():
        sim.add_clock(period * 1e-6, domain=domain)
    for testbench in testbenches:
        sim.add_testbench(testbench)
    for process in (*background, watchdog):
        sim.add_testbench(process, background=True)
    if vcd is None:
        sim.run()
    else:
        with sim.write_vcd(str(vcd)):
            sim.run()


def serve_read(port, read, *, latency, rng, stall=0.0, grouped=False):
    """Background process that answers a read port: ``read(address)`` gives the data.

    ``grouped``: of a narrow port of the partial sums, ``read(address, group)``.
    """
    async def process(ctx):
        pipeline = [None] * (latency - 1)
        while True:
            ready = not (stall and rng.random() < stall)
            ctx.set(port.ready, ready)
            place = (port.address, port.group) if grouped else (port.address,)
            _, _, valid, *place = await ctx.tick().sample(port.valid, *place)
            pipeline.append(read(*place) if valid and ready else None)
            value = pipeline.pop(0)
            ctx.set(port.data_valid, value is not None)
            if value is not None:
                ctx.set(port.data, value)
    return process


def serve_write(port, write, *, rng, stall=0.0):
    """Background process that takes a write port: calls ``write(address, data)``.

    ``data`` is what the simulator gives for the port's shape (an int, or a view to index).
    """
    async def process(ctx):
        while True:
            ready = not (stall and rng.random() < stall)
            ctx.set(port.ready, ready)
            _, _, valid, address, data = await ctx.tick().sample(port.valid, port.address,
                                                                 port.data)
            if valid and ready:
                write(address, data)
    return process


def serve_rows(port, add):
    """Background process that takes additions of a ``PsumRow``: calls
    ``add(address, accumulate, data)`` when they are made; ``data`` is a view to index."""
    return _serve_additions(port, ("address", "accumulate"), PSUM_ROW_DATA, add)


def serve_halves(port, add, *, rng, stall=0.0):
    """Background process that takes additions of a ``PsumHalf`` or ``PsumNarrow``: calls
    ``add(address, half, accumulate, data)`` when they are made, without ``accumulate`` for a
    ``PsumNarrow``; ``data`` is a view to index."""
    place = ("address", "half", *(("accumulate",) if hasattr(port, "accumulate") else ()))
    return _serve_additions(port, place, PSUM_HALF_DATA, add,
                            free=lambda: not (stall and rng.random() < stall))


def _serve_additions(port, place, latency, add, *, free=None):
    # Without `free` every cycle will do but the one behind an addition.
    async def process(ctx):
        pipeline, made, allowed = [None] * latency, None, free is None
        while True:
            if free:
                following = free()
                ctx.set(port.free, following)
            _, _, valid, *where, data = await ctx.tick().sample(
                port.valid, *(getattr(port, part) for part in place), port.data)
            assert allowed or not valid, "an addition that has no cycle of the partial sums"
            allowed = following if free else not valid
            if made:
                add(*made)
            pipeline.append(where if valid else None)
            due = pipeline.pop(0)
            assert due or not free or data.as_bits() == 0, "data where another port's may be"
            made = due and (*due, data)
    return process


def serve_memory(port, content, *, rng, stall=0.0, latency=4):
    """Background process: memory behind ``port``, see
    :class:`sim.drive.memory_server.MemoryServer`. ``rng`` is a ``random.Random``."""
    async def process(ctx):
        server = MemoryServer(content, rng=rng, stall=stall, latency=latency)
        while True:
            ctx.set(port.commands.ready, server.commands_ready)
            ctx.set(port.w_data.ready, server.w_ready)
            ctx.set(port.r_data.valid, server.r_valid)
            ctx.set(port.r_data.payload, server.r_payload)
            _, _, asked, command, offered, word, r_ready = await ctx.tick().sample(
                port.commands.valid, port.commands.payload.as_value(), port.w_data.valid,
                port.w_data.payload, port.r_data.ready)
            server.step(command=command if asked else None, w_data=word if offered else None,
                        r_ready=bool(r_ready))
    return process


def feed_stream(stream, payloads, *, rng, stall=0.0):
    """Testbench that puts ``payloads`` (any iterable) into ``stream``."""
    async def process(ctx):
        for payload in payloads:
            while stall and rng.random() < stall:
                await ctx.tick()
            ctx.set(stream.payload, payload)
            ctx.set(stream.valid, 1)
            await ctx.tick().until(stream.ready)
            ctx.set(stream.valid, 0)
    return process


def take_stream(stream, count, *, rng, stall=0.0):
    """Testbench that takes ``count`` payloads from ``stream``, and the list they come in.

    What ``stream`` offers has to stay until it is taken.
    """
    received = []

    async def process(ctx):
        offered = None
        while len(received) < count:
            ready = not (stall and rng.random() < stall)
            ctx.set(stream.ready, ready)
            _, _, valid, payload = await ctx.tick().sample(stream.valid, stream.payload)
            assert offered is None or (valid and payload == offered), "what was offered is gone"
            offered = payload if valid and not ready else None
            if valid and ready:
                received.append(payload)
        ctx.set(stream.ready, 0)
    return process, received


async def run_unit(ctx, control, descriptor):
    """Run one descriptor (dict of fields, or packed payload) on a unit; returns (sig, events)."""
    ctx.set(control.run.payload, descriptor)
    ctx.set(control.run.valid, 1)
    await ctx.tick().until(control.run.ready)
    ctx.set(control.run.valid, 0)
    sig, events = await ctx.tick().sample(control.sig, control.events).until(control.done)
    return sig, events
