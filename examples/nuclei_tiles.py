"""Cut the one picture of nuclei that comes with stardist into tiles in ADE20K's layout.

    pip download --no-deps stardist==0.9.2 && unzip stardist-*.whl 'stardist/data/images/*'
    python examples/nuclei_tiles.py nuclei stardist/data/images

The left half is for training, the right one for the test: one picture shows that a program runs,
nothing more. The picture is of the Data Science Bowl 2018.
"""

import argparse
from pathlib import Path
import sys

import numpy as np
from PIL import Image


def write_tiles(folder: Path, images: Path, side: int = 64) -> dict[str, int]:
    """Write tiles of ``img2d.tif`` and masks of ``mask2d.tif``, whose numbers above 0 are nuclei.

    Grey levels are multiplied so that the 99th of a hundred is 255. Returns how many tiles each
    part has.
    """
    picture, nuclei = (np.asarray(Image.open(images / name)) for name in
                       ("img2d.tif", "mask2d.tif"))
    bright = np.clip(picture * (255 / np.percentile(picture, 99)), 0, 255).astype(np.uint8)
    masks = (nuclei > 0).astype(np.uint8)
    height, width = masks.shape
    counts = {}
    for part, start in (("train", 0), ("test", width // 2)):
        for kind, pixels in (("images", bright), ("annotations", masks)):
            place = folder / kind / part
            place.mkdir(parents=True, exist_ok=True)
            tiles = [(top, left) for top in range(0, height - side + 1, side)
                     for left in range(start, start + width // 2 - side + 1, side)]
            for top, left in tiles:
                Image.fromarray(pixels[top:top + side, left:left + side]).save(
                    place / f"{top}_{left}.png")
        counts[part] = len(tiles)
    (folder / "classes.txt").write_text("background\nnucleus\n")
    return counts


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="where to write")
    parser.add_argument("images", type=Path, help="folder of img2d.tif and mask2d.tif")
    parser.add_argument("--side", type=int, default=64, metavar="PIXELS",
                        help="of a tile (default: %(default)s)")
    args = parser.parse_args()
    for part, count in write_tiles(args.folder, args.images, args.side).items():
        print(f"{args.folder}: {count} tiles for {part}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
