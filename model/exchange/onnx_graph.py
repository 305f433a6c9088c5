"""ONNX nodes and constants under construction.

Nothing here knows of networks; `model.exchange.onnx_operators` writes them with it.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray
from onnx import helper, NodeProto, numpy_helper, TensorProto


__all__ = ["Graph", "INT4_MAX", "INT4_MIN", "onnx_type"]


INT4_MIN, INT4_MAX = -8, 7


def onnx_type(dtype: DTypeLike) -> int:
    """The number of ONNX, such as ``TensorProto.UINT8``, of a type of NumPy."""
    return helper.np_dtype_to_tensor_dtype(np.dtype(dtype))


class Graph:
    """Nodes in the order in which they run, and constants; every name is given once.

    Parameters
    ----------
    reserved
        Names that only `out` of `node` gives.

    The attribute `scope` is put in front of the names of nodes and constants.
    """

    def __init__(self, reserved: Iterable[str] = ()) -> None:
        self.nodes: list[NodeProto] = []
        self.constants: list[TensorProto] = []
        self.scope = ""
        self._names = set(reserved)
        self._shared: dict[tuple[str, tuple[int, ...], bytes], str] = {}

    def node(
        self, kind: str, *inputs: str, label: str, out: str | None = None, **attributes: Any
    ) -> str:
        """Add a node with one result; return the result's name, `out` or made of `label`."""
        return self.split(kind, *inputs, labels=[label], outs=[out], **attributes)[0]

    def split(
        self, kind: str, *inputs: str, labels: list[str], outs: list[str | None] | None = None,
        **attributes: Any,
    ) -> list[str]:
        """Add a node with several results; return their names."""
        outs = outs or [None] * len(labels)
        results = [out or self._new(label) for label, out in zip(labels, outs, strict=True)]
        self.nodes.append(
            helper.make_node(kind, list(inputs), results, name=results[0], **attributes)
        )
        return results

    def cast(self, value: str, dtype: DTypeLike, *, label: str, out: str | None = None) -> str:
        """`value` in another type."""
        return self.node("Cast", value, label=label, out=out, to=onnx_type(dtype))

    def constant(self, values: NDArray, *, label: str) -> str:
        """A constant of one layer, in the type of `values`."""
        name = self._new(label)
        self.constants.append(numpy_helper.from_array(values, name))
        return name

    def shared(self, values: ArrayLike, dtype: DTypeLike) -> str:
        """A number, or a few, that many layers have; equal ones are one constant."""
        array = np.asarray(values, dtype)
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self._shared:
            text = ",".join(map(str, array.ravel().tolist()))
            name = self._unused(f"{array.dtype.name}/{text if array.ndim == 0 else f'[{text}]'}")
            self.constants.append(numpy_helper.from_array(array, name))
            self._shared[key] = name
        return self._shared[key]

    def weight(self, values: NDArray[np.int8], dtype: DTypeLike = np.int8, *, label: str) -> str:
        """Weights as `dtype`; stored as INT4 where all fit, as INT8 where not."""
        fits = values.min() >= INT4_MIN and values.max() <= INT4_MAX
        if not fits and np.dtype(dtype) == np.int8:
            return self.constant(values, label=label)
        stored = self._int4(values, f"{label}_q") if fits else self.constant(
            values, label=f"{label}_q")
        return self.cast(stored, dtype, label=label)

    def _int4(self, values: NDArray[np.int8], label: str) -> str:
        """Two weights a byte, the first in the low half; see TensorProto.DataType.INT4."""
        flat = values.ravel().astype(np.uint8) & 15
        flat = np.append(flat, np.zeros(len(flat) % 2, np.uint8)).reshape(-1, 2)
        packed = (flat[:, 0] | flat[:, 1] << 4).astype(np.uint8).tobytes()
        name = self._new(label)
        self.constants.append(
            helper.make_tensor(name, TensorProto.INT4, values.shape, packed, raw=True)
        )
        return name

    def _new(self, label: str) -> str:
        return self._unused(f"{self.scope}/{label}" if self.scope else label)

    def _unused(self, name: str) -> str:
        """`name`, or with a number behind it where it is taken."""
        found, number = name, 1
        while found in self._names:
            number += 1
            found = f"{name}_{number}"
        self._names.add(found)
        return found
