"""What bounds each module of a network, and how long the array has nothing to do."""

from hw.descriptor import UnitKind
from model.command import columns


__all__ = ["idle_share", "table"]


def idle_share(program, prediction):
    """Share of the run in which the array has no descriptor, 0..1, since units take turns.

    Parameters
    ----------
    program : gen.isa.program.Program
    prediction : gen.machine.cost.Prediction
    """
    busy = sum(end - start for descriptor, (start, end)
               in zip(program.descriptors, prediction.times, strict=True)
               if descriptor.unit is UnitKind.ARRAY)
    return 1 - busy / prediction.cycles


def table(prediction):
    """Lines with a row for each module, for people: the cycles by which it prolongs the run, those
    that each unit and the memory would need for it alone, and which of them are most.

    A module is what layers have in common before the second dot of their names: "block3.0".
    """
    modules, units = {}, {}
    for name, layer in prediction.layers.items():
        module = modules.setdefault(".".join(name.split(".")[:2]), {"cycles": 0})
        module["cycles"] += layer.cycles
        for unit, cycles in layer.work.items():
            module[unit] = module.get(unit, 0) + cycles
            units[unit] = True
    rows = [("module", "cycles", *units, "bound by")]
    for name, module in modules.items():
        work = {unit: module.get(unit, 0) for unit in units}
        rows.append((name, f"{module['cycles']:,}", *(f"{cycles:,}" for cycles in work.values()),
                     max(work, key=work.get)))
    return columns(rows, left=(0, len(rows[0]) - 1))
