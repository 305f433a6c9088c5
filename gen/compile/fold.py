"""Folding: narrow maps with several neighbouring positions of a row in one pool word.

A map of C channels with C <= R/2 would leave lanes of the pool words, of the array's inputs and
of its outputs unused. Folded by f, positions f*x .. f*x + f - 1 become one position of f*C
channels, the channels of the first position first (space to depth along the row). A convolution
between two maps folded alike is again one, with fewer horizontal taps and the same stride; one of
stride 2 from a map that is folded twice as far has horizontal stride 1. Zero tiles apart, nothing
is computed in vain. A map of which so many positions take whole words, be they full or not, lies in
the pool alike for every multiple of that fold: a neighbour that is folded further can read or make
it. So 96 channels on 64 lanes fold by 2 into three full words, where they took four.

A membrane that is added to one of twice as many rows and columns is made with every channel twice,
in the place of two neighbours: seen with twice the fold the finer map is as wide, and its positions
find what they add where they have their own. Of a map that is two such steps away there are four
copies. So nothing is ever upsampled, and the units know nothing of it.
"""

from typing import NamedTuple

import numpy as np

from model.error import InputError
from model.integer.graph import Conv, Integrate


__all__ = ["Fold", "Folds", "choose_folds", "fold_patches", "fold_weight"]


WORDS = 3
"""Most words of the positions that share them: as many channels as three words and their halves,
quarters and so on have (24, 48, 96 of 64 lanes) fill no single one."""


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
    """``of``: the :class:`Fold` of every convolution, by name; others are not folded. ``shared``:
    positions that share words, by name of the map; those of others take whole words. ``copies``:
    how often maps have every channel, where that is more than once, and whether in words of their
    own."""

    of: dict
    shared: dict
    copies: dict


def choose_folds(ops, tensors, rows, most, strip=0):
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
    strip : int
        Positions of a strip at the most. Only maps that are one share several words: of others,
        strips with the same rows would stream more weights.

    Returns
    -------
    Folds

    Raises
    ------
    InputError
        If membranes are added to finer ones in a way that has no layout.
    """
    pyramid = _pyramid(ops, tensors, rows, most)
    limits = _limits(ops, tensors, rows, most, strip, pyramid.maps)
    chosen, changed = {}, True
    while changed:
        changed = False
        for op in ops:
            if not isinstance(op, Conv):
                continue
            made = _made(op)
            if op.name in pyramid.of:
                chosen[op.name] = fold = Fold(*2 * (pyramid.of[op.name],))
                made = ()
            elif op.source in pyramid.shared:
                chosen[op.name] = fold = Fold(*2 * (pyramid.shared[op.source],))
            else:
                chosen[op.name] = fold = _fold(op, tensors, limits, most)
            alike = min((fold.target, *(limits.get(name, 1) for name in made)))
            for name, value in ((op.source, fold.source), *((name, alike) for name in made)):
                if limits.get(name, 0) > value:
                    limits[name], changed = value, True
    shared = {name: fold for name, fold in limits.items() if fold > 1}
    return Folds(chosen, shared | pyramid.shared, pyramid.copies)


class _Pyramid(NamedTuple):
    """Convolutions that add coarser membranes or make those: ``of`` their folds by name, ``maps``
    of theirs, ``copies`` of maps that have more than one, ``shared`` the folds of maps whose
    positions share words."""

    of: dict
    maps: frozenset
    copies: dict
    shared: dict


def _pyramid(ops, tensors, rows, most):
    rules = [(op, op.epilogue) for op in ops
             if isinstance(getattr(op, "epilogue", None), Integrate)]
    copies = {}
    for _, rule in reversed(rules):
        wanted = copies.get(rule.u_out, 1) * rule.upsample
        if rule.u_in is not None and wanted > 1:
            copies[rule.u_in] = wanted
        if rule.level is not None and rule.u_out in copies:
            copies[rule.level] = copies[rule.u_out]
    together, place = {}, {}    # convolutions of one pyramid, and whose a membrane is
    for op, rule in rules:
        mine = place.get(rule.u_in)
        if rule.upsample > 1 or rule.u_out in copies or mine is not None:
            place[rule.u_out] = mine or op.name
            together.setdefault(mine or op.name, []).append(op)
    own = {name for found in together.values() for op in found for name in op.outputs}
    for op in ops:
        adding = getattr(op, "epilogue", None)
        for name in own.intersection(op.inputs):
            tied = isinstance(adding, Integrate) and name == adding.u_in
            wanted = copies.get(adding.u_out, 1) * adding.upsample if tied else 1
            if copies.get(name, 1) != wanted and (tied or tensors[name][0] == "u"):
                raise InputError(f"{name} is added to a finer map, and {op.name} uses it, too: "
                                 "make a membrane for each by a layer of its own")
            if not tied and not (isinstance(op, Conv) and op.stride == 1):
                raise InputError(f"{op.name} cannot read {name}, which is of a map with "
                                 "upsampling; convolutions of stride 1 can")
    least = dict.fromkeys(together, 1)
    while True:
        of, shared, laid = {}, {}, {}
        for key, found in together.items():
            fold = _pyramid_fold(found, tensors, copies, rows, most, least[key])
            for op in found:
                mine = of[op.name] = fold // copies.get(op.epilogue.u_out, 1)
                channels = tensors[op.epilogue.u_out][1]
                alone = channels * fold > rows and rows % channels > 0
                side = mine // max(1, channels * fold // rows)    # elements of a word or a part
                if not alone and side > 1:
                    shared |= dict.fromkeys(op.outputs, side)
                laid |= {name: (copies[name], alone) for name in op.outputs if name in copies}
        # What reads a map of another pyramid sees at least the elements that share its words.
        wanted = {key: max(shared.get(op.source, 1) * copies.get(op.epilogue.u_out, 1)
                           for op in found if of[op.name] % shared.get(op.source, 1))
                  for key, found in together.items()
                  if any(of[op.name] % shared.get(op.source, 1) for op in found)}
        if not wanted:
            return _Pyramid(of, frozenset(own), laid, shared)
        least |= wanted


def _pyramid_fold(ops, tensors, copies, rows, most, least):
    """Fold of the finest maps that these convolutions make, at least ``least``."""
    sizes = {}    # columns of a map by its copies
    for op in ops:
        name = op.epilogue.u_out
        _, channels, _, width = tensors[name]
        sizes[copies.get(name, 1)] = name, width
        if not (isinstance(op, Conv) and op.source != "image" and op.stride == 1):
            raise InputError(f"{op.name}: a membrane with upsampling is made by a convolution of "
                             "stride 1, and not of the image")

    def wrong(fold):
        return [(name, width, fold // count) for count, (name, width) in sizes.items()
                if width % (fold // count)]

    fold = max(least, *sizes)
    for name, width, part in wrong(fold):
        raise InputError(f"{name} has {width} columns, and must have a multiple of {part} to add "
                         "coarser maps: fill the images up on the right")
    while 2 * fold <= min(most, rows // channels) and not wrong(2 * fold):
        fold *= 2
    return fold


def _made(op):
    """Maps of the channels and positions that an operator makes: its results, and what is added."""
    epilogue = getattr(op, "epilogue", None)
    return (*op.outputs, *(epilogue.inputs if epilogue else ()))


def _limits(ops, tensors, rows, most, strip, others):
    """{name: largest fold} of the maps that share words, without ``others``; the rest take whole
    ones."""
    limits = {}
    for name, (_, channels, height, width) in tensors.items():
        fold = _fewest_words(channels, (height, width), rows, most, strip)
        if fold > 1 and name != "image" and name not in others:
            limits[name] = fold
    # Other operators know no fold; and what an operator makes at a time lies alike.
    whole = {name for op in ops if not isinstance(op, Conv) for name in (*op.inputs, *op.outputs)}
    while whole & limits.keys():
        for name in whole:
            limits.pop(name, None)
        whole = {other for op in ops for other in _made(op)
                 if not limits.keys() >= {*_made(op)}}
    return limits


def _fewest_words(channels, size, rows, most, strip):
    """The fold with which a map takes the fewest words: so many positions share one, or fill
    some."""
    (height, width), best, fold = size, 1, 2
    while fold <= most and width % fold == 0:
        words = -(-fold * channels // rows)
        full = fold * channels == words * rows and words <= WORDS
        if (words == 1 or (full and height * width // fold <= strip)) and (
                words * best < -(-best * channels // rows) * fold):
            best = fold
        fold *= 2
    return best


def _fold(op, tensors, limits, most):
    """The :class:`Fold` of a convolution with which its maps are folded furthest."""
    own = limits.get(op.source, 1)
    made = min(limits.get(name, 1) for name in _made(op))
    _, _, height, width = tensors[op.source]
    image = op.source == "image"
    candidates = []
    for factor in (1, 2) if op.stride == 2 and height % 2 == 0 and not image else (1,):
        target = max(1, own // factor, made)
        while target and (
                (not image and width % (factor * target))
                or any(tensors[name][3] % target for name in op.outputs)):
            target //= 2
        if target and factor * target <= most:
            candidates.append(Fold(factor * target, target))
    # Of those that fold both maps as far as they can be, the one with the fewest lanes.
    return max(candidates, key=lambda fold: (min(fold.source, own) + min(fold.target, made),
                                             -fold.target if made > 1 else fold.target))


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


def fold_patches(weight, fold, *, stride, columns_first=False):
    """Weights (O, I, k, k) of a convolution of patches that ``im2col`` makes with this fold:
    (fold*O, I * k * (k + stride*(fold - 1)), 1, 1); ``columns_first`` is as there."""
    outputs, inputs, height, width = weight.shape
    folded = np.zeros((fold, outputs, inputs, height, width + stride * (fold - 1)), weight.dtype)
    for position in range(fold):
        start = stride * position
        folded[position, ..., start:start + width] = weight
    if columns_first:
        folded = folded.transpose(0, 1, 4, 2, 3)
    return folded.reshape(fold * outputs, -1, 1, 1)
