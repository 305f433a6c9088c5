"""Pictures (PNG, JPEG, ...) as the pixels that a network receives. Needs Pillow.

A picture is stood upright as its EXIF entry says, a transparent one is laid on a background, 16
bits are cut to the upper 8, and the rest is fitted to the network's square as `Fitting` says.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
import re
from typing import TYPE_CHECKING
import warnings

import numpy as np
from numpy.typing import NDArray

from model.data.on_demand import in_memory, on_demand, spread
from model.families.base import NetworkSpec


if TYPE_CHECKING:
    from PIL.Image import Image


SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".gif")

_FORMATS = ("PNG", "JPEG", "MPO", "BMP", "WEBP", "TIFF", "GIF")
"""What Pillow may decode, whatever the name says; others of its decoders start programs."""

PIXELS_MAX = 1 << 26
"""Pixels of one picture: more than any common camera makes, and 0.8 GB in the widest form here."""

ASPECT_MAX = 64
"""Longer over shorter side. Narrower ones have no square that shows anything, and the resized
picture would need many times the memory of the file's."""

CROP = 224 / 256
"""Side of the square that the published evaluation cuts from a photograph, over its shorter one;
families may have another (`model.families.base.NetworkSpec.crop`)."""

FITS = {
    "auto": "crop for a colour network, stretch for a grey one; a picture that has the network's "
            "size is taken as it is",
    "crop": "the shorter side resized bicubically to 256/224 of the network's, or 232/224 for an "
            "SDT-v3, then the square in the middle",
    "letterbox": "the whole picture in its proportions, with bars of the background",
    "stretch": "the whole picture, stretched to the square",
    "published": "crop as in the published evaluation: EXIF orientation and transparency are "
                 "ignored and 16 bits are clipped, as there",
}
"""Ways to fit a picture into the network's square, and what each does."""


class PictureError(ValueError):
    """A picture cannot be used; the message names the file, the cause and what to do."""


@dataclass(frozen=True, kw_only=True)
class Fitting:
    """How pictures become squares.

    size, the side in pixels; channels, 1 (grey) or 3 (RGB); fit, one of `FITS`; background, a
    colour name or ``#rrggbb``, for transparent pictures and for the bars of a letterbox. Black is
    the default because it is pixel 0, with which training fills what comes in from outside. crop is
    the share of the shorter side that the middle square of `size` is cut from.

    Raises ValueError if a value is none of these.
    """

    size: int
    channels: int
    fit: str = "auto"
    background: str = "black"
    crop: float = CROP

    def __post_init__(self) -> None:
        if self.channels not in (1, 3):
            raise ValueError(
                f"pictures have 1 or 3 channels, but the network takes {self.channels}: give an "
                ".npz file"
            )
        if self.fit not in FITS:
            raise ValueError(f"fit must be one of {', '.join(FITS)}, not {self.fit}")
        from PIL import ImageColor

        try:
            ImageColor.getrgb(self.background)
        except ValueError:
            raise ValueError(
                f"background must be a colour such as black, white or #ff8000, "
                f"not {self.background[:40]}"
            ) from None

    @classmethod
    def of(cls, spec: NetworkSpec, fit: str = "auto", background: str = "black") -> "Fitting":
        """The fitting for the images of `spec`."""
        return cls(size=spec.image_size, channels=spec.in_channels, fit=fit, background=background,
                   crop=spec.crop)


def natural_order(name: str) -> tuple[tuple[int, str], ...]:
    """Sort key in which a2 comes before a10, and then the name itself."""
    parts = re.findall(r"[0-9]{1,18}|[^0-9]+", name)
    key = tuple((int(part), "") if part.isdecimal() else (-1, part) for part in parts)
    return (*key, (-2, name))


def list_pictures(folder: Path, suffixes: Sequence[str] = SUFFIXES) -> tuple[list[Path], int]:
    """Files of a folder that have a picture's suffix, or one of others, in natural order, and how
    many other entries there are. Names that begin with a dot are passed over and not counted."""
    entries = [entry for entry in folder.iterdir() if not entry.name.startswith(".")]
    files = [p for p in entries if p.suffix.lower() in suffixes and p.is_file()]
    return sorted(files, key=lambda p: natural_order(p.name)), len(entries) - len(files)


def read_pictures(files: Sequence[Path], fitting: Fitting) -> NDArray[np.uint8]:
    """Decode and fit: (N, H, W) of a grey network, (N, 3, H, W) of a colour one.

    Raises PictureError naming the file, or ValueError if all together are too large.
    """
    return in_memory(pictures_on_demand(files, fitting))


def pictures_on_demand(files: Sequence[Path], fitting: Fitting) -> NDArray[np.uint8]:
    """What `read_pictures` returns, decoded when it is indexed (`model.data.on_demand`)."""
    def read(file: Path) -> NDArray[np.uint8]:
        picture = read_picture(file, fitting)
        return picture if picture.ndim == 2 else picture.transpose(2, 0, 1)

    side = fitting.size
    shape = (side, side) if fitting.channels == 1 else (3, side, side)
    return on_demand(files, shape, partial(spread, read), what=("decode", "pictures"), together=1)


def read_picture(file: Path, fitting: Fitting) -> NDArray[np.uint8]:
    """One picture, uint8 (H, W) in grey or (H, W, 3) in colour. Raises PictureError or OSError."""
    return _decoded(file, lambda picture: _fitted(_prepared(picture, fitting), fitting))


def read_whole(file: Path, fitting: Fitting) -> NDArray[np.uint8]:
    """A picture in its own size, uint8 (H, W) in grey or (3, H, W) in colour, upright and opaque;
    of `fitting` only channels and background matter. Raises PictureError or OSError."""
    pixels = _decoded(file, lambda picture: np.asarray(_prepared(picture, fitting)))
    return pixels if pixels.ndim == 2 else pixels.transpose(2, 0, 1)


def read_numbers(file: Path) -> NDArray[np.integer]:
    """The numbers (H, W) of a picture of one channel, those of a palette's colours among them.

    Raises PictureError, also if it has several channels, or OSError.
    """
    def numbers(picture: "Image") -> NDArray:
        if picture.mode not in ("1", "L", "P", "I", "I;16", "I;16B"):
            raise PictureError(f"has pixels of mode {picture.mode}, not one number each; save it "
                               "in grey or with a palette")
        return np.asarray(picture)

    found = _decoded(file, numbers)
    return found.astype(np.uint8) if found.dtype == bool else found


def _decoded(file: Path, use: Callable[["Image"], NDArray]) -> NDArray:
    """What `use` makes of the picture in a file. Raises PictureError or OSError."""
    from PIL import Image

    with open(file, "rb") as stream:  # the system's own errors first: no such file, no right
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # about what is checked here, and odd metadata
                Image.init()  # all decoders: without, those that are not loaded yet are unknown
                formats = [name for name in _FORMATS if name in Image.OPEN]
                with Image.open(stream, formats=formats) as picture:
                    _check_size(picture.size)
                    return use(picture)
        except PictureError as error:
            raise PictureError(f"{file}: {error}") from None
        except Image.DecompressionBombError:
            raise PictureError(f"{file}: {_TOO_LARGE}") from None
        except Image.UnidentifiedImageError:
            raise PictureError(
                f"{file}: is not a picture ({', '.join(_FORMATS)}); remove it or save it anew"
            ) from None
        except MemoryError:
            raise PictureError(f"{file}: needs too much memory; make it smaller") from None
        except Exception as error:  # damaged bytes can raise anything inside the decoders
            cause = f"{type(error).__name__} {error}".strip().splitlines()[0][:200]
            raise PictureError(
                f"{file}: a damaged picture ({cause}); remove it or save it anew"
            ) from None


_TOO_LARGE = f"more than {PIXELS_MAX:,} pixels; make it smaller"


def _check_size(size: tuple[int, int]) -> None:
    """Refuse by the header alone what would take long or much memory."""
    if min(size) < 1:
        raise PictureError(f"has no pixels ({size[0]}x{size[1]}); remove it")
    if max(size) > ASPECT_MAX * min(size):
        raise PictureError(
            f"{size[0]}x{size[1]} pixels, one side over {ASPECT_MAX} times the other; cut it"
        )
    if size[0] * size[1] > PIXELS_MAX:
        raise PictureError(_TOO_LARGE)


def _prepared(picture: "Image", fitting: Fitting) -> "Image":
    """Upright, opaque, of 8 bits, in mode L or RGB."""
    from PIL import Image, ImageOps

    mode = "L" if fitting.channels == 1 else "RGB"
    if fitting.fit == "published":
        return picture.convert(mode)
    kind, transparent = picture.format, picture.has_transparency_data
    picture.load()
    picture = ImageOps.exif_transpose(picture)
    if picture.mode.startswith("I;16") or (picture.mode == "I" and kind == "PNG"):
        if transparent:
            raise PictureError("16-bit grey with a transparent value; save it without")
        picture = Image.fromarray((np.asarray(picture).astype(np.int64) >> 8).astype(np.uint8))
    elif picture.mode in ("I", "F"):
        raise PictureError("has 32 bits a pixel, whose range nobody states; save it with 8 or 16")
    if transparent:
        picture = _opaque(picture.convert("RGBA"), fitting.background)
    return picture.convert(mode)


def _opaque(picture: "Image", background: str) -> "Image":
    from PIL import Image

    flat = Image.new("RGBA", picture.size, background)
    flat.alpha_composite(picture)
    pixels, alpha = np.asarray(flat), np.asarray(picture.getchannel("A"))
    constant = bool((pixels == pixels[0, 0]).all())
    low, high = alpha.min(), alpha.max()
    if constant and low != high:
        raise PictureError(
            f"nothing is left of it on a background of {background}; choose another with "
            "--background"
        )
    return flat


def _fitted(picture: "Image", fitting: Fitting) -> NDArray[np.uint8]:
    from PIL import Image

    size, fit = fitting.size, fitting.fit
    smooth = Image.Resampling.BILINEAR if fitting.channels == 1 else Image.Resampling.BICUBIC
    if fit == "auto":
        if picture.size == (size, size):
            return np.asarray(picture)
        fit = "stretch" if fitting.channels == 1 else "crop"
    if fit == "stretch":
        return np.asarray(picture.resize((size, size), smooth))
    if fit == "letterbox":
        longer = max(picture.size)
        width, height = (max(1, round(size * side / longer)) for side in picture.size)
        square = Image.new("RGB", (size, size), fitting.background).convert(picture.mode)
        square.paste(
            picture.resize((width, height), smooth), ((size - width) // 2, (size - height) // 2)
        )
        return np.asarray(square)
    short = round(size / fitting.crop)
    width, height = (short * side // min(picture.size) for side in picture.size)
    left, top = round((width - size) / 2), round((height - size) / 2)
    return np.asarray(
        picture.resize((width, height), Image.Resampling.BICUBIC).crop(
            (left, top, left + size, top + size)
        )
    )
