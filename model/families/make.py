"""The float network of a spec, whatever its family."""

from model.families.base import NetworkSpec
from model.families.network import QsdTransformer, SpikingTransformer
from model.families.qsdt import QsdtSpec


__all__ = ["make_network"]


def make_network(spec: NetworkSpec) -> SpikingTransformer:
    """A network of `spec` with start weights, see `SpikingTransformer`."""
    if isinstance(spec, QsdtSpec):
        return QsdTransformer(spec)
    raise TypeError(f"{spec.name}: there is no float form of a {spec.title}")
