"""What the core's units cannot compute of a network, whatever its configuration."""

from gen.compile.wide import HALF, has_wide, weights_of
from hw.config import ATTENTION_BITS_MAX, attention_cap, LEVELS_MAX
from model.error import InputError
from model.integer.epilogue import Integrate
from model.integer.graph import Attention, Mean, RepConv


__all__ = ["check_supported", "rounding", "unsupported", "whole_levels"]


WEIGHTS = 17 * HALF[0], 17 * HALF[1]
"""Smallest and largest weight: 16 times one half of it, and the other."""


def rounding(ops):
    """Whether the operators' membranes are rounded half to even where levels are made of them: a
    set of True and False. Those fired without the factor D are not asked."""
    return {rule.half_even for rule in _firing(ops) if not rule.whole}


def whole_levels(ops):
    """Whether some of the operators fire membranes without the factor D."""
    return any(rule.whole for rule in _firing(ops))


def _firing(ops):
    rules = [getattr(op, "epilogue", None) for op in ops]
    return [rule for rule in rules if isinstance(rule, Integrate) and rule.level]


def unsupported(network):
    """What of a network no unit computes, in words and each once; empty if all is well."""
    found = {}
    if network.levels > LEVELS_MAX:
        found[f"levels of 0..{network.levels}, more than {LEVELS_MAX} thresholds"] = True
    if len(rounding(network.ops)) > 1:
        found["neurons of which some round half up and some half to even"] = True
    for op in network.ops:
        if (isinstance(op, Attention) and network.levels <= LEVELS_MAX
                and op.thresholds[-1] > attention_cap(ATTENTION_BITS_MAX)):
            found["attention thresholds of more than "
                  f"{attention_cap(ATTENTION_BITS_MAX)}"] = True
        if isinstance(op, Mean):
            found["a head that reads the mean membrane, without a neuron"] = True
        if any(w.size and not WEIGHTS[0] <= w.min() <= w.max() <= WEIGHTS[1]
               for w in weights_of(op).values()):
            found[f"weights that are not in {WEIGHTS[0]}..{WEIGHTS[1]}"] = True
        if isinstance(op, RepConv) and has_wide(op):
            found["weights of more than 4 bits inside a RepConv"] = True
    return list(found)


def check_supported(network):
    """Raise :exc:`InputError` naming all that is not supported, in one line."""
    found = unsupported(network)
    if found:
        raise InputError(f"{network.spec.get('name', 'The network')}: the core does not support "
                         f"yet: {'; '.join(found)}. It runs in software only "
                         "(qsdt evaluate --form integer)")
