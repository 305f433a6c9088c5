"""Neuron core: partial sums in, spike levels, residual membranes or requantised values out."""

from typing import NamedTuple

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from hw.config import MEMBRANE_BITS, MEMORY_BITS
from hw.descriptor import Neuron, NeuronFunction, NeuronSource
from hw.lib.plane_repeat import RepeatWrite
from hw.lib.skid_buffer import SkidBuffer
from hw.neuron.buffer import MembraneFetch, TileConstants
from hw.neuron.level_fire import LevelFire
from hw.neuron.rescale import Rescale
from hw.neuron.sum_tree import sum_tree
from hw.neuron.write import PositionWriter
from hw.port import PoolRead, PoolWrite, PsumRead, Unit


__all__ = ["NeuronUnit"]


class _Descriptor:
    """The descriptor in the unit, and what its fields mean, decoded."""

    def __init__(self):
        self.run = Signal(Neuron)
        self.busy = Signal()
        self.decode = Signal()
        self.start = Signal()
        self.fire = Signal()
        self.summing = Signal()
        self.add = Signal()
        self.whole = Signal()
        self.limit = Signal(MEMBRANE_BITS)


class _Groups:
    """What is left to issue: positions, and of the current one the groups from `group` on."""

    def __init__(self, number):
        self.number = number
        self.left = Signal(16)
        more, left_last = Signal(), Signal()    # left != 0, left == 1
        self.more, self.left_last = more, left_last
        self.group = Signal(range(number))
        self.group_first = Signal(init=1)
        self.issue = Signal()
        self.sums_ready = Signal()
        self.arriving = Signal()            # its partial sums do, or their own are here
        self.arriving_group = Signal(range(number))

    def count_arriving(self, m):
        """Count the groups that arrive, in turn."""
        with m.If(self.arriving):
            m.d.sync += self.arriving_group.eq(
                Mux(self.arriving_group == self.number - 1, 0, self.arriving_group + 1))


class _Sums(NamedTuple):
    """Membrane sums of the group that arrives, and the group being added to them."""

    sums: Signal
    issue: Signal
    group: Signal
    finished: Signal


class NeuronUnit(wiring.Component):
    """Run NEURON descriptors (docs/architecture.md; golden: :func:`sim.reference.neuron.neuron`).

    Three decoupled stages: membranes of coming positions are fetched ahead; groups of
    ``neuron_lanes`` channels, with their partial sums, go through free-running lanes; results are
    queued and written word by word. The lanes need no stall: a group enters only if what it needs
    is there and the queues behind have room.

    Allowed settings: FIRE (its other flags are ignored) of PARTIAL or MEMBRANE_SUM; SCALE of
    PARTIAL with ``write_planes`` alone (``planes`` 4..16), or with ``write_membrane``,
    ``write_levels`` or both, and then ``add``; with ``write_levels`` ``planes`` are 0, or with
    ``whole_levels`` 1. ``count`` is at least 1. A position's own U_in may
    lie where its U is written (in place); the U_in of later positions must not be overwritten.

    Events: the sum of the levels written.

    Throughput with ports that never stall: the largest of the following cycles per position: its
    groups (``rows / neuron_lanes``); 16 if membranes are read; the words written; of planes of
    values, 11/8 of the groups (12 are under way at most).
    With four groups a descriptor occupies the unit, from the cycle in which it is offered up to
    ``done``, for ``count * cycles`` and

    =====================================  ========
    FIRE                                   21
    MEMBRANE_SUM                           32
    planes                                 28
    levels without membrane                29, with ``add`` 38
    membrane, with or without levels       23, with ``add`` 44
    =====================================  ========

    more. The next tile of constants loads meanwhile, in ``2 * rows`` cycles.

    Cost for 32 rows, 4 lanes and 24-bit sums, its part of qsdt_nano's netlist: 5,000 LUT4 (those of
    LUT-RAM among them), 3,600 FF, 8 MULT18X18D, no block RAM (yosys 0.66).

    Parameters
    ----------
    config : CoreConfig
        ``neuron_lanes`` must be at least ``rows / 16``: a group fills whole membrane words.

    Members
    -------
    control : ``In(Unit(Neuron))``
    constants : ``In(stream.Signature(64))``
        Constant tiles. The next tile is taken while one is in use: that of the next descriptor, or
        of the one behind those that ``hold`` it.
    psum : ``Out(PsumRead(config, neuron_lanes))``
    pool : ``Out(PoolRead(config))``
        Membranes in.
    write : ``Out(PoolWrite(config))``
    u_saturated, z_saturated : ``Out(16)``
        Lanes whose U or z was clipped, since reset, modulo 2**16.
    repeats : ``Out(RepeatWrite())``
        Planes of z that repeat its sign; with ``plane_skip`` only.
    """

    def __init__(self, config):
        if config.neuron_lanes * 16 < config.rows:
            raise ValueError(f"Neuron lanes must be at least {config.rows // 16} for "
                             f"{config.rows} rows, not {config.neuron_lanes!r}")
        self._config = config
        super().__init__({
            "control": In(Unit(Neuron)),
            "constants": In(stream.Signature(MEMORY_BITS)),
            "psum": Out(PsumRead(config, config.neuron_lanes)),
            "pool": Out(PoolRead(config)),
            "write": Out(PoolWrite(config)),
            "u_saturated": Out(16),
            "z_saturated": Out(16),
            **({"repeats": Out(RepeatWrite())} if config.plane_skip else {}),
        })

    @property
    def config(self):
        return self._config

    def elaborate(self, platform):
        m = Module()
        config = self._config

        m.submodules.tile = tile = TileConstants(config)
        m.submodules.fetch = fetch = MembraneFetch(config)
        m.submodules.writer = writer = PositionWriter(config)
        wiring.connect(m, wiring.flipped(self.constants), tile.constants)
        wiring.connect(m, fetch.read, wiring.flipped(self.pool))
        wiring.connect(m, writer.write, wiring.flipped(self.write))
        if config.plane_skip:
            wiring.connect(m, writer.repeats, wiring.flipped(self.repeats))

        now = _Descriptor()
        groups = _Groups(config.rows // config.neuron_lanes)
        self._control(m, now, tile, fetch, writer)
        groups.count_arriving(m)
        sums = self._membrane_sums(m, now, groups, fetch)
        self._issue(m, now, groups, sums, tile, fetch, writer)
        partial, issued, issued_group = self._partial_sums(m, groups)
        self._steps(m, now, groups, sums, issued, issued_group, tile, fetch, writer)
        clipped = self._lanes(m, now, sums, partial, tile, fetch, writer)
        self._counters(m, now, writer, clipped)
        self._stall(m, now, tile)

        return m

    def _control(self, m, now, tile, fetch, writer):
        """Accept a descriptor, decode it, start the stages, and tell when it is done."""
        # `start` follows the acceptance of a descriptor by two cycles: in between, what the
        # fields mean is decoded into registers.
        m.d.comb += [
            self.control.run.ready.eq(~now.busy & ~self.control.done),
            tile.release.eq(self.control.done & ~now.run.hold),
            self.control.sig.eq(writer.sig),
        ]
        run_fire = now.run.function == NeuronFunction.FIRE
        run_summing = now.run.source == NeuronSource.MEMBRANE_SUM
        m.d.sync += [
            now.decode.eq(0),
            now.start.eq(now.decode),
            self.control.done.eq(0),
            now.fire.eq(run_fire),
            now.summing.eq(run_summing),
            now.add.eq(~run_summing & ~run_fire & now.run.add),
            writer.membrane.eq(~run_fire & now.run.write_membrane),
            writer.levels.eq(run_fire | now.run.write_levels),
            writer.planes.eq(Mux(run_fire | now.run.write_levels, self._config.level_planes,
                                 Mux(now.run.write_planes, now.run.planes, 0))),
        ]
        if self._config.whole_levels:
            m.d.sync += now.whole.eq(now.run.write_levels & (now.run.planes == 1))
        with m.If(self.control.run.valid & self.control.run.ready):
            m.d.sync += [now.run.eq(self.control.run.payload), now.busy.eq(1),
                         now.decode.eq(1)]
        with m.If(now.busy & ~now.decode & ~now.start & writer.idle):
            m.d.sync += [now.busy.eq(0), self.control.done.eq(1)]
        for index in range(MEMBRANE_BITS):
            m.d.sync += now.limit[index].eq(Mux(now.run.write_planes, index + 1 >= now.run.planes,
                                                index + 1 >= MEMBRANE_BITS))

        m.d.comb += [
            fetch.start.eq(now.start),
            fetch.address.eq(now.run.membrane_in),
            fetch.stride.eq(now.run.membrane_stride),
            fetch.count.eq(Mux(now.summing | now.add, now.run.count, 0)),
            writer.start.eq(now.start),
            writer.count.eq(Mux(now.summing, 1, now.run.count)),
            writer.membrane_address.eq(now.run.membrane_out),
            writer.membrane_stride.eq(now.run.membrane_stride),
            writer.plane_address.eq(now.run.plane_out),
            writer.plane_stride.eq(now.run.plane_stride),
        ]

    def _membrane_sums(self, m, now, groups, fetch):
        """Add every fetched group of membranes to its lanes' sums; returns a :class:`_Sums`."""
        config = self._config
        # The fetch of a position takes 16 cycles, so a group never comes back while it is in the
        # two steps of the addition.
        sum_left = Signal(16)
        sum_more = Signal()                         # sum_left != 0
        sum_first = Signal()
        sum_group = Signal(range(groups.number))
        sum_issue = Signal()
        sum_finished = Signal()
        sum_write = Signal()
        sums_shape = data.ArrayLayout(signed(config.acc_bits), config.neuron_lanes)
        m.submodules.sums = sums_memory = Memory(shape=sums_shape, depth=groups.number, init=[],
                                                 attrs={"ram_style": "distributed"})
        sums_write = sums_memory.write_port()
        sums_read = sums_memory.read_port(domain="comb")
        sums = Signal(sums_shape)
        m.d.comb += [
            sum_issue.eq(sum_more & ((sum_group != 0) | fetch.available)),
            sums_read.addr.eq(Mux(sum_more, sum_group, groups.arriving_group)),
            sums_write.en.eq(sum_write),
        ]
        m.d.sync += [
            sum_write.eq(sum_issue),
            sums_write.addr.eq(sum_group),
            sum_finished.eq(0),
            sums.eq(sums_read.data),
        ]
        with m.If(sum_first & sum_more):
            m.d.sync += sums.eq(0)
        for lane in range(config.neuron_lanes):
            m.d.comb += sums_write.data[lane].eq(sums[lane] + fetch.lanes[lane])
        with m.If(now.start):
            m.d.sync += [sum_left.eq(now.run.count), sum_more.eq(now.summing), sum_first.eq(1)]
        with m.If(sum_issue):
            m.d.sync += sum_group.eq(sum_group + 1)
            with m.If(sum_group == groups.number - 1):
                m.d.sync += [sum_group.eq(0), sum_first.eq(0), sum_left.eq(sum_left - 1)]
                with m.If(sum_left == 1):
                    m.d.sync += [sum_more.eq(0), sum_finished.eq(1)]

        return _Sums(sums, sum_issue, sum_group, sum_finished)

    def _issue(self, m, now, groups, sums, tile, fetch, writer):
        """Ask for the partial sums of a group, if all that it needs behind them is there."""
        # The port's `ready` comes late in its cycle, and ends here.
        able = Signal()
        issue_last = Signal()
        tile_ready = Signal()              # far from here; late enough for what `release` promises
        m.d.sync += tile_ready.eq(tile.ready)
        address = Signal(10)
        m.submodules.request = request = SkidBuffer(
            data.StructLayout({"address": 10, "group": range(groups.number)}))
        m.d.comb += [
            able.eq(groups.more & tile_ready & writer.room
                    & (~now.add | ~groups.group_first | fetch.available)),
            request.i.valid.eq(able & ~now.summing),
            request.i.p.address.eq(address),
            request.i.p.group.eq(groups.group),
            groups.issue.eq(able & (now.summing | request.i.ready)),
            issue_last.eq(groups.issue & (groups.group == groups.number - 1)),
            self.psum.valid.eq(request.o.valid),
            self.psum.address.eq(request.o.p.address),
            self.psum.group.eq(request.o.p.group),
            request.o.ready.eq(self.psum.ready),
            groups.arriving.eq(self.psum.data_valid | groups.sums_ready),
            writer.reserve.eq(groups.issue),
            fetch.claim.eq((groups.issue & now.add & groups.group_first)
                           | (sums.issue & (sums.group == 0))),
        ]
        m.d.sync += groups.sums_ready.eq(groups.issue & now.summing)
        with m.If(groups.issue):
            m.d.sync += [groups.group.eq(groups.group + 1),
                         groups.group_first.eq(groups.number == 1)]
        with m.If(issue_last):
            m.d.sync += [groups.group.eq(0), groups.group_first.eq(1),
                         groups.left.eq(groups.left - 1), groups.more.eq(~groups.left_last),
                         groups.left_last.eq(groups.left == 2),
                         address.eq(address + 1)]
        with m.If(now.start):
            m.d.sync += [groups.left.eq(now.run.count), groups.more.eq(~now.summing),
                         groups.left_last.eq(now.run.count == 1),
                         address.eq(now.run.psum)]
        with m.If(sums.finished):
            m.d.sync += [groups.more.eq(1), groups.left_last.eq(1)]

    def _partial_sums(self, m, groups):
        """Register the arriving partial sums; returns them, their valid and their group."""
        # They come from all over the chip, and are selected on the way: they arrive in a register.
        partial = Signal(self.psum.data.shape(), reset_less=True)
        issued, issued_group = Signal(), Signal.like(groups.group)
        m.d.sync += [partial.eq(self.psum.data), issued.eq(groups.arriving),
                     issued_group.eq(groups.arriving_group)]

        return partial, issued, issued_group

    def _steps(self, m, now, groups, sums, issued, issued_group, tile, fetch, writer):
        """Follow each group through the cycles of the lanes, and time what goes in and out."""
        # valid[k] and step_group[k] belong to cycle k of Rescale and LevelFire.
        valid = Signal(Rescale.LEVEL_LATENCY + 1)
        step_group = [Signal(range(groups.number), name=f"group_{k}")
                      for k in range(Rescale.SHIFT_DELAY)]
        m.d.sync += [valid.eq(Cat(issued, valid)), step_group[0].eq(issued_group)]
        for before, after in zip(step_group[:-1], step_group[1:], strict=True):
            m.d.sync += after.eq(before)
        # Groups of the cycle to come: they go to many LUT-RAMs, from registers of their own.
        groups_next = [groups.arriving_group, issued_group, *step_group]
        bias_group, shift_group = Signal.like(groups.group), Signal.like(groups.group)
        m.d.sync += [
            bias_group.eq(Mux(now.fire, groups.arriving_group, groups_next[Rescale.BIAS_DELAY])),
            shift_group.eq(Mux(now.fire, groups.arriving_group, groups_next[Rescale.SHIFT_DELAY])),
        ]
        m.d.comb += [
            tile.group.eq(issued_group),
            tile.bias_group.eq(bias_group),
            tile.shift_group.eq(shift_group),
            fetch.take.eq((valid[Rescale.ADDEND_DELAY - 1] & now.add) | sums.issue),
            writer.values_valid.eq(valid[Rescale.VALUE_LATENCY]),
            writer.level_valid.eq(Mux(now.fire, valid[LevelFire.LATENCY],
                                      valid[Rescale.LEVEL_LATENCY])),
        ]

    def _lanes(self, m, now, sums, partial, tile, fetch, writer):
        """The lanes; returns which of them clipped their value."""
        config = self._config
        lanes = config.neuron_lanes
        clipped = Signal(lanes)
        for lane in range(lanes):
            m.submodules[f"fire_{lane}"] = lane_fire = LevelFire(
                acc_bits=config.acc_bits, levels=config.levels)
            m.submodules[f"rescale_{lane}"] = rescale = Rescale(
                acc_bits=config.acc_bits, multiplier_bits=config.multiplier_bits,
                membrane_frac=config.membrane_frac, levels=config.levels,
                half_even=config.half_even, whole_levels=config.whole_levels)
            if config.whole_levels:
                m.d.comb += rescale.whole.eq(now.whole)
            acc = Signal(signed(config.acc_bits), name=f"acc_{lane}")
            constants = tile.lanes[lane]
            m.d.sync += acc.eq(Mux(now.summing, sums.sums[lane], partial[lane]))
            m.d.comb += [
                lane_fire.acc.eq(acc),
                lane_fire.thresholds.eq(constants.thresholds),
                lane_fire.invert.eq(constants.invert),
                rescale.acc.eq(acc),
                rescale.multiplier.eq(constants.multiplier),
                rescale.bias.eq(constants.bias),
                rescale.shift.eq(constants.shift),
                rescale.addend.eq(fetch.lanes[lane]),
                rescale.limit.eq(now.limit),
                writer.values[lane].eq(rescale.value),
                writer.level[lane].eq(Mux(now.fire, lane_fire.level, rescale.level)),
                clipped[lane].eq(rescale.clipped),
            ]

        return clipped

    def _counters(self, m, now, writer, clipped):
        """Count the events and the clipped lanes."""
        events, events_valid = sum_tree(m, "events", list(writer.level),
                                        writer.level_valid & writer.levels)
        with m.If(now.start):
            m.d.sync += self.control.events.eq(0)
        with m.Elif(events_valid):
            m.d.sync += self.control.events.eq(self.control.events + events)
        clips, clips_valid = sum_tree(m, "clips", list(clipped), writer.values_valid & ~now.fire)
        with m.If(clips_valid & now.run.write_planes):
            m.d.sync += self.z_saturated.eq(self.z_saturated + clips)
        with m.If(clips_valid & ~now.run.write_planes):
            m.d.sync += self.u_saturated.eq(self.u_saturated + clips)

    def _stall(self, m, now, tile):
        """Report what the unit waits for."""
        stall = self.control.stall
        m.d.sync += [
            stall.pool.eq((self.pool.valid & ~self.pool.ready)
                          | (self.write.valid & ~self.write.ready)),
            stall.psum.eq(self.psum.valid & ~self.psum.ready),
            stall.stream.eq(now.busy & ~now.decode & ~now.start & ~tile.ready),
        ]
