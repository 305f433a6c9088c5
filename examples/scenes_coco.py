"""Write fashion scenes in COCO's and ADE20K's layout: an own data set to practise with.

``python examples/scenes_coco.py scenes --count 500`` makes ``scenes/train2017``, ``val2017`` and
``test2017`` with ``annotations/instances_*.json``, and the masks of the same pictures in
``scenes/annotations/train`` and so on, with ``scenes/images/train`` for their pictures.
"""

import argparse
import json
from pathlib import Path
import sys

from PIL import Image

from model.data.coco import truth_of
from model.data.objects import ObjectData, Samples
from model.data.scenes import fashion_objects


def write_part(folder: Path, part: str, samples: Samples, count: int) -> None:
    """Write the first `count` scenes of a part as pictures, masks and an annotation file."""
    places = [folder / f"{part}2017", folder / "images" / part, folder / "annotations" / part]
    for place in places:
        place.mkdir(parents=True, exist_ok=True)
    truth = truth_of(samples)
    truth["images"] = truth["images"][:count]
    for index, told in enumerate(truth["images"]):
        one, name = samples.sample(index), f"{told['id']:06}.png"
        told.update(file_name=name, height=one.size[0], width=one.size[1])
        for place, pixels in zip(places, (one.image, one.image, one.mask), strict=True):
            Image.fromarray(pixels).save(place / name)
    truth["annotations"] = [
        {"id": number, **one} for number, one in enumerate(truth["annotations"], 1)
        if one["image_id"] <= count]
    file = folder / "annotations" / f"instances_{part}2017.json"
    file.write_text(json.dumps(truth))
    (folder / "classes.txt").write_text("".join(f"{name}\n" for name in samples.mask_classes))


def write_scenes(folder: Path, data: ObjectData, count: int) -> None:
    """Write the first `count` scenes of every part."""
    for part in ("train", "val", "test"):
        write_part(folder, part, getattr(data, part), count)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="where to write")
    parser.add_argument("--count", type=int, default=500, metavar="N",
                        help="scenes of each part (default: %(default)s)")
    parser.add_argument("--data-dir", type=Path, metavar="D",
                        help="folder of Fashion-MNIST (default: where the Debian package puts it)")
    args = parser.parse_args()
    write_scenes(args.folder, fashion_objects(args.data_dir), args.count)
    print(f"{args.folder}: {args.count} scenes for each of train, val and test")
    return 0


if __name__ == "__main__":
    sys.exit(main())
