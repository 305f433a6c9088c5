from dataclasses import replace

from gen.machine.cost import predict
from gen.machine.occupancy import beside, idle_share, table
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


def test_model_beside_rtl():
    """Groups and layers above one in a hundred; a layer's error shows in its group, too."""
    _, program = compile_case(7, family=SdtV3Spec)
    prediction = predict(program)
    simulated = {name: layer.cycles for name, layer in prediction.layers.items()}
    group = [*simulated][:3]
    program = replace(program, groups=[group, *([name] for name in [*simulated][3:])])
    largest = max(group, key=simulated.get)
    simulated[largest] *= 2
    head, *rows = [line.rsplit(maxsplit=4) for line in beside(program, prediction, simulated)]
    assert head == ["of", "from", "RTL", "model", "difference"]
    found = {(what, name): [int(rtl.replace(",", "")), int(model.replace(",", "")), text]
             for what, name, rtl, model, text in rows}
    assert found["all", next(iter(simulated))][:2] == [
        sum(simulated.values()), sum(layer.cycles for layer in prediction.layers.values())]
    assert found["layer", largest] == [simulated[largest], simulated[largest] // 2, "-50.0%"]
    whole = sum(simulated[name] for name in group)
    assert found[f"group of {len(group)}", group[0]][:2] == [whole, whole - simulated[largest] // 2]
    assert {name for what, name in found if what == "layer"} == {
        name for name, cycles in simulated.items() if cycles > sum(simulated.values()) / 100}
