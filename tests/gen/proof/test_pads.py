"""The layer that the rung ``pads`` runs: cut out of a program, with its memory and its trace."""

from gen.compile.compiler import compile_network
from gen.proof.pads import LayerRun, small_layer
from hw.descriptor import UnitKind
from model.integer.random_network import random_network
from tests.rtl.test_networks import CORES


def test_small_layer():
    config, params, _ = CORES["narrow"]
    found = random_network(23, params=params, max_size=10, max_dim=40)
    program = compile_network(found.network, config)
    part, words, trace = small_layer(found.network, program, found.images(1)[0])
    layers = {descriptor.layer for descriptor in part.program.descriptors}
    # One layer, and the loads of its inputs.
    layer, = layers - {"inputs"}
    assert layer in {descriptor.layer for descriptor in program.descriptors}
    assert len(part.program.descriptors) < len(program.descriptors)
    assert {UnitKind.LOAD, UnitKind.ARRAY, UnitKind.NEURON} <= {
        descriptor.unit for descriptor in part.program.descriptors}
    # Its memory: all of the program, and what the layer reads.
    payload = {address: int(word) for address, word in enumerate(part.program.payload) if word}
    assert payload.items() <= words.items() and len(words) > len(payload)

    run = LayerRun({}, list(trace.sigs), {})
    assert len(run.sigs) == len(part.program.descriptors) and run.difference(trace) is None
    run.sigs[2] ^= 1
    assert run.difference(trace).startswith("signature of descriptor 2: ")
