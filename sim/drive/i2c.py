"""An I2C bus in Amaranth's simulator."""


__all__ = ["serve_i2c"]


def serve_i2c(pins, twin, *, delay=2):
    """Background process: the lines of a master's ``pins`` with a device on them.

    A line is low where one of both pulls it down; the master sees it ``delay`` cycles later, as
    its synchronisers do. ``twin`` is a :class:`sim.twin.ina.InaTwin`, called every cycle.
    """
    async def process(ctx):
        seen = [(1, 1)] * delay
        scl_low = sda_low = False
        while True:
            ctx.set(pins.scl, seen[0][0])
            ctx.set(pins.sda, seen[0][1])
            _, _, master_scl, master_sda = await ctx.tick().sample(pins.scl_low, pins.sda_low)
            scl_low, sda_low = twin.step(int(not (master_scl or scl_low)),
                                         int(not (master_sda or sda_low)))
            lines = (int(not (master_scl or scl_low)), int(not (master_sda or sda_low)))
            seen = [*seen[1:], lines]
    return process
