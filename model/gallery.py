"""Pictures of what forms of a network find beside the truth, and the pictures they are worst at.

Part of ``model.evaluate``: a PNG file for each picture, its panels side by side, and a page of all.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from html import escape
from pathlib import Path

import numpy as np

from model.data.drawing import draw_sample, save, sheet
from model.data.objects import Chosen, Sample, Samples
from model.decode.outputs import Seen
from model.files import make_folder, write_atomic
from model.metrics.dense import DenseMeasure
from model.metrics.mistakes import judged, NAMED, pixel_mistakes, WRONG_CLASS


__all__ = ["PAGE", "write_gallery"]


LONGEST = 400
"""Pixels of the longer side of a panel; larger pictures are reduced."""

TOLD, TITLE = 12, 140
"""Most mistakes of a picture that the page tells, and most characters of them over the picture."""

PAGE = "index.html"
"""Of the folder, with all pictures and what went wrong in them."""

_BOXES = ("of boxes with a score of at least {least:g} those that are right, as a share of all of "
          "them and of the objects missed")
_PIXELS = "mean IoU of the classes in the picture"

Look = Callable[[Samples], Sequence[Seen]]


def write_gallery(folder: Path, measures: Mapping[str, DenseMeasure], looks: Mapping[str, Look], *,
                  words: Sequence[str] = (), count: int = 20, least: float = 0.3) -> None:
    """Write the first `count` pictures and the `count` worst, each with the truth and what every
    form sees, as PNG, and `PAGE`.

    measures and looks are by form; `DenseMeasure.qualities` of the last form says which pictures
    are the worst, of equal ones the first, and its mistakes are told. words, lines for the page;
    least, the score from which boxes are drawn and judged.

    Raises InputError if the folder cannot be written, and what reading the pictures raises.
    """
    make_folder(folder)
    form, measure = [*measures.items()][-1]
    qualities = measure.qualities(least)
    worst = [place for place in np.argsort(qualities, kind="stable")[:count].tolist()
             if qualities[place] < 1]
    parts: dict[str, list[tuple[str, str]]] = {}
    for name, title, places in (
            ("first", "The first pictures", [*range(min(count, len(qualities)))]),
            ("worst", f"The worst pictures of the {form} form", worst)):
        chosen = Chosen(measure.samples, places)
        seen = {form: look(chosen) for form, look in looks.items()} if places else {}
        parts[title] = []
        for row, place in enumerate(places):
            sample, file = chosen.sample(row), f"{name}-{row + 1:02}.png"
            here = {form: made[row] for form, made in seen.items()}
            mistakes = [*_mistakes(measure.samples, sample, here[form], least)]
            if len(mistakes) > TOLD:
                mistakes[TOLD:] = [f"{len(mistakes) - TOLD} more"]
            told = (f"picture {place + 1}{', ' * bool(sample.name)}{sample.name}: quality "
                    f"{qualities[place]:.2f}; {'; '.join(mistakes) or 'all right'}")
            save(_row(measure.samples, sample, here, least, told), folder / file)
            parts[title].append((file, told))
    rules = [*([_BOXES.format(least=least)] if measure.strides else []),
             *([_PIXELS] if measure.confusion is not None else [])]
    rule = f"Quality: {', and '.join(rules)}{'; the mean of both' if len(rules) > 1 else ''}."
    write_atomic(folder / PAGE, _page([*words, rule], parts))


def _row(samples: Samples, sample: Sample, seen: Mapping[str, Seen], least: float, title: str):
    """The truth and what each form sees, side by side, with mistakes behind the boxes' names."""
    names = {"classes": samples.classes, "mask_classes": samples.mask_classes}
    one = [*seen.values()][-1]    # the truth has what the network has heads for
    panels = [draw_sample(
        sample if one.mask is not None else replace(sample, mask=None), longest=LONGEST,
        boxes=None if one.found is None else sample.objects, title="truth", **names)]
    for form, one in seen.items():
        found = None if one.found is None else one.found.at_least(least)
        kinds = () if found is None else judged(sample.objects, found).kinds
        panels.append(draw_sample(
            replace(sample, mask=one.mask), longest=LONGEST, boxes=found, title=form,
            notes=[NAMED[kind] for kind in kinds], **names))
    if len(title) > TITLE:
        title = f"{title[:TITLE]} ..."
    return sheet(panels, len(panels), title)


def _mistakes(samples: Samples, sample: Sample, seen: Seen, least: float) -> Iterator[str]:
    """What is wrong with what was seen in a picture, in words."""
    if seen.mask is not None and sample.mask is not None:
        yield from pixel_mistakes(sample.mask, seen.mask, samples.mask_classes)
    if seen.found is not None:
        found = seen.found.at_least(least)
        result = judged(sample.objects, found)
        for place in result.missed:
            yield f"{samples.classes[sample.objects.classes[place]]} missed"
        for box, kind in enumerate(result.kinds):
            if NAMED[kind]:
                name = samples.classes[found.classes[box]]
                what = NAMED[kind]
                if kind == WRONG_CLASS:
                    true = sample.objects.classes[result.objects[box]]
                    what = f"for {samples.classes[true]}"
                yield f"{name} {100 * found.scores[box]:.0f} {what}"


def _page(words: Sequence[str], parts: Mapping[str, Sequence[tuple[str, str]]]) -> str:
    lines = ["<!doctype html>", '<meta charset="utf-8">', "<title>Boxes and pixels</title>",
             "<style>body{font-family:sans-serif;margin:2em}img{max-width:100%}</style>"]
    lines += [f"<p>{escape(one)}</p>" for one in words]
    for title, rows in parts.items():
        lines.append(f"<h2>{escape(title)}</h2>")
        lines += [f'<p>{escape(told)}<br><img src="{file}" alt=""></p>' for file, told in rows]
        if not rows:
            lines.append("<p>None: all are right.</p>")
    return "\n".join(lines) + "\n"
