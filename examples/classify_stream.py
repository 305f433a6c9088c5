"""Classes from a board, from Python: ``python examples/classify_stream.py --port /dev/ttyUSB0``.

Opens one board or several, classifies a batch, then a stream of batches whose results come while
the next ones are prepared. ``--board iss`` needs no board (the instruction-set simulator), nor
does ``--board virtual`` (the RTL in Verilator; its first start compiles for some minutes). The
board must have the bitstream of ``qsdt build --board ulx3s-85f --model qsdt_nano``.
"""

import argparse
import sys

import numpy as np

from gen.accelerator import Accelerator, Pool
from gen.api import samples
from model.command import main


def _parser():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--board", default="ulx3s-85f", metavar="NAME",
                        help="or virtual, or iss (default: %(default)s)")
    parser.add_argument("--port", action="append", default=[], metavar="P",
                        help="serial port of the board; several share the work")
    parser.add_argument("--count", type=int, default=4, metavar="N", help="images")
    return parser


def _open(arguments):
    if len(arguments.port) > 1:
        return Pool.open(board=arguments.board, model="qsdt_nano", ports=arguments.port)
    return Accelerator.open(board=arguments.board, model="qsdt_nano",
                            port=arguments.port[0] if arguments.port else None, retries=1)


def _run(arguments):
    images, labels = samples("qsdt_nano")
    images, labels = images[:arguments.count], labels[:arguments.count]
    with _open(arguments) as found:
        classes = found.classify(images)
        print(f"a batch of {len(classes)}: {int((classes == labels).sum())} as labelled")

        batches = np.array_split(images, 2)
        for number, result in enumerate(found.stream(batches)):
            print(f"batch {number}: classes {result.classes.tolist()}")

        future = found.submit(images[:1])
        print(f"submitted: class {future.result().classes[0]}")


if __name__ == "__main__":
    sys.exit(main(_run, _parser()))
