"""Nodes and constants of an ONNX graph: names, sharing, weights of four bits."""

import numpy as np
from onnx import numpy_helper, TensorProto
import pytest

from model.exchange.onnx_graph import Graph, onnx_type


def test_every_name_is_given_once():
    graph = Graph(["layer/sum"])
    graph.scope = "layer"
    made = [graph.node("Add", "a", "b", label="sum") for _ in range(3)]
    assert made == ["layer/sum_2", "layer/sum_3", "layer/sum_4"]
    assert graph.node("Add", "a", "b", label="sum", out="layer/sum") == "layer/sum"
    graph.scope = ""
    assert graph.split("Split", "a", labels=["p", "p"], axis=0) == ["p", "p_2"]
    assert [node.name for node in graph.nodes] == [*made, "layer/sum", "p"]
    assert list(graph.nodes[-1].output) == ["p", "p_2"]


def test_equal_numbers_are_one_constant():
    graph = Graph()
    graph.scope = "layer"
    names = [graph.shared(4, np.int64), graph.shared(4, np.int32), graph.shared([4], np.int64),
             graph.shared([4, 5], np.int64)]
    assert names == ["int64/4", "int32/4", "int64/[4]", "int64/[4,5]"]
    assert graph.shared(np.array([4, 5]), np.int64) == names[3] and len(graph.constants) == 4
    assert numpy_helper.to_array(graph.constants[3]).tolist() == [4, 5]


@pytest.mark.parametrize("count", [1, 6, 7, 16])
def test_weights_of_four_bits(count):
    graph, values = Graph(), (np.arange(count) % 16 - 8).astype(np.int8).reshape(1, -1)
    assert graph.weight(values, label="w") == "w"
    stored, = graph.constants
    assert stored.data_type == TensorProto.INT4 and stored.name == "w_q"
    assert len(stored.raw_data) == -(-count // 2)
    np.testing.assert_array_equal(numpy_helper.to_array(stored).astype(np.int8), values)
    cast, = graph.nodes
    assert cast.op_type == "Cast" and cast.attribute[0].i == TensorProto.INT8


@pytest.mark.parametrize("value", [-9, 8, -128])
def test_wider_weights_stay_bytes(value):
    graph, values = Graph(), np.array([0, value], np.int8)
    graph.weight(values, label="w")
    assert not graph.nodes and graph.constants[0].data_type == TensorProto.INT8
    graph.weight(values, np.int32, label="v")
    assert graph.constants[1].data_type == TensorProto.INT8
    assert graph.nodes[0].attribute[0].i == TensorProto.INT32


def test_types():
    assert onnx_type(np.uint8) == TensorProto.UINT8 and onnx_type(np.bool_) == TensorProto.BOOL
