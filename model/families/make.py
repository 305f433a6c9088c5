"""The float network of a spec, whatever its family."""

from model.families.base import NetworkSpec
from model.families.e_spikeformer import ESpikeFormer
from model.families.e_spikeformer_large import LargeESpikeFormer
from model.families.network import QsdTransformer, SpikingTransformer
from model.families.qsdt import QsdtSpec
from model.families.sdt_v3 import SdtV3Spec
from model.families.sdt_v3_large import SdtV3LargeSpec


__all__ = ["make_network"]


def make_network(spec: NetworkSpec) -> SpikingTransformer:
    """A network of `spec` with start weights, see `SpikingTransformer`."""
    if isinstance(spec, QsdtSpec):
        return QsdTransformer(spec)
    if isinstance(spec, SdtV3Spec):
        return ESpikeFormer(spec)
    if isinstance(spec, SdtV3LargeSpec):
        return LargeESpikeFormer(spec)
    raise TypeError(f"{spec.name}: there is no float form of a {spec.title}")
