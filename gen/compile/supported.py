"""What the core's units cannot compute of a network, whatever its configuration."""

import numpy as np

from hw.config import ATTENTION_BITS_MAX, attention_cap
from model.error import InputError
from model.integer.epilogue import Integrate
from model.integer.golden import MAX_LEVEL
from model.integer.graph import Attention, Conv, Depthwise, Mean, RepConv


__all__ = ["check_supported", "rounding", "unsupported"]


WEIGHTS = -8, 7
"""Smallest and largest weight that the array and the depthwise unit multiply with."""


def rounding(ops):
    """Whether the operators' membranes are rounded half to even where levels are made of them: a
    set of True and False."""
    rules = [getattr(op, "epilogue", None) for op in ops]
    return {rule.half_even for rule in rules if isinstance(rule, Integrate) and rule.level}


def unsupported(network):
    """What of a network no unit computes, in words and each once; empty if all is well."""
    found = {}
    if network.levels != MAX_LEVEL:
        more = f", more than {MAX_LEVEL} thresholds" if network.levels > MAX_LEVEL else ""
        found[f"levels of 0..{network.levels}{more}"] = True
    if len(rounding(network.ops)) > 1:
        found["neurons of which some round half up and some half to even"] = True
    for op in network.ops:
        epilogue = getattr(op, "epilogue", None)
        if isinstance(op, Attention) and op.thresholds[-1] > attention_cap(ATTENTION_BITS_MAX):
            found["attention thresholds of more than "
                  f"{attention_cap(ATTENTION_BITS_MAX)}"] = True
        if isinstance(op, Mean):
            found["a head that reads the mean membrane, without a neuron"] = True
        weights = {Conv: ("weight",), Depthwise: ("weight",),
                   RepConv: ("pointwise", "depthwise")}.get(type(op), ())
        if any(not WEIGHTS[0] <= np.min(w) <= np.max(w) <= WEIGHTS[1]
               for w in (getattr(op, name) for name in weights)):
            found["weights of more than 4 bits"] = True
    return list(found)


def check_supported(network):
    """Raise :exc:`InputError` naming all that is not supported, in one line."""
    found = unsupported(network)
    if found:
        raise InputError(f"{network.spec.get('name', 'The network')}: the core does not support "
                         f"yet: {'; '.join(found)}. It runs in software only "
                         "(qsdt evaluate --form integer)")
