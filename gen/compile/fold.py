"""Folding: narrow maps with several neighbouring positions of a row in one pool word.

A map of C channels with C <= R/2 would leave lanes of the pool words, of the array's inputs and
of its outputs unused. Folded by f, positions f*x .. f*x + f - 1 become one position of f*C
channels, the channels of the first position first (space to depth along the row). A convolution
between two maps folded alike is again one, with fewer horizontal taps and the same stride; one of
stride 2 from a map that is folded twice as far has horizontal stride 1. Zero tiles apart, nothing
is computed in vain. A map whose positions take whole words, be they full or not, lies in the pool
alike for every fold, so that a folded neighbour can read or make it.
"""

from typing import NamedTuple

import numpy as np

from model.integer.graph import Conv


__all__ = ["Fold", "Folds", "choose_folds", "fold_patches", "fold_weight"]


class Fold(NamedTuple):
    """How many neighbouring positions a convolution sees as one of its source and of its results:
    as many, or twice as many of the source."""

    source: int = 1
    target: int = 1

    @property
    def rows(self):
        """Rows of the source that follow each other and are seen as one."""
        return self.source // self.target


class Folds(NamedTuple):
    """``of``: the :class:`Fold` of every convolution, by name; others are not folded. ``whole``:
    names of the maps whose positions take whole words."""

    of: dict
    whole: frozenset


def choose_folds(ops, tensors, rows, most):
    """Fold every convolution as far as the maps around it can be.

    Parameters
    ----------
    ops : sequence of operators
    tensors : dict
        Name -> (kind, C, H, W), as of ``IntegerNetwork.tensors``.
    rows : int
        Channels in a pool word.
    most : int
        Largest fold; 1 folds nothing.

    Returns
    -------
    Folds
    """
    limits = _limits(ops, tensors, rows, most)
    chosen, changed = {}, True
    while changed:
        changed = False
        for op in ops:
            if isinstance(op, Conv):
                chosen[op.name] = fold = _fold(op, tensors, limits, most)
                for name, value in ((op.source, fold.source),
                                    *((name, fold.target) for name in _made(op))):
                    if limits.get(name, value) != value:
                        limits[name], changed = value, True
    return Folds(chosen, frozenset(tensors) - limits.keys() - {"image"})


def _made(op):
    """Maps of the channels and positions that an operator makes: its results, and what is added."""
    epilogue = getattr(op, "epilogue", None)
    return (*op.outputs, *(epilogue.inputs if epilogue else ()))


def _limits(ops, tensors, rows, most):
    """{name: largest fold} of the maps that share words; the others take whole ones."""
    limits = {}
    for name, (_, channels, _, width) in tensors.items():
        fold = 1
        while 2 * fold <= min(most, rows // channels) and width % (2 * fold) == 0:
            fold *= 2
        if fold > 1 and name != "image":
            limits[name] = fold
    # Other operators know no fold; and what an operator makes at a time lies alike.
    whole = {name for op in ops if not isinstance(op, Conv) for name in (*op.inputs, *op.outputs)}
    while whole & limits.keys():
        for name in whole:
            limits.pop(name, None)
        whole = {other for op in ops for other in _made(op)
                 if not limits.keys() >= {*_made(op)}}
    return limits


def _fold(op, tensors, limits, most):
    """The :class:`Fold` of a convolution with which its maps are folded furthest."""
    own = limits.get(op.source)
    made = min((limits[name] for name in _made(op) if name in limits), default=None)
    _, _, height, width = tensors[op.source]
    image = op.source == "image"
    candidates = []
    for factor in (1, 2) if op.stride == 2 and height % 2 == 0 and not image else (1,):
        wanted = [limit for limit in (own and own // factor, made) if limit is not None]
        target = max(1, min(wanted, default=1))
        while target and (
                (not image and width % (factor * target))
                or any(tensors[name][3] % target for name in op.outputs)):
            target //= 2
        if target and factor * target <= min(most, own or most):
            candidates.append(Fold(factor * target, target))
    return max(candidates, key=lambda fold: (fold.source if own else 0)
               + (fold.target if made else 0))


def fold_weight(weight, fold, *, stride, padding):
    """Weights (O, I, kh, kw) between folded maps.

    Parameters
    ----------
    fold : Fold
        The source is folded like the result, or ``stride`` times as far.

    Returns
    -------
    (weights (target*O, source*I, kh, kw'), horizontal padding in folded positions)
    """
    outputs, inputs, height, width = weight.shape
    first = -padding // fold.source
    last = (stride * (fold.target - 1) + width - 1 - padding) // fold.source
    folded = np.zeros((fold.target, outputs, fold.source, inputs, height, last - first + 1),
                      weight.dtype)
    for position in range(fold.target):
        for kx in range(width):
            column, source = divmod(stride * position + kx - padding, fold.source)
            folded[position, :, source, :, :, column - first] = weight[:, :, :, kx]
    return folded.reshape(fold.target * outputs, fold.source * inputs, height, -1), -first


def fold_patches(weight, fold, *, stride):
    """Weights (O, I, k, k) of a convolution of patches that ``im2col`` makes with this fold:
    (fold*O, I * k * (k + stride*(fold - 1)), 1, 1)."""
    outputs, inputs, height, width = weight.shape
    folded = np.zeros((fold, outputs, inputs, height, width + stride * (fold - 1)), weight.dtype)
    for position in range(fold):
        start = stride * position
        folded[position, ..., start:start + width] = weight
    return folded.reshape(fold * outputs, -1, 1, 1)
