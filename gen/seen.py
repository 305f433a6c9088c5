"""What a network with heads for boxes or pixels found in pictures: lines, files and drawings."""

from collections import Counter
from dataclasses import replace
from pathlib import PurePath

from model.data.coco import results_of, write_results
from model.data.drawing import draw_sample, save
from model.data.objects import BACKGROUND
from model.decode.outputs import seen
from model.families.spec import from_dict
from model.files import make_folder


__all__ = ["Sight"]


LONGEST = 640
"""Pixels of the longer side of what is drawn; larger pictures are reduced."""


class Sight:
    """What is seen in N pictures, in their own pixels.

    Parameters
    ----------
    network : IntegerNetwork
        With heads for boxes or pixels.
    found : gen.inputs.InputImages
        With ``samples``.
    outputs : dict
        By name, each (N, O, H, W), as :class:`gen.api.RunResult` has them.
    least : float
        Score from which boxes are told and drawn.
    """

    def __init__(self, network, found, outputs, least):
        spec = from_dict(network.spec)
        strides = spec.dense_heads.strides(spec)
        self.samples, self.least = found.samples, least
        self.names = _names([one.sample.name for one in found.placed], found.samples.image_ids)
        self.seen = [seen({name: value[i] for name, value in outputs.items()}, placed, strides)
                     for i, placed in enumerate(found.placed)]

    def line(self, index):
        """What was found in a picture, the surest box first, and the share of every class of
        pixels."""
        one, parts = self.seen[index], []
        if one.found is not None:
            found = one.found.at_least(self.least)
            boxes = ", ".join(f"{self.samples.classes[kind]} {score:.2f}" for kind, score in
                              zip(found.classes, found.scores, strict=True))
            parts.append(f"{len(found)} box{'' if len(found) == 1 else 'es'}"
                         + (f": {boxes}" if boxes else ""))
        if one.mask is not None:
            names, counts = self.samples.mask_classes, Counter(one.mask.ravel().tolist())
            shares = ", ".join(f"{names[kind]} {100 * count / one.mask.size:.1f} %"
                               for kind, count in counts.most_common()
                               if names[kind] != BACKGROUND)
            parts.append(f"pixels: {shares or 'background alone'}")
        return "; ".join(parts)

    def write_boxes(self, file):
        """Write all boxes as COCO's results."""
        write_results(results_of(self.samples, [one.found for one in self.seen]), file)

    def write_pictures(self, folder):
        """Write every picture with what was found as ``NAME.png``, and the numbers of its pixels'
        classes as ``masks/NAME.png``, in the picture's own size.

        Raises InputError if a file cannot be written, and what reading a picture raises.
        """
        from PIL import Image

        make_folder(folder)
        for index, (name, one) in enumerate(zip(self.names, self.seen, strict=True)):
            sample = self.samples.sample(index)
            found = None if one.found is None else one.found.at_least(self.least)
            save(draw_sample(replace(sample, mask=one.mask), longest=LONGEST, boxes=found,
                             classes=self.samples.classes,
                             mask_classes=self.samples.mask_classes), folder / f"{name}.png")
            if one.mask is not None:
                save(Image.fromarray(one.mask), make_folder(folder / "masks") / f"{name}.png")


def _names(files, ids):
    """Of pictures by their files without suffix, or by their ids; no two are equal."""
    names = []
    for file, number in zip(files, ids, strict=True):
        name = "_".join(PurePath(file).with_suffix("").parts) if file else f"{number:06}"
        while name in names:
            name += f"-{number}"
        names.append(name)
    return names
