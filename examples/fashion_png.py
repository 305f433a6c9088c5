"""Write Fashion-MNIST as PNG files in folders of classes: an own data set to practise with.

``python examples/fashion_png.py pictures`` makes ``pictures/train/0_t-shirt/00000.png`` and so on,
55,000 files for training, 5,000 for validation and 10,000 for the test. The number in front of a
class keeps the published order of labels, that of a file the order of the data set.
"""

import argparse
from pathlib import Path
import sys

from PIL import Image

from model.data.mnist import fashion_mnist


CLASSES = ("0_t-shirt", "1_trouser", "2_pullover", "3_dress", "4_coat", "5_sandal", "6_shirt",
           "7_sneaker", "8_bag", "9_ankle-boot")


def write_pictures(folder: Path, data_dir: Path | None = None, *, count: int | None = None,
                   classes: int = len(CLASSES)) -> int:
    """Write at most `count` pictures of each of the first `classes` classes of every part.

    Returns how many were written in all.
    """
    data, total = fashion_mnist(data_dir), 0
    for part in ("train", "val", "test"):
        split = getattr(data, part)
        written = [0] * classes
        for name in CLASSES[:classes]:
            (folder / part / name).mkdir(parents=True, exist_ok=True)
        for index, (pixels, label) in enumerate(zip(split.images, split.labels, strict=True)):
            if label < classes and (count is None or written[label] < count):
                Image.fromarray(pixels).save(folder / part / CLASSES[label] / f"{index:05}.png")
                written[label] += 1
        total += sum(written)
    return total


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="where to write")
    parser.add_argument("--count", type=int, metavar="N", help="at most N pictures of each class "
                        "and part (default: all)")
    parser.add_argument("--classes", type=int, default=len(CLASSES), metavar="C",
                        help="the first C classes only (default: %(default)s)")
    parser.add_argument("--data-dir", type=Path, metavar="D",
                        help="folder of the data set (default: where the Debian package puts it)")
    args = parser.parse_args()
    total = write_pictures(args.folder, args.data_dir, count=args.count, classes=args.classes)
    print(f"{args.folder}: {total} pictures")
    return 0


if __name__ == "__main__":
    sys.exit(main())
