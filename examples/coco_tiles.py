"""Cut pictures with boxes in VOC's XML into tiles in COCO's layout: a small set to practise with.

With the pictures that come with the package deepforest, tree crowns of NEON from the air:

    pip download --no-deps deepforest==2.1.0 && unzip deepforest-*.whl 'deepforest/data/*'
    python examples/coco_tiles.py trees --train deepforest/data/2019_YELL_2_528*.xml \\
        --test deepforest/data/2019_YELL_2_541*.xml

writes 323 tiles for training and 72 for the test, all of one class. These are few: report AP@0.5
with a bootstrap over tiles, and compare with nothing else. The pictures belong to NEON.
"""

import argparse
import json
from pathlib import Path
import re
import sys

from PIL import Image


HALF = 0.5
"""A box with less than this share of its area in a tile is a crowd region there: neither trained on
nor counted as wrong."""

_FIELDS = re.compile(r"<(name|xmin|ymin|xmax|ymax)>\s*([^<]*?)\s*</\1>")


def read_voc(file: Path) -> list[tuple[str, float, float, float, float]]:
    """Class, left, top, right and bottom of every object of VOC's XML file."""
    values: dict[str, str] = {}
    found = []
    for name, value in _FIELDS.findall(file.read_text("utf-8")):
        values[name] = value
        if len(values) == 5:
            left, top, right, bottom = (float(values[side]) for side in
                                        ("xmin", "ymin", "xmax", "ymax"))
            found.append((values["name"], left, top, right, bottom))
            values = {}
    return found


def write_tiles(folder: Path, part: str, annotations: list[Path], side: int,
                classes: list[str]) -> tuple[int, int]:
    """Write the whole tiles of side x side of all pictures, each beside its XML file as PNG.

    classes are those of all parts, so that a class has the same number in each.
    Returns how many tiles and how many boxes in them, crowds aside, were written.
    """
    (folder / "annotations").mkdir(parents=True, exist_ok=True)
    (folder / f"{part}2017").mkdir(exist_ok=True)
    images, boxes = [], []
    for file in annotations:
        picture, objects = Image.open(file.with_suffix(".png")).convert("RGB"), read_voc(file)
        for top in range(0, picture.height - side + 1, side):
            for left in range(0, picture.width - side + 1, side):
                name = f"{file.stem}_{top}_{left}.png"
                picture.crop((left, top, left + side, top + side)).save(
                    folder / f"{part}2017" / name)
                images.append({"id": len(images) + 1, "file_name": name, "width": side,
                               "height": side})
                for kind, *corners in objects:
                    box = [min(max(corner - start, 0), side)
                           for corner, start in zip(corners, (left, top, left, top), strict=True)]
                    width, height = box[2] - box[0], box[3] - box[1]
                    if min(width, height) < 1:
                        continue
                    whole = (corners[2] - corners[0]) * (corners[3] - corners[1])
                    boxes.append({
                        "id": len(boxes) + 1, "image_id": len(images),
                        "category_id": classes.index(kind) + 1,
                        "bbox": [box[0], box[1], width, height], "area": width * height,
                        "iscrowd": int(width * height < HALF * whole)})
    told = {"images": images, "annotations": boxes, "categories": [
        {"id": number, "name": name} for number, name in enumerate(classes, 1)]}
    (folder / "annotations" / f"instances_{part}2017.json").write_text(json.dumps(told))
    return len(images), sum(not one["iscrowd"] for one in boxes)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="where to write")
    parser.add_argument("--train", type=Path, nargs="+", required=True, metavar="F.xml")
    parser.add_argument("--test", type=Path, nargs="+", required=True, metavar="F.xml")
    parser.add_argument("--side", type=int, default=128, metavar="PIXELS",
                        help="of a tile (default: %(default)s)")
    args = parser.parse_args()
    classes = sorted({one[0] for file in (*args.train, *args.test) for one in read_voc(file)})
    for part in ("train", "test"):
        tiles, boxes = write_tiles(args.folder, part, getattr(args, part), args.side, classes)
        print(f"{args.folder}: {tiles} tiles for {part} with {boxes} boxes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
