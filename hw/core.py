"""The accelerator core: sequencer, units, pool and partial sums behind one memory port."""

from amaranth import *
from amaranth.lib import data, wiring
from amaranth.lib.wiring import Out

from hw.array.unit import ArrayUnit
from hw.attention.unit import AttentionUnit
from hw.depthwise.unit import DepthwiseUnit
from hw.descriptor import LAYOUTS, UnitKind, WAIT_BITS
from hw.lib.plane_repeat import RepeatMemory
from hw.memory.arbiter import MemoryArbiter
from hw.memory.move import LoadUnit, StoreUnit
from hw.memory.partial_sum import PartialSums
from hw.memory.pool import Pool
from hw.neuron.unit import NeuronUnit
from hw.port import core_members
from hw.register import CoreError, Counter
from hw.run_sequence import RunSequence
from hw.sequencer import Fetch, Recorder, UnitQueue, UNITS


__all__ = ["Core"]


class Core(wiring.Component):
    """Run a program of descriptors (docs/architecture.md) on ``count`` images.

    After ``start`` the program at ``program`` runs once per image; image and result addresses
    advance by their strides. The log of the last image is left at ``log``. All addresses are in
    memory words. Between images the core is empty, so a program never waits for its own past.

    Parameters
    ----------
    config : CoreConfig

    Members
    -------
    memory : ``Out(Memory())``
        Program, weights, images and results.
    host : ``In(Memory())``
        Access to the same memory from outside, at any time.
    start : ``In(1)``
        Pulse; ignored while ``busy``.
    busy : ``Out(1)``
    program, log, image, image_stride, result, result_stride : ``In(24)``
    count : ``In(16)``
        Images to run, at least 1.
    ring : ``In(Ring)``
        Sizes of the rings of images and results, see :class:`hw.run_sequence.RunSequence`.
    phase : ``Out(1)``
        0 from the start of every image on; changes a cycle after a descriptor with ``mark`` starts
        (twice at once, where two units do).
    counters : ``Out(ArrayLayout(32, len(Counter)))``
        Cleared by ``start``; see :class:`hw.register.Counter`.
    trace : ``Out``
        Every pool word that the neuron core writes, for verification; left open on a board.
    """

    capabilities = "rings", "phase"
    """See :data:`hw.register.CAPABILITY_BITS`."""

    def __init__(self, config):
        self._config = config
        super().__init__({
            **core_members(),
            "trace": Out(data.StructLayout({"valid": 1, "address": 16, "data": config.rows})),
        })

    @property
    def config(self):
        return self._config

    def elaborate(self, platform):
        m = Module()
        config = self._config

        m.submodules.fetch = fetch = Fetch()
        m.submodules.recorder = recorder = Recorder()
        m.submodules.load = load = LoadUnit(config)
        m.submodules.store = store = StoreUnit(config)
        m.submodules.array = array = ArrayUnit(config=config)
        m.submodules.depthwise = depthwise = DepthwiseUnit(config=config)
        m.submodules.attention = attention = AttentionUnit(config=config)
        m.submodules.neuron = neuron = NeuronUnit(config)
        m.submodules.pool = pool = Pool(config, readers=5, writers=2)
        m.submodules.psum = psum = PartialSums(
            config, read_lanes=(config.depthwise_lanes, config.neuron_lanes))
        units = {
            UnitKind.LOAD: load, UnitKind.STORE: store, UnitKind.ARRAY: array,
            UnitKind.DEPTHWISE: depthwise, UnitKind.ATTENTION: attention,
            UnitKind.NEURON: neuron,
        }

        # Memory: short and urgent clients first, the bulk of the weights last.
        m.submodules.arbiter = arbiter = MemoryArbiter(clients=5)
        for index, client in enumerate((fetch.memory, recorder.memory)):
            wiring.connect(m, client, arbiter.client[index])
        wiring.connect(m, wiring.flipped(self.host), arbiter.client[2])
        wiring.connect(m, store.memory, arbiter.client[3])
        wiring.connect(m, load.memory, arbiter.client[4])
        wiring.connect(m, arbiter.memory, wiring.flipped(self.memory))

        # Streams and data ports. The array cannot wait without idling all lanes: it comes first.
        wiring.connect(m, load.weights, array.weights)
        wiring.connect(m, load.constants, neuron.constants)
        wiring.connect(m, load.depthwise, depthwise.weights)
        for index, port in enumerate((array.pool, depthwise.pool, attention.pool, neuron.pool,
                                      store.read)):
            wiring.connect(m, port, pool.read[index])
        for index, port in enumerate((neuron.write, load.write)):
            wiring.connect(m, port, pool.write[index])
        if config.plane_skip:
            m.submodules.repeats = repeats = RepeatMemory(config.pool_words)
            wiring.connect(m, neuron.repeats, repeats.write)
            wiring.connect(m, array.repeats, repeats.read)
        wiring.connect(m, array.psum, psum.row)
        wiring.connect(m, depthwise.psum, psum.half)
        wiring.connect(m, attention.psum, psum.narrow)
        for port, served in zip((depthwise.psum_read, neuron.psum), psum.readers, strict=True):
            wiring.connect(m, port, served)

        # Queues and completion counts.
        completed = Signal(data.ArrayLayout(WAIT_BITS, len(UNITS)))
        queues = []
        for unit in UNITS:
            queue = UnitQueue(layout=LAYOUTS[unit], depth=config.queue_depth)
            m.submodules[f"{unit.name.lower()}_queue"] = queue
            queues.append(queue)
            wiring.connect(m, fetch.o[unit.value], queue.i)
            wiring.connect(m, queue.unit, units[unit].control)
            wiring.connect(m, queue.record, recorder.i[unit.value])
            m.d.comb += [
                queue.completed.eq(completed),
                queue.time.eq(self.counters[Counter.CYCLES]),
            ]
            with m.If(queue.done):
                m.d.sync += completed[unit.value].eq(completed[unit.value] + 1)

        # One image after the other.
        m.submodules.runs = runs = RunSequence()
        m.d.sync += runs.drained.eq(fetch.ended & recorder.idle
                                    & Cat(q.idle for q in queues).all())
        for name in ("start", "count", "image", "image_stride", "result", "result_stride", "ring"):
            m.d.comb += getattr(runs, name).eq(getattr(self, name))
        wiring.connect(m, runs.record, recorder.run)
        m.d.comb += [
            self.busy.eq(runs.busy), fetch.start.eq(runs.begin),
            runs.time.eq(self.counters[Counter.CYCLES]),
            runs.errors.eq(self.counters[Counter.ERRORS]),
            fetch.program.eq(self.program), recorder.log.eq(self.log),
            load.image.eq(runs.image_address), store.result.eq(runs.result_address),
        ]
        m.d.sync += self.phase.eq(self.phase ^ Cat(q.marked for q in queues).xor())
        with m.If(runs.begin):
            m.d.sync += [completed.eq(0), self.phase.eq(0)]
        with m.If(runs.finished):
            m.d.sync += self.counters[Counter.IMAGES].eq(self.counters[Counter.IMAGES] + 1)

        self._count(m, units, queues, pool, psum, neuron)
        written = neuron.write
        m.d.comb += [
            self.trace.valid.eq(written.valid & written.ready),
            self.trace.address.eq(written.address),
            self.trace.data.eq(written.data),
        ]
        return m

    def _count(self, m, units, queues, pool, psum, neuron):
        """Counters, one register stage behind what they count."""
        def count(name, amount):
            step = Signal.like(Value.cast(amount), name=f"step_{name.lower()}")
            m.d.sync += step.eq(amount)
            index = Counter[name]
            with m.If(counting):
                m.d.sync += self.counters[index].eq(self.counters[index] + step)

        # Registers of their own: a thousand flip-flops hang on each.
        counting, clear = Signal(), Signal()
        m.d.sync += [counting.eq(self.busy), clear.eq(self.start & ~self.busy)]
        with m.If(counting):
            m.d.sync += self.counters[Counter.CYCLES].eq(self.counters[Counter.CYCLES] + 1)
        any_done = Signal(range(len(queues) + 1))
        done = Signal(len(queues))
        m.d.sync += done.eq(Cat(q.done for q in queues))
        m.d.comb += any_done.eq(sum(done))
        count("DESCRIPTORS", any_done)
        for unit, queue in zip(UNITS, queues, strict=True):
            stall = units[unit].control.stall
            count(f"BUSY_{unit.name}", queue.busy)
            count(f"STALL_POOL_{unit.name}", stall.pool & queue.busy)
            count(f"STALL_PSUM_{unit.name}", stall.psum & queue.busy)
            count(f"STALL_STREAM_{unit.name}", stall.stream & queue.busy)
        for name, unit in (("SPIKE_EVENTS", UnitKind.ARRAY),
                           ("EVENTS_DEPTHWISE", UnitKind.DEPTHWISE),
                           ("EVENTS_ATTENTION", UnitKind.ATTENTION),
                           ("EVENTS_NEURON", UnitKind.NEURON),
                           ("WEIGHT_WORDS", UnitKind.LOAD)):
            control = units[unit].control
            count(name, Mux(queues[unit.value].done, control.events, 0))
        memory = self.memory
        count("READ_WORDS", memory.r_data.valid & memory.r_data.ready)
        count("WRITE_WORDS", memory.w_data.valid & memory.w_data.ready)
        m.d.sync += [
            self.counters[Counter.U_SATURATED].eq(neuron.u_saturated),
            self.counters[Counter.Z_SATURATED].eq(neuron.z_saturated),
        ]
        errors = self.counters[Counter.ERRORS]
        for bit, signal in ((CoreError.POOL_COLLISION, pool.collision),
                            (CoreError.PSUM_COLLISION, psum.collision)):
            with m.If(signal):
                m.d.sync += errors[bit].eq(1)
        with m.If(clear):
            m.d.sync += self.counters.eq(0)
