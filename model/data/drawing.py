"""Boxes and masks on pictures, with a legend: for people to look at. Needs Pillow.

The same input gives the same pixels. A class has its colour by its place among the classes, in
boxes, masks and legend alike.
"""

from collections.abc import Sequence
import colorsys
from dataclasses import replace
import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from model.data.objects import BACKGROUND, Found, IGNORED, Objects, Sample
from model.data.pipeline import prepare, Resize
from model.files import replacing


if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw


__all__ = ["colour", "draw", "draw_sample", "LEAST_SIDE", "save", "sheet"]


LEAST_SIDE = 256
"""Smaller pictures are enlarged by a whole factor until their longer side has this many pixels."""

_TEXT, _GAP = 12, 4
_OPACITY = 0.5
_WHITE, _BLACK, _GREY = (255, 255, 255), (0, 0, 0), (128, 128, 128)

Colour = tuple[int, int, int]

_Seen = dict[str, tuple[int, Colour]]
"""Names of the legend, with their places and colours."""


_FIRST = ((230, 25, 75), (60, 180, 75), (255, 225, 25), (0, 130, 200), (245, 130, 48),
          (145, 30, 180), (70, 240, 240), (240, 50, 230), (210, 245, 60), (250, 190, 212),
          (0, 128, 128), (220, 190, 255), (170, 110, 40), (255, 250, 200), (128, 0, 0),
          (170, 255, 195), (128, 128, 0), (255, 215, 180))
# Colours that people tell apart: Trubetskoy, "20 simple, distinct colors", but for navy and grey.


def colour(place: int) -> Colour:
    """The colour of the class at a place: one of a list, then hues by the golden ratio."""
    if place < len(_FIRST):
        return _FIRST[place]
    hue = place * (math.sqrt(5) - 1) / 2 % 1
    red, green, blue = colorsys.hsv_to_rgb(hue, (0.85, 0.5, 0.9)[place % 3],
                                           (0.85, 0.9, 0.6)[place % 3])
    return round(255 * red), round(255 * green), round(255 * blue)


def draw(image: NDArray[np.uint8], *, boxes: Objects | Found | None = None,
         classes: Sequence[str] = (), mask: NDArray[np.uint8] | None = None,
         mask_classes: Sequence[str] = (), title: str = "", notes: Sequence[str] = ()) -> "Image":
    """A picture with what is in it, in RGB, and to its right the names of what can be seen.

    image (H, W) or (3, H, W) uint8; boxes, whose scores are written in percent if they are `Found`,
    and that of a crowd is dashed; mask (H, W), whose pixels of `model.data.objects.BACKGROUND`
    stay as they are and ignored ones turn grey; a title above; notes, a text behind the name of
    each box, or "". The picture itself lies under the
    title at the left, each of its pixels a square of `zoom(image)` pixels.
    """
    from PIL import Image, ImageDraw

    factor = zoom(image)
    pixels = image if image.ndim == 2 else image.transpose(1, 2, 0)
    if pixels.ndim == 2:
        pixels = pixels[:, :, None].repeat(3, 2)
    seen: _Seen = {}
    if mask is not None:
        pixels = _tinted(pixels, mask, mask_classes, seen)
    picture = Image.fromarray(np.ascontiguousarray(pixels.repeat(factor, 0).repeat(factor, 1)))
    if boxes is not None:
        _draw_boxes(ImageDraw.Draw(picture), picture.size, boxes, classes, factor, seen,
                    notes)
    return _framed(picture, seen, title)


def draw_sample(sample: Sample, *, longest: int, boxes: Objects | Found | None = None,
                classes: Sequence[str] = (), mask_classes: Sequence[str] = (), title: str = "",
                notes: Sequence[str] = ()) -> "Image":
    """`draw` of a picture, its mask and boxes, reduced until its longer side has at most `longest`
    pixels."""
    if max(sample.size) > longest:
        placed = prepare(sample, (Resize(within=((longest, longest),)),))
        sample = placed.sample
        if boxes is not None:
            boxes = replace(boxes, boxes=boxes.boxes * np.tile(placed.scale, 2))
    return draw(sample.image, boxes=boxes, classes=classes, mask=sample.mask,
                mask_classes=mask_classes, title=title, notes=notes)


def zoom(image: NDArray[np.uint8]) -> int:
    """The factor by which `draw` enlarges a picture."""
    return -(-LEAST_SIDE // max(image.shape[-2:]))


def sheet(pictures: Sequence["Image"], columns: int, title: str = "") -> "Image":
    """Pictures in rows, as many columns as said, on white, under a title; at least one."""
    from PIL import Image

    columns = min(columns, len(pictures))
    width = max(one.width for one in pictures) + _GAP
    height = max(one.height for one in pictures) + _GAP
    rows = -(-len(pictures) // columns)
    made = Image.new("RGB", (columns * width, rows * height), _WHITE)
    for place, one in enumerate(pictures):
        made.paste(one, (place % columns * width, place // columns * height))
    return _framed(made, {}, title) if title else made


def save(picture: "Image", path: Path) -> None:
    """Write a PNG file. Raises InputError if it cannot be written."""
    with replacing(path) as file:
        picture.save(file, "PNG")


def _place(name: str, names: Sequence[str]) -> int:
    """Where a class stands among those that are not the background."""
    return [one for one in names if one != BACKGROUND].index(name)


def _tinted(pixels: NDArray[np.uint8], mask: NDArray[np.uint8], names: Sequence[str],
            seen: _Seen) -> NDArray[np.uint8]:
    """`pixels` (H, W, 3) mixed with the colours of their classes, which `seen` takes up."""
    tint = np.zeros((256, 3))
    tinted = np.zeros(256, bool)
    for number in np.unique(mask).tolist():
        if number == IGNORED:
            name, place, shade = "(ignored)", IGNORED, _GREY
        else:
            name = names[number]
            if name == BACKGROUND:
                continue
            place = _place(name, names)
            shade = colour(place)
        seen[name] = (place, shade)
        tint[number], tinted[number] = shade, True
    mixed = np.rint((1 - _OPACITY) * pixels + _OPACITY * tint[mask]).astype(np.uint8)
    return np.where(tinted[mask][:, :, None], mixed, pixels)


def _draw_boxes(pen: "ImageDraw", size: tuple[int, int], boxes: Objects | Found,
                classes: Sequence[str], factor: int, seen: _Seen, notes: Sequence[str]) -> None:
    """Outlines that lie on the outermost pixels of each box, the surest last, with names."""
    font = _font()
    scores = boxes.scores if isinstance(boxes, Found) else None
    crowd = boxes.crowd if isinstance(boxes, Objects) else np.zeros(len(boxes), bool)
    order = range(len(boxes)) if scores is None else np.argsort(scores, kind="stable").tolist()
    labels = []
    for place in order:
        name = classes[int(boxes.classes[place])]
        number = _place(name, classes)
        shade = colour(number)
        seen[name] = (number, shade)
        left, top, right, bottom = (round(factor * side) for side in boxes.boxes[place].tolist())
        right, bottom = max(right - 1, left), max(bottom - 1, top)
        _outline(pen, (left, top, right, bottom), shade, dashed=bool(crowd[place]))
        text = name if scores is None else f"{name} {100 * scores[place]:.0f}"
        if notes and notes[place]:
            text = f"{text} {notes[place]}"
        labels.append((text, shade, left, top))
    for text, shade, left, top in labels:
        width = math.ceil(pen.textlength(text, font)) + 2
        x = min(max(left, 0), max(size[0] - width, 0))
        y = min(max(top - _TEXT - 2 if top > _TEXT else top, 0), max(size[1] - _TEXT - 2, 0))
        pen.rectangle((x, y, x + width - 1, y + _TEXT + 1), fill=shade)
        pen.text((x + 1, y), text, fill=_on(shade), font=font)


def _outline(pen: "ImageDraw", box: tuple[int, int, int, int], shade: Colour, *, dashed: bool
             ) -> None:
    left, top, right, bottom = box
    if not dashed:
        pen.rectangle(box, outline=shade, width=2)
        return
    for start in range(left, right + 1, 8):
        for y in (top, bottom):
            pen.line((start, y, min(start + 3, right), y), fill=shade, width=2)
    for start in range(top, bottom + 1, 8):
        for x in (left, right):
            pen.line((x, start, x, min(start + 3, bottom)), fill=shade, width=2)


def _framed(picture: "Image", seen: _Seen, title: str) -> "Image":
    """The picture with a title above and a legend at its right, in the order of the classes."""
    from PIL import Image, ImageDraw

    font, row = _font(), _TEXT + _GAP
    wide = max((math.ceil(font.getlength(name)) for name in seen), default=0)
    legend = row + wide + 2 * _GAP if seen else 0
    head = row if title else 0
    width = max(picture.width + legend, math.ceil(font.getlength(title)) + _GAP if title else 0)
    height = head + max(picture.height, row * len(seen) + _GAP)
    framed = Image.new("RGB", (width, height), _WHITE)
    framed.paste(picture, (0, head))
    pen = ImageDraw.Draw(framed)
    pen.text((_GAP // 2, 1), title, fill=_BLACK, font=font)
    for line, (name, (_, shade)) in enumerate(sorted(seen.items(), key=lambda one: one[1])):
        x, y = picture.width + _GAP, head + _GAP + row * line
        pen.rectangle((x, y, x + _TEXT - 1, y + _TEXT - 1), fill=shade)
        pen.text((x + row, y - 1), name, fill=_BLACK, font=font)
    return framed


def _font():
    from PIL import ImageFont

    return ImageFont.load_default(_TEXT)


def _on(shade: Colour) -> Colour:
    """Black or white, whichever can be read on a colour (ITU-R BT.601 luma)."""
    red, green, blue = shade
    return _BLACK if 299 * red + 587 * green + 114 * blue > 140_000 else _WHITE
