"""Headers of weight tiles for the tests of what reads them."""

from sim.drive.ports import feed_stream


def feed_headers(stream, waiting, *, rng, stall):
    """Background process that offers the headers (dicts) of a list as others add to it."""
    async def process(ctx):
        while True:
            while not waiting:
                await ctx.tick()
            header = waiting.pop(0)
            # Fields of two's complement.
            header = {**header, "dy": header["dy"] % 256, "dx": header["dx"] % 256}
            await feed_stream(stream, [header], rng=rng, stall=stall)(ctx)
    return process
