"""What bounds each module of a network, how long the array has nothing to do, and how far the cost
model is from the RTL."""

from hw.descriptor import UnitKind
from model.command import columns


__all__ = ["beside", "idle_share", "table"]


SMALL = 0.01
"""Share of the run below which :func:`beside` leaves a layer out."""


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


def beside(program, prediction, simulated):
    """Lines with the cycles of the model beside those in RTL, for people: of what takes more than
    one in a hundred, fused groups first, then layers.

    The layers of a fused group take turns, strip by strip, and a cycle counts for the one whose
    descriptor ends later than all before it. Which one that is may change with a cycle, so the
    group tells more than each of them.

    Parameters
    ----------
    program : gen.isa.program.Program
    prediction : gen.machine.cost.Prediction
    simulated : dict
        Cycles in RTL of every layer.
    """
    total = sum(simulated.values())
    parts = [("all", [*simulated]),
             *((f"group of {len(names)}", names) for names in program.groups if len(names) > 1),
             *(("layer", [name]) for name in simulated)]
    rows = [("of", "from", "RTL", "model", "difference")]
    for what, names in parts:
        wanted = sum(simulated[name] for name in names)
        found = sum(prediction.layers[name].cycles for name in names)
        if wanted > SMALL * total:
            rows.append((what, names[0], f"{wanted:,}", f"{found:,}", f"{found / wanted - 1:+.1%}"))
    return columns(rows, left=(0, 1))
