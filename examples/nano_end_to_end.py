"""From a network to classes, from Python: ``python examples/nano_end_to_end.py``.

Writes the network as a portable file, derives an accelerator for an ULX3S, compares two forms of
the network on the images that come with it, predicts the speed, and classifies the images with
the instruction-set simulator. With ``--virtual`` the last step is the accelerator's RTL in
Verilator, behind the same link as a board's (a compiler is needed, and some minutes). Takes a
minute at most, writes to the folder given by ``--out``, and needs no package beside the project's
own.
"""

import argparse
from pathlib import Path
import sys

from gen import api
from model.progress import show_on


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("build/example"), metavar="DIR")
    parser.add_argument("--count", type=int, default=2, metavar="N", help="images")
    parser.add_argument("--virtual", action="store_true", help="run on the virtual board too")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)

    # A network by name, and as a file that anybody can read without torch.
    file = api.convert("qsdt_nano", arguments.out / "nano.qsd")
    network = api.load(weights=file)
    images, labels = api.samples("qsdt_nano")
    images, labels = images[:arguments.count], labels[:arguments.count]

    # The accelerator for a board, here with the SDRAM as memory.
    design = api.configure(network, board="ulx3s-85f", name="nano",
                           overrides={"memory": "sdram"})
    print(design.config.describe())

    # The integer model and the instruction-set simulator compute the same, word for word.
    for line in api.verify(design, images, forms=("integer", "iss")).lines:
        print(line)

    # How fast it would be; until="bitstream" synthesises and routes as well, for some minutes.
    report, path = api.build(design, folder=arguments.out / "build", until="config")
    print(f"{path}: {report['images_per_s']['value']:.0f} images/s predicted")

    # Classes, from the program image as a board gets it.
    result = api.run(design, images, device="virtual" if arguments.virtual else "iss")
    for number, (found, label) in enumerate(zip(result.classes, labels, strict=True)):
        print(f"image {number}: class {found}, label {label}")


if __name__ == "__main__":
    with show_on(sys.stderr):
        main()
