# amaranth: UnusedElaboratable=no
import numpy as np
import pytest

from hw.lib.pipeline_queue import PipelineQueue
from sim.drive.ports import simulate


@pytest.mark.parametrize(("latency", "depth"), [(1, 16), (7, 16), (20, 32)])
@pytest.mark.parametrize("taken_rate", [0.1, 0.5, 1.0])
@pytest.mark.parametrize("spare", [0, 4])
def test_reserved_entries_arrive(latency, depth, taken_rate, spare):
    """Entries come ``latency`` cycles after their reservation; ``room`` is exact, or told a cycle
    late with four places to spare."""
    rng = np.random.default_rng(latency)
    dut = PipelineQueue(width=12, depth=depth, spare=spare)
    pipeline = [None] * latency
    given, taken = [], []

    async def testbench(ctx):
        reserved, most, told = 0, 0, True
        for _ in range(1500):
            room = bool(ctx.get(dut.room))
            if spare:
                room, told = told, room
            else:
                assert room == (reserved < dut.depth)
            reserve = room and rng.random() < 0.9
            ctx.set(dut.reserve, reserve)
            arriving = pipeline.pop()
            ctx.set(dut.w_en, arriving is not None)
            if arriving is not None:
                ctx.set(dut.w_data, arriving)
            pipeline.insert(0, int(rng.integers(1 << 12)) if reserve else None)
            if reserve:
                given.append(pipeline[0])
            take = bool(ctx.get(dut.ready)) and rng.random() < taken_rate
            ctx.set(dut.r_en, take)
            if take:
                taken.append(ctx.get(dut.r_data))
            reserved += reserve - take
            most = max(most, reserved)
            await ctx.tick()
        assert most <= dut.depth
        if taken_rate < 0.5:
            assert most == dut.depth
        assert taken == given[:len(taken)]
        assert len(given) - len(taken) == reserved
        assert len(taken) > 100

    simulate(dut, testbench, cycles=2000)
