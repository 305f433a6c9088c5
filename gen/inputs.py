"""What the generator's commands share: networks by name or file, images from files or data sets."""

from importlib import resources
from pathlib import Path

import numpy as np

from model import data, zoo
from model.error import as_input_error, InputError
from model.evaluate import read_images
from model.spec import MODELS, QsdtSpec
from model.synthetic import natural_images
from model.widths import add_widths, widths


__all__ = ["add_image_options", "add_network_options", "load_images", "load_network",
           "network_words"]


PICTURES = (".png", ".jpg", ".jpeg", ".bmp")

CROP = 224 / 256
"""Side of the square that the published evaluation cuts from a photograph, over its shorter one."""


def add_network_options(parser):
    """``--model``, ``--weights``, ``--heads`` and the widths."""
    parser.add_argument("--model", metavar="NAME",
                        help=f"a network by name: {', '.join(MODELS)}. Its weights are those that "
                             f"ship with the project ({', '.join(zoo.shipped())}), else a file "
                             "NAME.qsd, NAME.pth or the published checkpoint in "
                             "$XDG_CACHE_HOME/qsdt (~/.cache/qsdt), else synthetic: timing is "
                             "real, classes are not")
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
    """``--images`` or ``--data``, ``--data-dir`` and ``--count``, for :func:`load_images`."""
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--images", metavar="X.npz|P.png|DIR",
                       help="images (image_q int8 in units of 1/48), a picture, or a folder of "
                            "them (default: the images that come with the model, else random ones)")
    group.add_argument("--data", choices=sorted(data.DATASETS), help="test split of a data set")
    parser.add_argument("--data-dir", type=Path, metavar="D",
                        help="where the data set lies if its package is not installed")
    parser.add_argument("--count", type=int, metavar="N", help="first N images only")


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
    return arguments.model or arguments.weights.stem, network


def _fit(picture, spec):
    """A PIL picture at the network's size, uint8 (H, W) or (H, W, 3).

    Photographs for a colour network as in its published evaluation: the shorter side resized
    bicubically to 256/224 of the network's, then the square in the middle. Grey networks see the
    whole picture. One that has the right size already is taken as it is.
    """
    from PIL import Image

    size = spec.image_size
    picture = picture.convert("L" if spec.in_channels == 1 else "RGB")
    if picture.size == (size, size):
        return np.asarray(picture)
    if spec.in_channels == 1:
        return np.asarray(picture.resize((size, size), Image.BILINEAR))
    short = round(size / CROP)
    width, height = (short * side // min(picture.size) for side in picture.size)
    left, top = round((width - size) / 2), round((height - size) / 2)
    return np.asarray(picture.resize((width, height), Image.BICUBIC).crop(
        (left, top, left + size, top + size)))


def _pictures(path, spec):
    """Pictures as int8 images, in file name order."""
    from PIL import Image

    files = sorted(p for p in path.iterdir() if p.suffix.lower() in PICTURES) if (
        path.is_dir()) else [path]
    if not files:
        raise InputError(f"{path} holds no pictures ({', '.join(PICTURES)})")
    pixels = []
    for file in files:
        with as_input_error(str(file)), Image.open(file) as picture:
            pixels.append(_fit(picture, spec))
    stacked = np.stack(pixels)
    return data.to_image_q(stacked if stacked.ndim == 3 else stacked.transpose(0, 3, 1, 2), spec)


def load_images(source, network, *, model=None, count=None, dataset=None, data_dir=None):
    """(image_q int8 (N, C, H, W), labels or None).

    ``source`` is an ``.npz``, a picture, a folder of pictures, or None for the test split of
    ``dataset``, else for the sample images of ``model``, else for random images as smooth as
    photographs.
    """
    spec = QsdtSpec.from_dict(network.spec)
    labels = None
    if source is not None:
        path = Path(source)
        with as_input_error():
            if path.suffix == ".npz":
                images, labels = read_images(path, channels=network.input_shape[0])
            elif path.is_dir() or path.suffix.lower() in PICTURES:
                images = _pictures(path, spec)
            else:
                raise InputError(f"{path} is neither an .npz, a picture nor a folder of them")
    elif dataset is not None:
        with as_input_error():
            split = data.DATASETS[dataset](data_dir).test
            images = data.to_image_q(split.images[:count], spec)
            labels = split.labels
    else:
        sample = resources.files("model") / "weights" / f"{model}.images.npz"
        if model is not None and sample.is_file():
            with resources.as_file(sample) as path:
                images, labels = read_images(path, channels=network.input_shape[0])
        else:
            images = natural_images(np.random.default_rng(0), count or 2, spec)
    if images.shape[1:] != network.input_shape:
        raise InputError(f"Images must be {network.input_shape}, not {images.shape[1:]}")
    if count is not None:
        if count < 1:
            raise InputError(f"Count of images must be at least 1, not {count}")
        images, labels = images[:count], None if labels is None else labels[:count]
    return images, labels
