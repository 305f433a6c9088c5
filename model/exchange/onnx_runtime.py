"""ONNX models in onnxruntime, beside the integer network that they were made from."""

from collections.abc import Iterator
import os
from typing import Any

import numpy as np
from numpy.typing import NDArray
import onnxruntime

from model.integer.network import IntegerNetwork


__all__ = ["differences", "OnnxNetwork", "RUNTIME"]


RUNTIME = f"onnxruntime {onnxruntime.__version__}"
"""What runs the models, with its version."""


class OnnxNetwork:
    """A model, loaded for the CPU.

    Parameters
    ----------
    content
        The file's bytes, or its name.
    threads
        Threads of one operator; 0 leaves their number to onnxruntime.
    optimise
        False runs the nodes as they are in the file.

    The attribute `outputs` has the names of what `run` returns.
    """

    def __init__(
        self, content: bytes | str | os.PathLike, *, threads: int = 1, optimise: bool = True
    ) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3
        if not optimise:
            options.graph_optimization_level = (
                onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL)
        source = content if isinstance(content, bytes) else os.fspath(content)
        self._session: Any = onnxruntime.InferenceSession(
            source, options, providers=["CPUExecutionProvider"])
        self.outputs = tuple(output.name for output in self._session.get_outputs())

    def run(self, image_q: NDArray[np.int8]) -> dict[str, NDArray]:
        """Every output for images (N, C, H, W), or samples (N, T, C, H, W)."""
        made = self._session.run(None, {"image": image_q})
        return dict(zip(self.outputs, made, strict=True))


def differences(
    network: IntegerNetwork, model: OnnxNetwork, image_q: NDArray[np.int8], *, batch: int = 1
) -> Iterator[dict[str, int]]:
    """Run both on `batch` samples at a time; yield, for each batch, how many values of which output
    differ. float64 is compared by its bits; another shape counts as every value.
    """
    for start in range(0, len(image_q), batch):
        images = image_q[start : start + batch]
        made, wanted = model.run(images), network.run(images, keep=model.outputs)
        counts = {name: _different(made[name], wanted[name]) for name in model.outputs}
        yield {name: count for name, count in counts.items() if count}


def _different(a: NDArray, b: NDArray) -> int:
    if a.shape != b.shape or (a.dtype.kind == "f") != (b.dtype.kind == "f"):
        return max(a.size, b.size, 1)
    if a.dtype.kind == "f":
        a, b = (np.ascontiguousarray(x).view(np.int64) for x in (a, b))
    return int(np.count_nonzero(a != b))
