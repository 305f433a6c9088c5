"""Folding: narrow maps with several neighbouring positions of a row in one pool word.

A map of C channels with C <= R/2 would leave lanes of the pool words, of the array's inputs and
of its outputs unused. Folded by f, positions f*x .. f*x + f - 1 become one position of f*C
channels, the channels of the first position first (space to depth along the row). A convolution
between two maps folded alike is again one, with fewer horizontal taps and the same stride; zero
tiles apart, nothing is computed in vain. A map whose channels fill whole words lies in the pool
alike for every fold, so that a folded neighbour can read or make it.
"""

import numpy as np

from model.integer.graph import Attention, Conv


__all__ = ["choose_folds", "fold_patches", "fold_weight"]


def choose_folds(ops, tensors, rows, most):
    """Fold of every convolution, {operator name: f}; others are not folded.

    Parameters
    ----------
    ops : sequence of operators
    tensors : dict
        Name -> (kind, C, H, W), as of ``IntegerNetwork.tensors``.
    rows : int
        Channels in a pool word.
    most : int
        Largest fold; 1 folds nothing.
    """
    def natural(name):
        _, channels, _, width = tensors[name]
        if channels % rows == 0:
            return None    # any that divides the width
        fold = 1
        while 2 * fold <= min(most, rows // channels) and width % (2 * fold) == 0:
            fold *= 2
        return fold

    folds = {name: natural(name) for name in tensors if name != "image"}
    convs = [op for op in ops if isinstance(op, Conv)]
    for op in ops:
        if isinstance(op, Attention):    # heads begin at lanes of their own
            folds |= dict.fromkeys((*op.inputs, *op.outputs), 1)
        elif not isinstance(op, Conv):
            folds |= {name: 1 for name in (*op.inputs, *op.outputs) if folds[name] is not None}
    # Both sides of a convolution are folded alike: lower until all agree.
    chosen = dict.fromkeys((op.name for op in convs), 1)
    changed = True
    while changed:
        changed = False
        for op in convs:
            names = [name for name in (*op.inputs, *op.outputs) if name != "image"]
            fixed = [folds[name] for name in names if folds[name] is not None]
            fold = min(fixed, default=1)
            while any(tensors[name][3] % fold for name in names):
                fold //= 2
            for name in names:
                if folds[name] is not None and folds[name] != fold:
                    folds[name], changed = fold, True
            chosen[op.name] = fold
    return chosen


def fold_weight(weight, fold, *, stride, padding):
    """Weights (O, I, kh, kw) between maps folded alike.

    Returns
    -------
    (weights (fold*O, fold*I, kh, kw'), horizontal padding in folded positions)
    """
    outputs, inputs, height, width = weight.shape
    first = -padding // fold
    last = (stride * (fold - 1) + width - 1 - padding) // fold
    folded = np.zeros((fold, outputs, fold, inputs, height, last - first + 1), weight.dtype)
    for position in range(fold):
        for kx in range(width):
            column, source = divmod(stride * position + kx - padding, fold)
            folded[position, :, source, :, :, column - first] = weight[:, :, :, kx]
    return folded.reshape(fold * outputs, fold * inputs, height, -1), -first


def fold_patches(weight, fold, *, stride):
    """Weights (O, I, k, k) of a convolution of patches that ``im2col`` makes with this fold:
    (fold*O, I * k * (k + stride*(fold - 1)), 1, 1)."""
    outputs, inputs, height, width = weight.shape
    folded = np.zeros((fold, outputs, inputs, height, width + stride * (fold - 1)), weight.dtype)
    for position in range(fold):
        start = stride * position
        folded[position, ..., start:start + width] = weight
    return folded.reshape(fold * outputs, -1, 1, 1)
