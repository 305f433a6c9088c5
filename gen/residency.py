"""Where tensors live: pool addresses, spill addresses, strip heights and strip buffers."""

from gen.error import DoesNotFit
from model.graph import Attention, Conv, Depthwise, Integrate, Pool, RepConv


__all__ = ["Residency"]


class _FreeList:
    """First-fit allocation of pool words."""

    def __init__(self, words):
        self._words = words
        self._used = {}

    def allocate(self, name, words):
        start = 0
        for low, high in sorted(self._used.values()):
            if low - start >= words:
                break
            start = max(start, high)
        if start + words > self._words:
            return None
        self._used[name] = (start, start + words)
        return start

    def free(self, name):
        del self._used[name]

    def rename(self, old, new):
        self._used[new] = self._used.pop(old)

    def copy(self):
        other = _FreeList(self._words)
        other._used = dict(self._used)
        return other


class Residency:
    """Decide for every tensor whether it lives in the pool or in memory.

    Tensors are kept in the pool for as long as they are needed. When an operator's tensors and
    strip buffers do not fit, the largest tensor alive there is moved to memory and the whole
    allocation starts again.

    Attributes
    ----------
    pool : dict
        Pool address of every resident tensor.
    memory : dict
        Address of every spilled tensor, in memory words from the start of the spill area.
    buffers : dict
        (operator index, tensor) -> pool address of a spilled tensor's strip buffer.
    strip_rows : list
        Output rows per strip, for every operator.
    memory_words : int
        Size of the spill area.
    """

    def __init__(self, ops, maps, last_use, config):
        self._ops, self._maps, self._last_use, self._config = ops, maps, last_use, config
        spilled = {"image", "logits_acc"}
        while (victim := self._try(spilled)) is not None:
            spilled.add(victim)
        self.memory, self.memory_words = {}, 0
        for name in sorted(spilled - {"image", "logits_acc"}):
            self.memory[name] = self.memory_words
            self.memory_words += maps[name].memory_words

    def _try(self, spilled):
        """Allocate everything; returns a tensor to spill where that fails, else None."""
        self.pool, self.buffers, self.strip_rows = {}, {}, []
        free = _FreeList(self._config.pool_words)
        for index, op in enumerate(self._ops):
            chosen = self._choose(op, index, free, spilled)
            if chosen is None:
                return self._victim(index, op, spilled)
            rows, addresses, free, aliases = chosen
            self.strip_rows.append(rows)
            for name, address in addresses.items():
                if name in spilled:
                    self.buffers[index, name] = address
                else:
                    self.pool[name] = address
            for name in addresses:
                if name in spilled and name not in aliases:
                    free.free(name)
            for name in {*op.inputs, *op.outputs}:
                if name not in spilled and self._last_use[name] == index and name not in aliases:
                    free.free(name)
        return None

    def _choose(self, op, index, free, spilled):
        """Largest strip whose outputs and buffers fit: (rows, addresses, free list, aliases)."""
        for rows in self._heights(op):
            trial, addresses, aliases = free.copy(), {}, set()
            for name, words in self._needs(op, rows, spilled).items():
                donor = self._donor(op, index, name, spilled)
                if donor is not None:
                    # The membrane is updated in place: its new version takes the old one's words.
                    trial.rename(donor, name)
                    addresses[name] = (addresses[donor] if donor in spilled
                                       else self.pool[donor])
                    aliases.add(donor)
                    continue
                address = trial.allocate(name, words)
                if address is None:
                    break
                addresses[name] = address
            else:
                return rows, addresses, trial, aliases
        return None

    def _donor(self, op, index, name, spilled):
        """The old membrane whose words the new one can take, or None."""
        epilogue = getattr(op, "epilogue", None)
        if not isinstance(epilogue, Integrate) or name != epilogue.u_out:
            return None
        old = epilogue.u_in
        if old is None or self._last_use[old] != index or (old in spilled) != (name in spilled):
            return None
        return old

    def _heights(self, op):
        """Strip heights to try, tallest first; balanced, so that strips are about equal."""
        out = self._maps[next(iter(op.outputs))]
        if isinstance(op, (Attention, Pool)):
            return [out.height]
        words = self._config.psum_words

        def psums(rows):
            inner = min(rows + 2, out.height) if isinstance(op, RepConv) else 0
            return (rows + inner) * out.width

        fitting = [rows for rows in range(1, out.height + 1) if psums(rows) <= words]
        if not fitting:
            raise DoesNotFit(f"partial sums for one row of {op.name}", needed=psums(1),
                             available=words)
        # A quarter of the partial sums at most, where possible: later tiles run while one drains,
        # and a layer starts on the rows that are done (7 % fewer cycles for qsdt_nano than half).
        short = [rows for rows in fitting if psums(rows) <= words // 4] or fitting[:1]
        heights = {-(-out.height // -(-out.height // rows)) for rows in short}
        return sorted(heights, reverse=True)

    def _needs(self, op, rows, spilled):
        """Pool words to allocate: resident outputs whole, spilled tensors a strip's worth."""
        needs = {}
        source_rows = rows
        if isinstance(op, Conv) and op.source != "image":
            source_rows = (rows - 1) * op.stride + op.weight.shape[2]
        elif isinstance(op, Depthwise):
            source_rows = rows + op.weight.shape[-1] - 1
        elif isinstance(op, RepConv):
            source_rows = rows + 2
        for position, name in enumerate(op.inputs):
            if name in spilled:
                tensor = self._maps[name]
                wanted = tensor.height if isinstance(op, (Attention, Pool)) else (
                    source_rows if position == 0 else rows)
                needs[name] = min(wanted, tensor.height) * tensor.row_words
        for name in op.outputs:
            tensor = self._maps[name]
            needs[name] = (min(rows, tensor.height) if name in spilled
                           else tensor.height) * tensor.row_words
        return needs

    def _victim(self, index, op, spilled):
        """Largest resident tensor alive at this operator."""
        made, alive = set(), set()
        for earlier in self._ops[:index + 1]:
            made |= set(earlier.outputs)
        for name in made:
            if self._last_use[name] >= index and name not in spilled:
                alive.add(name)
        if not alive:
            words = sum(self._needs(op, min(self._heights(op)), spilled).values())
            raise DoesNotFit(f"pool words for the smallest strip of {op.name}", needed=words,
                             available=self._config.pool_words)
        return max(sorted(alive), key=lambda name: self._maps[name].words)
