"""COCO's JSON: annotations of the user's pictures in, results out (Lin et al., arXiv 1405.0312).

What is odd in a file is treated as the field does, and how often is logged:

- Classes are the categories by ascending id, gaps closed; results have the file's ids
  (detectron2, ``load_coco_json``).
- A box that reaches over the edge is clipped to the picture (torchvision's detection reference);
  one that lies outside, is narrower than a pixel, has ``area`` 0 or says ``ignore`` is not trained
  on (mmdetection, ``CocoDataset``).
- A crowd region is not trained on (both), and in evaluation what is found in it is neither right
  nor wrong (pycocotools). In a mask its pixels are ignored unless they are an object's, as crowds
  are in COCO's panoptic metric.
- A picture without objects is left out of training (mmdetection's ``filter_empty_gt``,
  torchvision) and kept for evaluation, where every box found in it is wrong.
- Pixels of two objects are ignored in a mask (torchvision's segmentation reference), polygons of
  fewer than three points left out (detectron2).
- Evaluation takes every annotation as the file has it, as pycocotools would.

What cannot be meant is an error of one line: text that is no JSON, ids that are there twice or
that name nothing, boxes with other than four finite numbers, sizes that are not the picture's.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial
import json
import logging
import math
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from model.command import require
from model.data.dataset import DataInfo, PARTS
from model.data.object_files import object_data, ObjectFile, ObjectFiles
from model.data.objects import BACKGROUND, Found, IGNORED, ObjectData, Objects, Samples, to_bbox
from model.data.pictures import Fitting, PIXELS_MAX
from model.files import write_atomic
from model.yaml_file import shown


__all__ = ["coco_data", "read_coco", "results_of", "truth_of", "write_results"]


log = logging.getLogger(__name__)

_FAR = 1e6
"""Largest coordinate of a polygon in pixels, whose outline is walked pixel by pixel."""


def coco_data(folder: Path, fitting: Fitting, *, masks: bool = False) -> ObjectData:
    """A folder of COCO's layout, or of its common variants.

    Annotations of part P (train, val, test) are in ``annotations/instances_P2017.json``,
    ``annotations/instances_P.json``, ``annotations/P.json`` or ``P/_annotations.coco.json``, and
    its pictures in ``P2017``, ``images/P2017``, ``images/P`` or ``P``. See
    `model.data.object_files.object_data` for parts that are not there, and `read_coco`.

    Raises ValueError, PictureError or OSError naming the file and the cause.
    """
    parts = {}
    for part in PARTS:
        file = _first(folder, f"annotations/instances_{part}2017.json",
                      f"annotations/instances_{part}.json", f"annotations/{part}.json",
                      f"{part}/_annotations.coco.json")
        if file is None:
            continue
        pictures = _first(folder, f"{part}2017", f"images/{part}2017", f"images/{part}", part)
        if pictures is None or not pictures.is_dir():
            raise ValueError(f"{folder}: has annotations for {part}, but no pictures in {part}2017 "
                             f"or {part}; put them there")
        parts[part] = read_coco(file, pictures, fitting, masks=masks)
    return object_data(folder, parts, trained_on=lambda one: not one.objects.crowd.all())


def read_coco(file: Path, folder: Path, fitting: Fitting, *, masks: bool = False) -> ObjectFiles:
    """The pictures of `folder` that an annotation file names, by ascending id.

    With `masks` the class of every pixel follows from the objects' outlines, 0 for the background
    (needs pycocotools).

    Raises ValueError or OSError naming the file and the cause, ToolMissing without pycocotools.
    """
    if masks:
        require("pycocotools", what="draws masks")
    content = _load(file)
    categories = sorted(_records(file, content, "categories", "id", "name"),
                        key=lambda one: one["id"])
    ids = [one["id"] for one in categories]
    try:
        classes = DataInfo(classes=tuple(one["name"] for one in categories)).classes
    except ValueError as error:
        raise ValueError(f"{file}: categories: {error}") from None
    if not classes:
        raise ValueError(f"{file}: has no categories; list the classes there")
    if masks and len(classes) >= IGNORED:
        raise ValueError(f"{file}: has {len(classes)} categories; masks can tell {IGNORED - 1}")
    images = sorted(_records(file, content, "images", "id", "file_name", "width", "height"),
                    key=lambda one: one["id"])
    said: dict[int, list[dict[str, Any]]] = {one["id"]: [] for one in images}
    known = {number: place for place, number in enumerate(ids)}
    for one in _records(file, content, "annotations", "id", "image_id", "category_id"):
        title = f"{file}: annotation {one['id']}"
        for key, names in (("image_id", said), ("category_id", known)):
            if one[key] not in names:
                raise ValueError(f"{title}: {key} {one[key]} is not in the file; remove one or add "
                                 "the other")
        said[one["image_id"]].append(_checked(title, one, masks))
    if not any(said.values()):
        raise ValueError(f"{file}: has no annotations; nothing can be learned or measured")
    passed_over: dict[str, int] = {}
    files = [_picture(file, folder, one, said[one["id"]], known, masks, passed_over)
             for one in images]
    for what, number in passed_over.items():
        log.info("%s: %d %s", file, number, what)
    return ObjectFiles(files=files, fitting=fitting, classes=classes, category_ids=ids,
                       mask_classes=(BACKGROUND, *classes) if masks else ())


def truth_of(samples: Samples) -> dict[str, Any]:
    """What is true of pictures as COCO writes it, for `model.metrics.detection`."""
    return {
        "images": [{"id": number} for number in samples.image_ids],
        "categories": [{"id": number, "name": name} for number, name in
                       zip(samples.category_ids, samples.classes, strict=True)],
        "annotations": [one for index in range(len(samples))
                        for one in samples.annotations_of(index)],
    }


def results_of(samples: Samples, found: Sequence[Found]) -> list[dict[str, Any]]:
    """What was found in pictures as COCO's results have it: ``image_id``, ``category_id``,
    ``bbox`` (x, y, width, height in pixels of the picture) and ``score``; in the order of
    `samples` and of each `Found`.

    Raises ValueError if there is not one `Found` for each picture, or a number is not finite.
    """
    if len(found) != len(samples):
        raise ValueError(f"found must be one for each of {len(samples)} pictures, not {len(found)}")
    results = []
    for number, one in zip(samples.image_ids, found, strict=True):
        if not (np.isfinite(one.boxes).all() and np.isfinite(one.scores).all()):
            raise ValueError(f"what is found in picture {number} must be finite")
        boxes = to_bbox(np.asarray(one.boxes, np.float64).reshape(-1, 4))
        results += [{"image_id": number, "category_id": samples.category_ids[kind], "bbox": box,
                     "score": score}
                    for box, kind, score in zip(boxes.tolist(), np.asarray(one.classes).tolist(),
                                                np.asarray(one.scores).tolist(), strict=True)]
    return results


def write_results(results: Sequence[dict[str, Any]], path: Path) -> None:
    """Write results as a JSON list, one a line, which COCO's tools and servers read. Raises
    InputError if the file cannot be written."""
    lines = ",\n".join(json.dumps(one, allow_nan=False) for one in results)
    write_atomic(path, f"[{lines}]\n")


def _first(folder: Path, *names: str) -> Path | None:
    return next((folder / name for name in names if (folder / name).exists()), None)


def _load(file: Path) -> dict[str, Any]:
    text = file.read_bytes()
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{file}: is not JSON ({str(error)[:100]}); export it anew") from None
    if not isinstance(content, dict):
        raise ValueError(f"{file}: must hold an object with images, annotations and categories, "
                         f"not a {type(content).__name__}: are these results?")
    return content


_KINDS = {"id": int, "image_id": int, "category_id": int, "name": str, "file_name": str,
          "width": int, "height": int}


def _records(file: Path, content: dict[str, Any], key: str, *fields: str
             ) -> Iterator[dict[str, Any]]:
    """Objects of a list of the file, with `fields` of the right kinds and no id twice."""
    records = content.get(key)
    if not isinstance(records, list):
        raise ValueError(f"{file}: must have a list of {key}, as COCO's instances files do")
    seen = set()
    for place, one in enumerate(records):
        if not isinstance(one, dict):
            raise ValueError(f"{file}: {key}[{place}] must be an object, not {shown(one)}")
        for field in fields:
            value, kind = one.get(field), _KINDS[field]
            if not isinstance(value, kind) or isinstance(value, bool):
                raise ValueError(f"{file}: {key}[{place}]: {field} must be "
                                 f"{'a text' if kind is str else 'a whole number'}, "
                                 f"not {shown(value)}")
        if one["id"] in seen:
            raise ValueError(f"{file}: {key}: id {one['id']} is there twice; number them anew")
        seen.add(one["id"])
        yield one


def _checked(title: str, one: dict[str, Any], masks: bool) -> dict[str, Any]:
    """What is needed of an annotation. COCO's ``iscrowd`` is 0 and ``area`` the box's by default.
    """
    box = one.get("bbox")
    if not isinstance(box, list) or len(box) != 4 or not all(map(_is_number, box)):
        raise ValueError(f"{title}: bbox must be four finite numbers (x, y, width, height), "
                         f"not {shown(box)}")
    if min(box[2:]) < 0:
        raise ValueError(f"{title}: bbox has a negative width or height; COCO's boxes are x, y, "
                         "width, height")
    area, crowd = one.get("area", box[2] * box[3]), one.get("iscrowd", 0)
    if not _is_number(area) or area < 0:
        raise ValueError(f"{title}: area must be a number from 0, not {shown(area)}")
    if crowd not in (0, 1):
        raise ValueError(f"{title}: iscrowd must be 0 or 1, not {shown(crowd)}")
    kept: dict[str, Any] = {"image_id": one["image_id"], "category_id": one["category_id"],
            "bbox": [float(value) for value in box], "area": float(area), "iscrowd": int(crowd)}
    if one.get("ignore"):
        kept["ignore"] = 1
    if masks:
        kept["segmentation"] = one.get("segmentation")
        kept["title"] = title
    return kept


def _is_number(value: object) -> bool:
    return (isinstance(value, int | float) and not isinstance(value, bool)
            and abs(value) < 1e15 and math.isfinite(value))


def _picture(file: Path, folder: Path, image: dict[str, Any], said: list[dict[str, Any]],
             known: dict[int, int], masks: bool, passed_over: dict[str, int]) -> ObjectFile:
    """A picture with its objects; counts in `passed_over` what is not taken as it is."""
    name, width, height = image["file_name"], image["width"], image["height"]
    title = f"{file}: image {image['id']}"
    inside = PurePosixPath(name)
    if inside.is_absolute() or ".." in inside.parts or not inside.name:
        raise ValueError(f"{title}: file_name must lie in {folder}, not {shown(name)}")
    if min(width, height) < 1 or width * height > PIXELS_MAX:
        raise ValueError(f"{title}: width and height must be at least 1 and at most "
                         f"{PIXELS_MAX:,} pixels together, not {width}x{height}")
    if not (folder / inside).is_file():
        raise ValueError(f"{folder / inside}: is not there, but {file} names it; copy it or remove "
                         "its entry")
    objects, taken = Objects.none(), []
    for one in said:
        x, y, w, h = one["bbox"]
        box = [max(x, 0.0), max(y, 0.0), min(x + w, float(width)), min(y + h, float(height))]
        if min(box[2] - box[0], box[3] - box[1]) <= 0 or min(w, h) < 1 or one["area"] == 0:
            _count(passed_over, "boxes outside their picture or without area are not trained on")
        elif one.get("ignore"):
            _count(passed_over, "boxes that say ignore are not trained on")
        else:
            if box != [x, y, x + w, y + h]:
                _count(passed_over, "boxes reach over the edge of their picture and are clipped")
            taken.append((box, known[one["category_id"]], one["area"], one["iscrowd"]))
    if taken:
        boxes, kinds, areas, crowd = (np.array(values) for values in zip(*taken, strict=True))
        objects = Objects(boxes=boxes, classes=kinds, areas=areas, crowd=crowd.astype(bool))
    draw: Callable[[int, int], NDArray[np.uint8]] | None = None
    if masks:
        for one in said:
            _check_outline(one["title"], one["segmentation"], height, width)
        draw = partial(_class_map, [(one.pop("title"), one.pop("segmentation"), one["iscrowd"],
                                     known[one["category_id"]] + 1) for one in said])
    return ObjectFile(file=folder / inside, name=name, image_id=image["id"], size=(height, width),
                      objects=objects, annotations=said, mask=draw)


def _count(passed_over: dict[str, int], what: str) -> None:
    passed_over[what] = passed_over.get(what, 0) + 1


def _check_outline(title: str, outline: Any, height: int, width: int) -> None:
    """Raise ValueError unless it is polygons or run lengths of a picture of this size."""
    if isinstance(outline, list):
        for polygon in outline:
            if not isinstance(polygon, list) or len(polygon) % 2 or not all(
                    _is_number(value) and abs(value) < _FAR for value in polygon):
                raise ValueError(f"{title}: segmentation must be lists of x, y in pixels, "
                                 f"not {shown(polygon)}")
        return
    if not isinstance(outline, dict) or outline.get("size") != [height, width]:
        size = outline.get("size") if isinstance(outline, dict) else None
        raise ValueError(f"{title}: segmentation must be polygons or run lengths of size "
                         f"[{height}, {width}], not {shown(outline if size is None else size)}")
    counts = outline.get("counts")
    if isinstance(counts, list):
        if not all(isinstance(run, int) and run >= 0 for run in counts) or (
                sum(counts) != height * width):
            raise ValueError(f"{title}: counts must be {height * width} pixels in whole runs")
    elif not isinstance(counts, str):
        raise ValueError(f"{title}: counts must be run lengths, not {shown(counts)}")


def _class_map(outlines: Sequence[tuple[str, Any, int, int]], height: int, width: int
               ) -> NDArray[np.uint8]:
    """The class of every pixel (H, W) of outlines: title, COCO's segmentation, whether it is a
    crowd's, class. Raises ValueError naming the title."""
    classes = np.zeros((height, width), np.uint8)
    owners, crowds = np.zeros((height, width), np.int32), np.zeros((height, width), bool)
    for title, outline, crowd, kind in outlines:
        own = _pixels(title, outline, height, width)
        if crowd:
            crowds |= own
        else:
            classes[own] = kind
            owners += own
    classes[(owners > 1) | (crowds & (owners == 0))] = IGNORED
    return classes


def _pixels(title: str, outline: Any, height: int, width: int) -> NDArray[np.bool_]:
    """Pixels (H, W) of an outline that `_check_outline` let through."""
    from pycocotools import mask

    if isinstance(outline, list):
        polygons = [polygon for polygon in outline if len(polygon) >= 6]
        drawn = mask.frPyObjects(polygons, height, width) if polygons else []
        runs = [_unpacked(one["counts"]) for one in drawn]
    else:
        counts = outline["counts"]
        runs = [counts if isinstance(counts, list)
                else _unpacked(counts.encode("utf-8", "surrogatepass"))]
    pixels = np.zeros(height * width, bool)
    for lengths in runs:
        if any(run < 0 for run in lengths) or sum(lengths) != len(pixels):
            raise ValueError(f"{title}: run lengths must be of {len(pixels)} pixels; export them "
                             "anew")
        pixels |= np.repeat(np.arange(len(lengths)) % 2 == 1, lengths)
    return pixels.reshape(width, height).T  # COCO counts down the columns


def _unpacked(text: bytes) -> list[int]:
    """Run lengths of COCO's short form: numbers of five bits a character, the lowest first, with
    sign; from the fourth length on the difference to the one before the last (pycocotools,
    ``rleFrString``)."""
    lengths: list[int] = []
    value = shift = 0
    for character in text:
        part = character - 48
        value |= (part & 31) << shift
        shift += 5
        if not part & 32:
            if part & 16:
                value -= 1 << shift
            lengths.append(value + (lengths[-2] if len(lengths) > 2 else 0))
            value = shift = 0
    return lengths
