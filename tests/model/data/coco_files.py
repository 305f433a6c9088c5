"""A small folder in COCO's layout, made by the tests: the files, and what is in them."""

import json

import numpy as np
from PIL import Image


SQUARE = [[2, 2, 6, 2, 6, 6, 2, 6]]


def annotation(number, image, category, box, **more):
    x, y, w, h = box
    return {"id": number, "image_id": image, "category_id": category, "bbox": box,
            "area": w * h, "iscrowd": 0,
            "segmentation": [[x, y, x + w, y, x + w, y + h, x, y + h]], **more}


def content(annotations, *, images=(1, 2, 3), width=20, height=10):
    """An instances file of two classes with the ids 3 and 7, given in the wrong order."""
    return {
        "images": [{"id": one, "file_name": f"{one:03}.png", "width": width, "height": height}
                   for one in images],
        "categories": [{"id": 7, "name": "cat"}, {"id": 3, "name": "dog"}],
        "annotations": annotations,
    }


def write(folder, told, part="train"):
    """The annotations and a picture for each image they name, grey with its id in every pixel."""
    (folder / "annotations").mkdir(exist_ok=True, parents=True)
    (folder / f"{part}2017").mkdir(exist_ok=True)
    for one in told["images"]:
        pixels = np.full((one["height"], one["width"], 3), one["id"], np.uint8)
        Image.fromarray(pixels).save(folder / f"{part}2017" / one["file_name"])
    file = folder / "annotations" / f"instances_{part}2017.json"
    file.write_text(json.dumps(told))
    return file
