"""Start a network from the weights of another: transfer, MPRF added later, a float warm start."""

from collections.abc import Mapping

import torch
from torch import nn, Tensor

from model.families.base import FLOAT_BITS
from model.families.dense import GROUPS
from model.families.lsq import LsqLayer
from model.families.network import Attention, SpikingTransformer


__all__ = ["adopt"]

_HEADS = ("head", *GROUPS)
_STEPS = (".alpha", ".init_state")
_MAY_LACK = ("num_batches_tracked", *_STEPS)


@torch.no_grad()
def adopt(
    model: SpikingTransformer, state: Mapping[str, Tensor], *, weight_bits: int | None = None,
    head: bool = True,
) -> list[str]:
    """Load `state`, of a network of the same shape, into `model`; return what starts anew.

    `weight_bits` are those of the source; None stands for as many as `model` has. `head` tells
    whether its head is trained.

    - A head that is not trained, that the source lacks, or that has another shape, such as one for
      another number of classes, keeps its own start; so do neck, detector and segmenter, each for
      itself. One that only the source has is left out.
    - MPRF that the source lacks starts so that nothing changes (`Mprf.start_after`), or with the
      very parameters and statistics of the batch norm that it replaces, and the other way round.
    - LSQ steps are set from the weights if the source has weights of other bits, or none.
    - Steps of the source are left out where `model` has weights of 32 bits.

    Raises ValueError naming the first entries that do not fit.
    """
    own, given = model.state_dict(), dict(state)
    anew: set[str] = set()
    for name in _HEADS:
        shapes = [{key: tuple(value.shape) for key, value in state.items()
                   if key.startswith(f"{name}.") and not key.endswith(_MAY_LACK)}
                  for state in (own, given)]
        if shapes[0] != shapes[1] or (name == "head" and not head):
            given = {key: value for key, value in given.items()
                     if not key.startswith(f"{name}.")}
            if shapes[0]:
                anew.add(name)
    begun = tuple(f"{name}." for name in anew)
    _replace_norms(own, given)
    if model.spec.weight_bits == FLOAT_BITS or weight_bits not in (None, model.spec.weight_bits):
        given = {key: value for key, value in given.items() if not key.endswith(_STEPS)}
    wrong = sorted(key for key, value in given.items()
                   if key not in own or own[key].shape != value.shape)
    lacking = [key for key in own if key not in given and not key.endswith(_MAY_LACK)
               and "_mprf." not in key and not key.startswith(begun)]
    for what, keys in (("does not fit", wrong), ("is missing", lacking)):
        if keys:
            more = f" (and {len(keys) - 1} more)" if len(keys) > 1 else ""
            raise ValueError(f"the network must have the shape of {model.spec.name}, but {keys[0]} "
                             f"{what}{more}")
    model.load_state_dict(given, strict=False)
    for name, module in model.named_modules():
        if isinstance(module, LsqLayer) and module.bits != FLOAT_BITS:
            if f"{name}.alpha" not in given and not f"{name}.".startswith(begun):
                module.reset_alpha()
                anew.add("LSQ steps")
        elif isinstance(module, Attention) and module.spec.mprf == "add":
            for x in "qkv":
                if f"{name}.{x}_mprf.weight" not in given:
                    norm = module.get_submodule(f"{x}_conv")[1]  # type: ignore[index]
                    if isinstance(norm, nn.BatchNorm2d):
                        getattr(module, f"{x}_mprf").start_after(norm)
                    anew.add("MPRF")
    return sorted(anew)


def _replace_norms(own: Mapping[str, Tensor], given: dict[str, Tensor]) -> None:
    """Rename the outer batch norms of `given` to the MPRF that stand in their places in `own`, and
    the other way round."""
    for one, other in (("_conv.1.", "_mprf."), ("_mprf.", "_conv.1.")):
        for key in list(given):
            renamed = key.replace(one, other)
            if key not in own and renamed in own and renamed not in given:
                given[renamed] = given.pop(key)
