from gen.machine.cost import predict
from gen.machine.occupancy import idle_share, table
from hw.descriptor import UnitKind
from model.families.sdt_v3 import SdtV3Spec
from tests.gen.random_cases import compile_case


def test_modules_and_idle_share():
    """Modules have all cycles of the layers; the array is idle outside its descriptors."""
    _, program = compile_case(7, family=SdtV3Spec)
    prediction = predict(program)
    head, *rows = [line.split() for line in table(prediction)]
    assert head[:2] == ["module", "cycles"] and head[-2:] == ["bound", "by"]
    units = head[2:-2]
    assert {"array", "neuron", "depthwise", "attention", "memory"} == {*units}
    assert [row[0] for row in rows] == list(dict.fromkeys(
        ".".join(name.split(".")[:2]) for name in prediction.layers))
    cycles = [int(row[1].replace(",", "")) for row in rows]
    assert sum(cycles) == sum(layer.cycles for layer in prediction.layers.values())
    for row in rows:
        work = [int(cell.replace(",", "")) for cell in row[2:-1]]
        assert row[-1] == units[work.index(max(work))]
    busy = [False] * prediction.cycles
    for descriptor, (start, end) in zip(program.descriptors, prediction.times, strict=True):
        if descriptor.unit is UnitKind.ARRAY:
            busy[start:end] = [True] * (end - start)
    assert abs(idle_share(program, prediction) - busy.count(False) / len(busy)) < 1e-3
