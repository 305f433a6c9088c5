"""What networks of every family are made of, as data: layers with weights, and attentions.

Names are keys of the published state dict without ``.weight``, and names of the maps in between: a
neuron's name is that of its levels, a layer's name that of the multi-bit map it hands on. No torch.
"""

from dataclasses import dataclass


__all__ = ["Attention", "HeadLayer", "Layer", "Part", "RepConv", "Step"]


@dataclass(frozen=True, kw_only=True)
class Layer:
    """A convolution or linear layer, and what is folded into it.

    Parameters
    ----------
    name, shape
        Published name, and shape of its weights, (cout, cin, ...).
    source
        What it reads: "image", a neuron, or the layer whose multi-bit map it reads.
    unit
        Real value of 1 of what it reads; 1 for a multi-bit map, whose unit is chosen at export.
    bias
        Whether it has one.
    norms, scale
        Batch norms behind it, in order, and the key of the factor (cout,) behind these, "" for 1.
    stride
        Of a convolution; the padding keeps the size otherwise.
    depthwise
        Whether it is one, of shape (C, 1, k, k).
    neuron
        What fires behind it; "" if it hands on a multi-bit map, or ends a step.
    multi_bit
        Whether it hands on a multi-bit map.
    """

    name: str
    shape: tuple[int, ...]
    source: str
    unit: float = 1.0
    bias: bool = False
    norms: tuple[str, ...] = ()
    scale: str = ""
    stride: int = 1
    depthwise: bool = False
    neuron: str = ""
    multi_bit: bool = False

    @property
    def layers(self) -> tuple["Layer", ...]:
        """The layer itself."""
        return (self,)

    @property
    def key(self) -> str:
        """What its weights, steps and bias are called in a state dict."""
        return self.name


@dataclass(frozen=True, kw_only=True)
class HeadLayer(Layer):
    """A convolution of a head for dense prediction (`model.families.dense`).

    Parameters
    ----------
    reduction
        Pixels of the image from one position of its map to the next.
    weights
        Name of the weights that several layers share, "" for those of its own name.
    zero
        Whether its weights are all 0 and in no state dict: such a layer hands on the doubled map of
        `added`, and no more.
    membrane, added, upsample
        The membrane that it makes, that `neuron` fires, if there is one; the one that is added to
        it, "" for none, and how often each of this one's positions is repeated both ways.
    output, on_host
        What its sums are called as an output, and whether the host computes them of the levels;
        "" and False for layers in front of another one.
    """

    reduction: int
    weights: str = ""
    zero: bool = False
    membrane: str = ""
    added: str = ""
    upsample: int = 1
    output: str = ""
    on_host: bool = False

    @property
    def key(self) -> str:
        return self.weights or self.name


@dataclass(frozen=True, kw_only=True)
class RepConv:
    """1x1, batch norm, depthwise 3x3, 1x1, batch norms: all linear, of levels of `source`.

    The other fields are those of a `Layer`; `norms` stand behind its own, in order.
    """

    name: str
    channels: int
    source: str
    unit: float
    norms: tuple[str, ...] = ()
    scale: str = ""
    neuron: str = ""

    @property
    def layers(self) -> tuple[Layer, Layer, Layer]:
        """The 1x1 with the batch norm behind it, the depthwise 3x3, and the 1x1 at the end.

        The 3x3 runs on the exact sums of the first 1x1; both hand on multi-bit maps.
        """
        body, c = f"{self.name}.0.body", self.channels
        return (
            Layer(name=f"{body}.0", shape=(c, c, 1, 1), source=self.source, unit=self.unit,
                  norms=(f"{body}.1.bn",), multi_bit=True),
            Layer(name=f"{body}.2.0", shape=(c, 1, 3, 3), source=f"{body}.0", depthwise=True,
                  multi_bit=True),
            Layer(name=f"{body}.2.1", shape=(c, c, 1, 1), source=f"{body}.2.0",
                  norms=(f"{body}.2.2", *self.norms), scale=self.scale, neuron=self.neuron),
        )


@dataclass(frozen=True, kw_only=True)
class Attention:
    """Q (K^T V) of the levels of three neurons, fired by a fourth.

    channels, values: of q and k, and of v and the result; head h has channels h*d..h*d+d-1 of
    each. thresholds: the least Q (K^T V), products of levels, for each level 1..D.
    """

    name: str
    query: str
    key: str
    value: str
    heads: int
    channels: int
    values: int
    thresholds: tuple[int, ...]

    @property
    def layers(self) -> tuple[Layer, ...]:
        """None: it has no weights."""
        return ()


Part = Layer | RepConv | Attention


@dataclass(frozen=True)
class Step:
    """One update of the membrane.

    name; kind: "downsample" replaces it; "sepconv", "convs", "pointwise", "attention" and "mlp" add
    to it; stage: index from 0; entry: the neuron that fires the membrane for it, or "image"; parts:
    in order of execution, of which the last makes what is added.
    """

    name: str
    kind: str
    stage: int
    entry: str
    parts: tuple[Part, ...]

    @property
    def replaces(self) -> bool:
        """Whether the membrane before it is forgotten."""
        return self.kind == "downsample"
