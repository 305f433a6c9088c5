"""What the generator's commands share: networks by name or file, images from files or data sets."""

from dataclasses import dataclass, replace
from importlib import resources
import logging
from pathlib import Path

import numpy as np

from boards import NAMES
from gen.api import VIRTUAL
from gen.check.simulate import reported
from gen.device.flash import find_loader
from gen.device.port import check_port
from gen.flow.bitstream import bitstream_idcode
from model import zoo
from model.command import called, require
from model.data import dataset as data
from model.data import options as datasets
from model.data import pictures
from model.data.object_files import ObjectFile, ObjectFiles
from model.data.object_options import OBJECT_DATA_HELP, read_objects
from model.data.objects import Objects, Samples
from model.data.pipeline import object_batches, Placed, steps_for
from model.dense_evaluation import check_classes, class_names
from model.error import as_input_error, InputError
from model.evaluate import read_images
from model.families.spec import from_dict, MODELS
from model.families.spec_file import is_spec_file
from model.integer.synthetic import natural_images
from model.integer.widths import add_widths, widths
from sim.rtl.verilator import require_tools, SIMULATORS


__all__ = ["InputImages", "add_device_options", "add_image_options", "add_network_options",
           "check_way", "load_images", "load_network", "network_words"]


log = logging.getLogger(__name__)


def add_network_options(parser, default=None):
    """``--model``, ``--weights``, ``--heads`` and the widths; ``default`` says what is taken where
    neither of the first two is given."""
    parser.add_argument("--model", metavar="NAME",
                        help=f"a network by name: {', '.join(MODELS)}. Its weights are those that "
                             f"ship with the project ({', '.join(zoo.shipped())}), else a file "
                             "NAME.qsd, NAME.pth or the published checkpoint in "
                             "$XDG_CACHE_HOME/qsdt (~/.cache/qsdt), else synthetic: timing is "
                             "real, classes are not. Or a spec of one's own (F.yaml, such as "
                             "small_grey.yaml)"
                             + (f" (default: {default})" if default else ""))
    parser.add_argument("--weights", type=Path, metavar="F",
                        help="an exported network (.qsd) or a published checkpoint (.pth)")
    parser.add_argument("--heads", type=int, metavar="H",
                        help="attention heads of a .pth checkpoint")
    add_widths(parser)


def network_words(arguments):
    """Words that name the same network and configuration to another command."""
    given = (("--model", arguments.model), ("--weights", arguments.weights),
             ("--heads", arguments.heads), ("--config", arguments.config))
    return [word for option, value in given if value is not None for word in (option, value)]


def add_image_options(parser):
    """``--images`` or ``--data``, how to read them, and ``--count``, for :func:`load_images`."""
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--images", metavar="X.npz|P.png|DIR",
                       help="images (image_q int8 in units of 1/48), a picture, or a folder of "
                            f"them ({', '.join(pictures.SUFFIXES)}; names that begin with a dot "
                            "are passed over, a2 comes before a10; of several frames the first) "
                            "(default: the images that come with the model, else random ones)")
    group.add_argument("--data", metavar="NAME",
                       help=f"test images of a data set: {datasets.DATA_HELP}; of a network with "
                            f"heads for boxes or pixels: {OBJECT_DATA_HELP}")
    datasets.add_data_options(parser)
    parser.add_argument("--count", type=int, metavar="N", help="first N images only")


def add_device_options(parser):
    """``--board``, the way to it, and what it was built with."""
    parser.add_argument("--board", required=True, metavar="NAME", help=f"virtual, or {NAMES}")
    parser.add_argument("--port", metavar="P",
                        help="serial port of the board, e.g. /dev/ttyUSB0 (or socket://host:port)")
    parser.add_argument("--program", action="store_true",
                        help="load the bitstream of the build folder first (openFPGALoader)")
    parser.add_argument("--build", type=Path, metavar="DIR",
                        help="build folder with the bitstream, which the board must then have "
                             "(default: build/<board>-<model>)")
    parser.add_argument("--config", metavar="C.yaml", help="the overrides the board was built with")
    parser.add_argument("--cache", default=SIMULATORS, type=Path, metavar="DIR",
                        help="compiled simulators (default: %(default)s)")


def check_way(arguments, bitstream, *, fed=False):
    """Raise what is wrong with the way to the device, before anything that takes long.

    ``arguments`` are those of :func:`add_device_options`, ``bitstream`` the path of ``top.bit``. A
    board that is ``fed`` by a meter has no port yet.
    """
    if arguments.board == VIRTUAL:
        if arguments.port or arguments.program:
            raise InputError("--port and --program are for real boards")
        with reported():
            require_tools()
        return
    if arguments.port is None or not fed:
        check_port(arguments.port)
    if arguments.program:
        if not bitstream.is_file():
            words = " ".join(map(str, ["--board", arguments.board, *network_words(arguments)]))
            raise InputError(f"{bitstream}: there is no bitstream; make it with: "
                             f"{called('gen.build')} {words}")
        bitstream_idcode(bitstream)
        find_loader()


def load_network(arguments):
    """(name, IntegerNetwork) of the parsed options.

    Raises
    ------
    InputError
        Naming the cause; unknown names list the known ones.
    """
    if arguments.model is None and arguments.weights is None:
        raise InputError(f"Name a network: --model ({', '.join(MODELS)}) or --weights F")
    with as_input_error():
        found = zoo.read(arguments.model, arguments.weights, arguments.heads)
        network = zoo.network(found, params=widths(arguments, found.params))
    if arguments.model is None:
        return arguments.weights.stem, network
    return Path(arguments.model).stem if is_spec_file(arguments.model) else arguments.model, network


@dataclass(frozen=True)
class InputImages:
    """Images for a network: ``image_q`` int8 (N, C, H, W), or samples (N, T, C, H, W) of T images,
    ``labels`` (N,) or None, and the names of the ``files`` that they come from, none for others.

    Of pictures for a network with heads for boxes or pixels ``samples`` are the pictures as they
    were, with what is true of them if it is known, and ``placed`` how each was fitted."""

    image_q: np.ndarray
    labels: np.ndarray | None = None
    files: tuple[str, ...] = ()
    samples: Samples | None = None
    placed: tuple[Placed, ...] = ()

    def first(self, count):
        """The first ``count`` of them, all if it is None."""
        return replace(self, image_q=self.image_q[:count], files=self.files[:count],
                       labels=None if self.labels is None else self.labels[:count],
                       placed=self.placed[:count])


def _files(path, count):
    """The first ``count`` pictures of a folder, in natural order of their names, or the one."""
    files = [path]
    if path.is_dir():
        files, skipped = pictures.list_pictures(path)
        if not files:
            raise InputError(f"{path}: holds no pictures ({', '.join(pictures.SUFFIXES)}); name "
                             f"another folder")
        if skipped:
            log.info("%s: %d entries that are not pictures were skipped", path, skipped)
    return files[:count]


def _read(path, network, spec, count, fit, background):
    """The pictures of a folder, or the one, fitted for the network."""
    require("PIL", what="reads pictures")
    if spec.dense_heads is not None:
        fitting = _whole(network, spec, fit, background)
        classes, mask_classes = class_names(spec, network.info)
        return _dense(ObjectFiles(
            files=[ObjectFile(file=file, name=file.name, image_id=number, objects=Objects.none())
                   for number, file in enumerate(_files(path, count), 1)],
            fitting=fitting, classes=classes, mask_classes=mask_classes,
            category_ids=range(1, len(classes) + 1)), spec)
    fitting = datasets.fitting_for(spec, fit, background, network.info)
    files = _files(path, count)
    pixels = pictures.read_pictures(files, fitting)
    return InputImages(data.to_image_q(pixels, spec), files=tuple(file.name for file in files))


def _whole(network, spec, fit, background):
    """What is known of pictures that stay whole: their channels and background."""
    if fit is not None:
        raise InputError("--fit is for classes of images; a network for boxes or pixels sees the "
                         "whole picture: leave it out")
    return datasets.fitting_for(spec, None, background, network.info)


def _objects(name, network, spec, count, data_dir, fit, background):
    """Test pictures of data with boxes or masks."""
    heads, fitting = spec.dense_heads, _whole(network, spec, fit, background)
    samples = read_objects(name, spec, data_dir=data_dir, background=fitting.background,
                           masks=heads.segmenter is not None).first(count).test
    check_classes(spec, network.info, samples, name)
    return _dense(samples, spec)


def _dense(samples, spec):
    batch = next(object_batches(samples, spec, steps_for(spec.image_size, train=False),
                                batch=len(samples)))
    files = tuple(one.sample.name for one in batch.placed)
    return InputImages(batch.image_q, files=files if all(files) else (), samples=samples,
                       placed=batch.placed)


def load_images(source, network, *, model=None, count=None, dataset=None, data_dir=None,
                fit=None, background=None):
    """:class:`InputImages` for a network, at most ``count``.

    ``source`` is an ``.npz``, a picture, a folder of pictures, or None for the test part of
    ``dataset``, else for the sample images of ``model``, else for random images as smooth as
    photographs. ``fit`` and ``background`` of pictures are by default what the network keeps of
    its training; a network with heads for boxes or pixels gets whole pictures, in their
    proportions, with bars right and below. For a network that takes T images a result, single ones
    are repeated.
    """
    if count is not None and count < 1:
        raise InputError(f"Count of images must be at least 1, not {count}")
    spec = from_dict(network.spec)
    if source is not None:
        path = Path(source)
        with as_input_error():
            if path.suffix == ".npz":
                found = InputImages(*read_images(path, channels=network.input_shape[-3]))
            elif path.is_dir() or path.suffix.lower() in pictures.SUFFIXES:
                found = _read(path, network, spec, count, fit, background)
            else:
                raise InputError(f"{path}: is neither an .npz, a picture nor a folder of them; "
                                 f"name one of these")
    elif dataset is not None and spec.dense_heads is not None:
        with as_input_error():
            found = _objects(dataset, network, spec, count, data_dir, fit, background)
    elif dataset is not None:
        with as_input_error():
            split = datasets.read_split(dataset, "test", spec, data_dir=data_dir, count=count,
                                        fit=fit, background=background, known=network.info)
            found = InputImages(data.to_image_q(split.images, spec), split.labels, split.files)
    else:
        sample = resources.files("model") / "weights" / f"{model}.images.npz"
        if model is not None and sample.is_file():
            with resources.as_file(sample) as path:
                found = InputImages(*read_images(path, channels=network.input_shape[-3]))
        else:
            images = natural_images(np.random.default_rng(0),
                                    (count or 2) * network.time_steps, spec)
            found = InputImages(images.reshape(-1, *network.input_shape))
    found = found.first(count)
    if network.time_steps > 1 and found.image_q.ndim == 4:    # a single image is repeated
        found = replace(found, image_q=np.repeat(found.image_q[:, None], network.time_steps, 1))
    if found.image_q.shape[1:] != network.input_shape:
        raise InputError(f"Images must be {network.input_shape}, not {found.image_q.shape[1:]}")
    return found
