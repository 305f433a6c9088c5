"""Neuron core: partial sums in, spike levels, residual membranes or requantised values out."""

from amaranth import *
from amaranth.lib import data, stream, wiring
from amaranth.lib.memory import Memory
from amaranth.lib.wiring import In, Out

from hw.config import LEVEL_PLANES, MEMBRANE_BITS, MEMORY_BITS
from hw.descriptor import Neuron, NeuronFunction, NeuronSource
from hw.lib.plane_repeat import RepeatWrite
from hw.lib.skid_buffer import SkidBuffer
from hw.neuron.buffer import MembraneFetch, TileConstants
from hw.neuron.level_fire import LevelFire
from hw.neuron.rescale import Rescale
from hw.neuron.write import PositionWriter
from hw.port import PoolRead, PoolWrite, PsumRead, Unit


__all__ = ["NeuronUnit"]


class NeuronUnit(wiring.Component):
    """Run NEURON descriptors (docs/architecture.md; golden: :func:`sim.reference.neuron.neuron`).

    Three decoupled stages: membranes of coming positions are fetched ahead; groups of
    ``neuron_lanes`` channels, with their partial sums, go through free-running lanes; results are
    queued and written word by word. The lanes need no stall: a group enters only if what it needs
    is there and the queues behind have room.

    Allowed settings: FIRE (its other flags are ignored) of PARTIAL or MEMBRANE_SUM; SCALE of
    PARTIAL with ``write_planes`` alone (``planes`` 4..16), or with ``write_membrane``,
    ``write_levels`` or both, and then ``add``. ``count`` is at least 1. A position's own U_in may
    lie where its U is written (in place); the U_in of later positions must not be overwritten.

    Events: the sum of the levels written.

    Throughput with ports that never stall: the largest of the following cycles per position: its
    groups (``rows / neuron_lanes``); 16 if membranes are read; the words written; of values,
    1.5 times the groups (12 are under way at most).
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
        Constant tiles. The next tile is taken while one is in use.
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
        lanes = config.neuron_lanes
        groups = config.rows // lanes

        m.submodules.tile = tile = TileConstants(config)
        m.submodules.fetch = fetch = MembraneFetch(config)
        m.submodules.writer = writer = PositionWriter(config)
        wiring.connect(m, wiring.flipped(self.constants), tile.constants)
        wiring.connect(m, fetch.read, wiring.flipped(self.pool))
        wiring.connect(m, writer.write, wiring.flipped(self.write))
        if config.plane_skip:
            wiring.connect(m, writer.repeats, wiring.flipped(self.repeats))

        # Control. `start` follows the acceptance of a descriptor by two cycles: in between, what
        # the fields mean is decoded into registers.
        run = Signal(Neuron)
        busy = Signal()
        decode = Signal()
        start = Signal()
        fire = Signal()
        summing = Signal()
        add = Signal()
        limit = Signal(MEMBRANE_BITS)
        m.d.comb += [
            self.control.run.ready.eq(~busy & ~self.control.done),
            tile.release.eq(self.control.done),
            self.control.sig.eq(writer.sig),
        ]
        run_fire = run.function == NeuronFunction.FIRE
        run_summing = run.source == NeuronSource.MEMBRANE_SUM
        m.d.sync += [
            decode.eq(0),
            start.eq(decode),
            self.control.done.eq(0),
            fire.eq(run_fire),
            summing.eq(run_summing),
            add.eq(~run_summing & ~run_fire & run.add),
            writer.membrane.eq(~run_fire & run.write_membrane),
            writer.levels.eq(run_fire | run.write_levels),
            writer.planes.eq(Mux(run_fire | run.write_levels, LEVEL_PLANES,
                                 Mux(run.write_planes, run.planes, 0))),
        ]
        with m.If(self.control.run.valid & self.control.run.ready):
            m.d.sync += [run.eq(self.control.run.payload), busy.eq(1),
                         decode.eq(1)]
        with m.If(busy & ~decode & ~start & writer.idle):
            m.d.sync += [busy.eq(0), self.control.done.eq(1)]
        for index in range(MEMBRANE_BITS):
            m.d.sync += limit[index].eq(Mux(run.write_planes, index + 1 >= run.planes,
                                            index + 1 >= MEMBRANE_BITS))

        m.d.comb += [
            fetch.start.eq(start),
            fetch.address.eq(run.membrane_in),
            fetch.stride.eq(run.membrane_stride),
            fetch.count.eq(Mux(summing | add, run.count, 0)),
            writer.start.eq(start),
            writer.count.eq(Mux(summing, 1, run.count)),
            writer.membrane_address.eq(run.membrane_out),
            writer.membrane_stride.eq(run.membrane_stride),
            writer.plane_address.eq(run.plane_out),
            writer.plane_stride.eq(run.plane_stride),
        ]

        # What is left to issue: positions, and of the current one the groups from `group` on.
        left = Signal(16)
        more, left_last = Signal(), Signal()        # left != 0, left == 1
        group = Signal(range(groups))
        group_first = Signal(init=1)
        issue = Signal()
        sums_ready = Signal()
        arriving = Signal()                         # its partial sums do, or their own are here
        arriving_group = Signal.like(group)
        with m.If(arriving):
            m.d.sync += arriving_group.eq(Mux(arriving_group == groups - 1, 0, arriving_group + 1))

        # Membrane sums: every fetched group is added to its lanes' sums. The fetch of a position
        # takes 16 cycles, so a group never comes back while it is in the two steps of the addition.
        sum_left = Signal(16)
        sum_more = Signal()                         # sum_left != 0
        sum_first = Signal()
        sum_group = Signal(range(groups))
        sum_issue = Signal()
        sum_finished = Signal()
        sum_write = Signal()
        sums_shape = data.ArrayLayout(signed(config.acc_bits), lanes)
        m.submodules.sums = sums_memory = Memory(shape=sums_shape, depth=groups, init=[],
                                                 attrs={"ram_style": "distributed"})
        sums_write = sums_memory.write_port()
        sums_read = sums_memory.read_port(domain="comb")
        sums = Signal(sums_shape)
        m.d.comb += [
            sum_issue.eq(sum_more & ((sum_group != 0) | fetch.available)),
            sums_read.addr.eq(Mux(sum_more, sum_group, arriving_group)),
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
        for lane in range(lanes):
            m.d.comb += sums_write.data[lane].eq(sums[lane] + fetch.lanes[lane])
        with m.If(start):
            m.d.sync += [sum_left.eq(run.count), sum_more.eq(summing), sum_first.eq(1)]
        with m.If(sum_issue):
            m.d.sync += sum_group.eq(sum_group + 1)
            with m.If(sum_group == groups - 1):
                m.d.sync += [sum_group.eq(0), sum_first.eq(0), sum_left.eq(sum_left - 1)]
                with m.If(sum_left == 1):
                    m.d.sync += [sum_more.eq(0), sum_finished.eq(1)]

        # Issue a group: ask for its partial sums. Everything that it needs behind them is there.
        # The port's `ready` comes late in its cycle, and ends here.
        able = Signal()
        issue_last = Signal()
        tile_ready = Signal()              # far from here; late enough for what `release` promises
        m.d.sync += tile_ready.eq(tile.ready)
        address = Signal(10)
        m.submodules.request = request = SkidBuffer(
            data.StructLayout({"address": 10, "group": range(groups)}))
        m.d.comb += [
            able.eq(more & tile_ready & writer.room
                    & (~add | ~group_first | fetch.available)),
            request.i.valid.eq(able & ~summing),
            request.i.p.address.eq(address),
            request.i.p.group.eq(group),
            issue.eq(able & (summing | request.i.ready)),
            issue_last.eq(issue & (group == groups - 1)),
            self.psum.valid.eq(request.o.valid),
            self.psum.address.eq(request.o.p.address),
            self.psum.group.eq(request.o.p.group),
            request.o.ready.eq(self.psum.ready),
            arriving.eq(self.psum.data_valid | sums_ready),
            writer.reserve.eq(issue),
            fetch.claim.eq((issue & add & group_first) | (sum_issue & (sum_group == 0))),
        ]
        m.d.sync += sums_ready.eq(issue & summing)
        with m.If(issue):
            m.d.sync += [group.eq(group + 1), group_first.eq(groups == 1)]
        with m.If(issue_last):
            m.d.sync += [group.eq(0), group_first.eq(1), left.eq(left - 1), more.eq(~left_last),
                         left_last.eq(left == 2),
                         address.eq(address + 1)]
        with m.If(start):
            m.d.sync += [left.eq(run.count), more.eq(~summing), left_last.eq(run.count == 1),
                         address.eq(run.psum)]
        with m.If(sum_finished):
            m.d.sync += [more.eq(1), left_last.eq(1)]

        # They come from all over the chip, and are selected on the way: they arrive in a register.
        partial = Signal(self.psum.data.shape(), reset_less=True)
        issued, issued_group = Signal(), Signal.like(group)
        m.d.sync += [partial.eq(self.psum.data), issued.eq(arriving),
                     issued_group.eq(arriving_group)]

        # Lanes. valid[k] and step_group[k] belong to cycle k of Rescale and LevelFire.
        valid = Signal(Rescale.LEVEL_LATENCY + 1)
        step_group = [Signal(range(groups), name=f"group_{k}") for k in range(Rescale.SHIFT_DELAY)]
        m.d.sync += [valid.eq(Cat(issued, valid)), step_group[0].eq(issued_group)]
        for before, after in zip(step_group[:-1], step_group[1:], strict=True):
            m.d.sync += after.eq(before)
        # Groups of the cycle to come: they go to many LUT-RAMs, from registers of their own.
        groups_next = [arriving_group, issued_group, *step_group]
        bias_group, shift_group = Signal.like(group), Signal.like(group)
        m.d.sync += [
            bias_group.eq(Mux(fire, arriving_group, groups_next[Rescale.BIAS_DELAY])),
            shift_group.eq(Mux(fire, arriving_group, groups_next[Rescale.SHIFT_DELAY])),
        ]
        m.d.comb += [
            tile.group.eq(issued_group),
            tile.bias_group.eq(bias_group),
            tile.shift_group.eq(shift_group),
            fetch.take.eq((valid[Rescale.ADDEND_DELAY - 1] & add) | sum_issue),
            writer.values_valid.eq(valid[Rescale.VALUE_LATENCY]),
            writer.level_valid.eq(Mux(fire, valid[LevelFire.LATENCY],
                                      valid[Rescale.LEVEL_LATENCY])),
        ]
        clipped = Signal(lanes)
        for lane in range(lanes):
            m.submodules[f"fire_{lane}"] = lane_fire = LevelFire(acc_bits=config.acc_bits)
            m.submodules[f"rescale_{lane}"] = rescale = Rescale(
                acc_bits=config.acc_bits, multiplier_bits=config.multiplier_bits,
                membrane_frac=config.membrane_frac)
            acc = Signal(signed(config.acc_bits), name=f"acc_{lane}")
            constants = tile.lanes[lane]
            m.d.sync += acc.eq(Mux(summing, sums[lane], partial[lane]))
            m.d.comb += [
                lane_fire.acc.eq(acc),
                lane_fire.thresholds.eq(constants.thresholds),
                lane_fire.invert.eq(constants.invert),
                rescale.acc.eq(acc),
                rescale.multiplier.eq(constants.multiplier),
                rescale.bias.eq(constants.bias),
                rescale.shift.eq(constants.shift),
                rescale.addend.eq(fetch.lanes[lane]),
                rescale.limit.eq(limit),
                writer.values[lane].eq(rescale.value),
                writer.level[lane].eq(Mux(fire, lane_fire.level, rescale.level)),
                clipped[lane].eq(rescale.clipped),
            ]

        # Counters.
        events, events_valid = _sum_tree(m, "events", list(writer.level),
                                         writer.level_valid & writer.levels)
        with m.If(start):
            m.d.sync += self.control.events.eq(0)
        with m.Elif(events_valid):
            m.d.sync += self.control.events.eq(self.control.events + events)
        clips, clips_valid = _sum_tree(m, "clips", list(clipped), writer.values_valid & ~fire)
        with m.If(clips_valid & run.write_planes):
            m.d.sync += self.z_saturated.eq(self.z_saturated + clips)
        with m.If(clips_valid & ~run.write_planes):
            m.d.sync += self.u_saturated.eq(self.u_saturated + clips)

        stall = self.control.stall
        m.d.sync += [
            stall.pool.eq((self.pool.valid & ~self.pool.ready)
                          | (self.write.valid & ~self.write.ready)),
            stall.psum.eq(self.psum.valid & ~self.psum.ready),
            stall.stream.eq(busy & ~decode & ~start & ~tile.ready),
        ]

        return m


def _sum_tree(m, name, terms, valid):
    """Sum ``terms``, four to a register stage; returns the sum and its valid."""
    stage = 0
    while stage == 0 or len(terms) > 1:
        summed = []
        for index in range(0, len(terms), 4):
            total = sum(terms[index:index + 4])
            register = Signal.like(total, name=f"{name}_{stage}_{index // 4}")
            m.d.sync += register.eq(total)
            summed.append(register)
        valid_next = Signal(name=f"{name}_{stage}_valid")
        m.d.sync += valid_next.eq(valid)
        terms, valid, stage = summed, valid_next, stage + 1
    return terms[0], valid
