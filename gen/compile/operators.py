"""Descriptors for a strip of every kind of operator (docs/architecture.md)."""

from dataclasses import replace

import numpy as np

from gen.compile.fold import Fold
from gen.compile.group import PAIR
from gen.compile.layout import head_slot
from gen.compile.maps import upper_half_unused
from gen.compile.pool import Buffer, turns
from gen.compile.schedule import FIRE, reads, SUM, upsampled
from gen.compile.view import MEMORY, PSUM, View
from gen.isa.limits import TILES
from gen.isa.program import Output
from hw.config import PLANES_MIN
from hw.descriptor import (
    DepthwiseMode,
    Destination,
    NeuronFunction,
    NeuronSource,
    SKIP_PLANES,
    UnitKind,
)
from model.integer.graph import (
    Attention,
    Conv,
    Depthwise,
    Fire,
    Integrate,
    Pool,
    Raw,
    RepConv,
    Requantise,
)
from sim.reference.depthwise import pack_depthwise
from sim.reference.neuron import pack_fire, pack_scale


__all__ = ["Operators"]


class Operators:
    """Emit the strips of a network's operators.

    Parameters
    ----------
    network : model.integer.network.IntegerNetwork
    layout : gen.compile.maps.NetworkMaps
    tiles : dict
        Of :func:`gen.compile.tiles.make_tiles`.
    config : CoreConfig
    emitter : gen.compile.emit.Emitter
    """

    def __init__(self, network, layout, tiles, config, emitter):
        self._network, self._config, self._to = network, config, emitter
        self._maps, self._folds, self._tiles = layout.maps, layout.folds, tiles
        self._cache = {}
        self._summed = {}    # partial sums of what is summed up, not fired yet
        self._kinds = {Conv: self._conv, Depthwise: self._depthwise, RepConv: self._rep_conv,
                       Attention: self._attention, Pool: self._pool}

    def strip(self, step):
        """Descriptors for a :class:`gen.compile.schedule.Step`."""
        op = self._network.ops[step.op]
        self._to.layer = op.name
        self._kinds[type(op)](op, step)

    def _once(self, make, *key):
        """``make()``, remembered under ``key``: every strip streams the same weights."""
        if key not in self._cache:
            self._cache[key] = make()
        return self._cache[key]

    @staticmethod
    def _groups(tensor, step):
        """Channel groups of an output that a step is about."""
        return tensor.used if step.group is None else [step.group]

    def _neuron(self, op, epilogue, views, psum, group, *, load=True, hold=False):
        """NEURON descriptors (with their constants) for the strip of one output group.

        One for all rows that follow each other in every buffer concerned, or for each row where
        half as many rows are added; all have the same constants. Without ``load`` those are there
        already, with ``hold`` for what follows, too.
        """
        coarse = upsampled(op)
        alike = {name: view for name, view in views.items() if name != coarse}
        first = next(iter(alike.values()))
        cuts = {low for view in alike.values() for low, _ in view.parts()}
        if coarse is not None:
            cuts |= {*range(*first.rows)}
        rows = first.parts(cuts)
        for index, (low, high) in enumerate(rows):
            parts = {name: replace(view, rows=(low, high)) for name, view in alike.items()}
            if coarse is not None:
                parts[coarse] = replace(views[coarse], rows=(low // 2, low // 2 + 1))
            at = psum + (low - first.rows[0]) * first.map.width
            self._neuron_part(op.name, epilogue, parts, at, low, high, group,
                              load=load and index == 0, hold=hold or index < len(rows) - 1)

    def _neuron_part(self, name, epilogue, views, psum, low, high, group, *, load, hold):
        main = next(iter(views.values())).map
        count = (high - low) * main.width
        fields = {"source": NeuronSource.PARTIAL, "psum": psum, "count": count,
                  "hold": int(hold)}
        reads, writes, outputs = [(PSUM, psum, psum + count)], [], []
        if isinstance(epilogue, Fire):
            level = views[epilogue.level]
            fields |= {"function": NeuronFunction.FIRE, "plane_out": level.position(low, group),
                       "plane_stride": level.map.position_words}
            used = [level]
        else:
            fields["function"] = NeuronFunction.SCALE
            used = []
            if isinstance(epilogue, Requantise):
                out = views[epilogue.z]
                used.append(out)
                fields |= {"write_planes": 1, "planes": out.map.planes,
                           "plane_out": out.position(low, group),
                           "plane_stride": out.map.position_words}
            else:
                made = epilogue.acc if isinstance(epilogue, Raw) else epilogue.u_out
                if made in views:
                    out = views[made]
                    used.append(out)
                    fields |= {"write_membrane": 1, "membrane_out": out.position(low, group),
                               "membrane_stride": out.map.position_words}
            if isinstance(epilogue, Integrate):
                if epilogue.u_in is not None:
                    source = views[epilogue.u_in]
                    row = low // epilogue.upsample
                    if epilogue.upsample > 1 and source.map.groups != main.groups:
                        raise ValueError(f"{name}: {epilogue.u_in} lies another way")
                    fields |= {"add": 1, "membrane_in": source.position(row, group),
                               "membrane_stride": source.map.position_words}
                    reads += source.intervals(group)
                if epilogue.level is not None:
                    level = views[epilogue.level]
                    fields |= {"write_levels": 1, "plane_out": level.position(low, group),
                               "plane_stride": level.map.position_words,
                               "planes": int(epilogue.whole)}
                    used.append(level)
        for view in used:
            writes += view.intervals(group)
            outputs.append(Output(view.map.name, group, low * view.map.width, count,
                                  view.map.planes))
        if load:
            self._to.stream(Destination.CONST, self._once(
                lambda: self._constants(epilogue, main, group), name, group))
        self._to.emit(UnitKind.NEURON, reads=reads, writes=writes, outputs=outputs, **fields)

    def _constants(self, epilogue, tensor, group):
        """Memory words of the constants of a group of output channels."""
        if isinstance(epilogue, Fire):
            rule, bits = epilogue.thresholds, self._config.acc_bits
            return pack_fire(self._spread(rule.thresholds, tensor, group, 1 << bits - 1),
                             self._spread(rule.invert, tensor, group), bits)
        if isinstance(epilogue, Raw):
            values = (np.full(tensor.channels, x, np.int64) for x in (1, 0, 0))
        else:
            scale = epilogue.scale
            values = scale.multiplier, scale.bias, scale.shift
        return pack_scale(*(self._spread(x, tensor, group) for x in values))

    @staticmethod
    def _spread(values, tensor, group, unused=0):
        """Per-channel values -> per lane of a group; unused lanes get ``unused``."""
        first = (group - tensor.first_group) * tensor.rows
        lanes = tensor.lanes[first:first + tensor.rows]
        values = np.asarray(values)
        shape = (-1,) + (1,) * (values.ndim - 1)
        return np.where((lanes >= 0).reshape(shape), values[lanes % tensor.channels], unused)

    def _epilogue_views(self, op, low, high):
        """(views by name, those to store): the epilogue's inputs and outputs for output rows."""
        fold = self._folds.get(op.name, Fold()).target
        outputs = {name: self._to.view(name, "out", low, high, fold) for name in op.epilogue.outputs
                   if name not in self._to.residency.dead and not self._to.group.by_tile(name)}
        rows = reads(op, low, high, self._maps)
        inputs = {name: self._to.view(name, "in", *rows[name],
                                      fold // 2 if name == upsampled(op) else fold)
                  for name in op.epilogue.inputs if not self._to.group.by_tile(name)}
        return outputs | inputs, outputs.values()

    def _tile_views(self, op, low, high, group):
        """(views by name, those to load, those to store) of the membranes that are moved one
        channel group at a time: one of it."""
        views, loaded, stored = {}, [], []
        for role, names in (("in", op.epilogue.inputs), ("out", op.epilogue.outputs)):
            for name in names:
                if self._to.group.by_tile(name):
                    tensor = self._maps[name].only(group)
                    buffer = self._to.group.buffers[name, role]
                    turn = group % turns(self._maps[name]) * buffer.rows * tensor.row_words
                    view = View(tensor, Buffer(buffer.address + turn, tensor.height), (low, high),
                                 MEMORY, first_row=low)
                    views[name] = view
                    (loaded if role == "in" else stored).append(view)
        return views, loaded, stored

    def _array(self, op, source, target, group, *, psum, first, rows, stride=1, joined=1,
               loaded=(), accumulate=False):
        """ARRAY descriptors (with their weights): output rows from ``first`` of one group, with
        ``accumulate`` added to what the partial sums hold. ``joined`` rows of the source are seen
        as one, which the tiles know.

        Views ``loaded`` come meanwhile: behind as many weights as fill their buffer, or half of
        them, so that the array has work until then and the rest arrives in time.
        """
        tiles = self._tiles[op.name][group]
        origin, ring = source.origin()
        width, planes = target.width, source.map.planes
        if (self._config.plane_skip and source.map.kind == "z" and source.home != MEMORY
                and planes >= PLANES_MIN):
            planes += SKIP_PLANES
        for start in range(0, len(tiles), TILES):
            taps, words = zip(*tiles[start:start + TILES], strict=True)
            first_tiles = len(words)
            if loaded and start == 0:
                first_tiles = max(self._config.weight_fifo_words // self._config.tile_words,
                                  first_tiles // 2)
            for low, high in ((0, first_tiles), (first_tiles, len(words))):
                if low < len(words):
                    self._to.stream(Destination.WEIGHT, self._once(
                        lambda w=words[low:high]: np.concatenate(w), op.name, "tiles", group,
                        start + low))
                if start == low == 0:
                    for view in loaded:
                        self._to.move(view, UnitKind.LOAD, *view.rows)
            self._to.emit(UnitKind.ARRAY, reads=source.intervals(),
                      writes=[(PSUM, psum, psum + rows * width)], source=source.buffer.address,
                      row_stride=joined * source.map.row_words, ring=ring,
                      position_stride=source.map.position_words, planes=planes,
                      signed=int(source.map.kind != "level"), stride=stride // joined,
                      height=(source.map.height - origin) // joined, width=source.map.width,
                      first_row=first - origin // stride, out_rows=rows, out_width=width,
                      tiles=len(taps), psum=psum, accumulate=int(accumulate or start > 0),
                      taps=taps)

    def _conv(self, op, step):
        low, high = step.low, step.high
        out = self._maps[next(iter(op.outputs))]
        stride, fold = (1, Fold()) if op.source == "image" else (op.stride, self._folds[op.name])
        source = self._to.view(op.source, "in", *reads(op, low, high, self._maps)[op.source],
                               fold.source)
        views, stored = self._epilogue_views(op, low, high)
        for group in self._groups(out, step):
            psum = self._to.partial_sums((high - low) * out.width)
            tile_views, tile_loaded, tile_stored = self._tile_views(op, low, high, group)
            for image in range(source.map.steps):
                self._array(op, source, out, group, psum=psum, first=low + image, rows=high - low,
                            stride=stride, joined=fold.rows, loaded=tile_loaded,
                            accumulate=image > 0)
            self._neuron(op, op.epilogue, views | tile_views, psum, group)
            self._to.finish(tile_stored)
        if step.group in (None, out.used[-1]):
            self._to.finish(stored)

    def _depthwise(self, op, step):
        """A strip, or one half of a channel group of it."""
        out, low, high = self._maps[next(iter(op.outputs))], step.low, step.high
        count = (high - low) * out.width
        views, stored = self._epilogue_views(op, low, high)
        whole = step.half is None or self._to.group.apart != PAIR
        load, hold = whole or low == 0, not whole and high < out.height
        for group in self._groups(out, step):
            if step.half != FIRE:
                self._summed[low] = self._to.partial_sums(count, beside=True)
                self._depthwise_sums(op, low, high, group)
            if step.half != SUM:
                self._neuron(op, op.epilogue, views, self._summed[low], group, load=load,
                             hold=hold)
        if step.half != SUM and step.group in (None, out.groups - 1) and not hold:
            self._to.finish(stored)

    def _depthwise_sums(self, op, low, high, group):
        out, psum = self._maps[next(iter(op.outputs))], self._summed[low]
        source = self._to.view(op.source, "in", *reads(op, low, high, self._maps)[op.source])
        origin, ring = source.origin()
        half = self._config.depthwise_half and upper_half_unused(source.map, group)
        lanes = self._config.rows // 2 if half else self._config.rows
        self._to.stream(Destination.DEPTHWISE, self._once(lambda: pack_depthwise(
            self._spread(op.weight, source.map, group)[:lanes]), op.name, "taps", group))
        self._to.emit(UnitKind.DEPTHWISE, reads=source.intervals(group), half=int(half),
                  writes=[(PSUM, psum, psum + (high - low) * out.width)],
                  mode=DepthwiseMode.LEVEL, kernel=op.weight.shape[-1],
                  source=source.buffer.address + group * source.map.planes,
                  row_stride=source.map.row_words, ring=ring,
                  position_stride=source.map.position_words, height=out.height - origin,
                  width=out.width, first_row=low - origin, out_rows=high - low, psum=psum)

    def _rep_conv(self, op, step):
        low, high = step.low, step.high
        out = self._maps[op.epilogue.z]
        source = self._to.view(op.source, "in", *reads(op, low, high, self._maps)[op.source])
        first, last = source.rows
        views, stored = self._epilogue_views(op, low, high)
        inner, count = (last - first) * out.width, (high - low) * out.width
        for group in range(out.groups):
            psum = self._to.partial_sums(inner + count)
            self._array(op, source, out, group, psum=psum, first=first, rows=last - first)
            self._to.stream(Destination.DEPTHWISE, self._once(lambda g=group: pack_depthwise(
                self._spread(op.depthwise, out, g)), op.name, "taps", group))
            self._to.emit(UnitKind.DEPTHWISE, reads=[(PSUM, psum, psum + inner)],
                      writes=[(PSUM, psum + inner, psum + inner + count)],
                      mode=DepthwiseMode.PARTIAL, kernel=3, source=psum, source_row=first,
                      height=out.height, width=out.width, first_row=low, out_rows=high - low,
                      psum=psum + inner)
            self._neuron(op, op.epilogue, views, psum + inner, group)
        self._to.finish(stored)

    def _attention(self, op, step):
        """Word by word of v: the sums of some rows of tokens, then their levels, while the sums of
        the next ones go elsewhere. All but the first rows keep the word's K^T V. All words have the
        same constants: where a lane is unused, v is 0, and no threshold is.

        A step is all of it, or one half of some rows of a word."""
        out = self._maps[op.level]
        sources = [self._to.view(name, "in", 0, out.height)
                   for name in (op.query, op.key, op.value)]
        target = self._to.view(op.level, "out", 0, out.height)
        if step.half is None:
            self._attention_constants(op)
            room = max(1, self._config.psum_words // 2 // out.width)
            rows = -(-out.height // -(-out.height // room))
            for group in range(out.groups):
                for low in range(0, out.height, rows):
                    high = min(low + rows, out.height)
                    self._attention_sums(op, sources, group, low, high)
                    self._attention_levels(op, target, group, low, high,
                                           hold=(group, high) != (out.groups - 1, out.height))
        elif step.half == SUM:
            self._attention_sums(op, sources, step.group, step.low, step.high)
        else:
            if step.low == 0:
                self._attention_constants(op)
            self._attention_levels(op, target, step.group, step.low, step.high,
                                   hold=step.high < out.height)
        if step.half is None or step[2:] == (out.height, out.groups - 1, FIRE):
            self._to.finish([target])

    def _attention_constants(self, op):
        lanes = self._config.rows
        self._to.stream(Destination.CONST, pack_fire(
            np.tile(op.thresholds, (lanes, 1)), np.zeros(lanes, bool), self._config.acc_bits))

    def _attention_levels(self, op, target, group, low, high, *, hold):
        self._neuron(op, Fire(None, op.level), {op.level: replace(target, rows=(low, high))},
                     self._summed[low], group, load=False, hold=hold)

    def _attention_sums(self, op, sources, group, low, high):
        out, lanes = self._maps[op.level], self._config.rows
        sizes = [self._maps[name].channels // op.heads for name in (op.query, op.value)]
        (words, slot), (chunks, _) = (head_slot(size, lanes, alone=len({*sizes}) > 1)
                                      for size in sizes)
        query, key, value = sources
        head = group // chunks * words
        shared = head
        if words == 1 and slot == lanes:    # words of k may be of several heads
            shared = int(np.flatnonzero(key.map.lanes == head * sizes[0])[0]) // lanes
        count, keep = (high - low) * out.width, low > 0
        used = tuple(int((view.map.lanes[at * lanes:(at + words) * lanes] >= 0).sum())
                     for view, at in ((query, head), (key, shared)))
        self._summed[low] = psum = self._to.partial_sums(count, beside=True)
        self._to.emit(
            UnitKind.ATTENTION,
            reads=query.intervals(head, words) + ([] if keep else (
                key.intervals(shared, words) + value.intervals(group))),
            writes=[(PSUM, psum, psum + count)], lanes=used, query=query.position(low, head),
            key=key.position(0, shared), value=value.position(0, group),
            position_stride=query.map.position_words,
            value_stride=value.map.position_words, tokens=out.height * out.width,
            queries=count, psum=psum, words=words, slot_log2=slot.bit_length() - 1,
            keep=int(keep))

    def _pool(self, op, step):
        low, high = step.low, step.high
        source_map = self._maps[op.source].folded(1)
        if self._maps[op.level].steps > 1:    # all of them together are as high as the map
            low, high = self._to.step, self._to.step + 1
        source = self._to.view(op.source, "in", 0, source_map.height)
        target = self._to.view(op.level, "out", low, high)
        count = source_map.height * source_map.width
        frac = self._network.params.u_frac
        # 2 D S >= N (2k - 1) 2**F, > for odd k if half goes to even (docs/model.md 5.8), as a
        # threshold on S.
        points = [-(-(count * (2 * k - 1) * (1 << frac) + (op.half_even and k % 2))
                    // (2 * op.levels))
                  for k in range(1, op.levels + 1)]
        never = 1 << (self._config.acc_bits - 1)
        for group in range(source_map.groups):
            thresholds = np.tile(np.array(points, np.int64), (source_map.channels, 1))
            self._to.stream(Destination.CONST, pack_fire(
                self._spread(thresholds, target.map, group, never),
                np.zeros(self._config.rows, bool), self._config.acc_bits))
            self._to.emit(UnitKind.NEURON, reads=source.intervals(group),
                      writes=target.intervals(group),
                      outputs=[Output(op.level, group, low, 1, target.map.planes)],
                      source=NeuronSource.MEMBRANE_SUM, function=NeuronFunction.FIRE,
                      count=count, membrane_in=source.position(0, group),
                      membrane_stride=source_map.position_words,
                      plane_out=target.position(low, group),
                      plane_stride=target.map.position_words)
        self._to.finish([target])
