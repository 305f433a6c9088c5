"""FAULTS row 5: EXIF orientation, 16-bit grey and alpha become the pixels that people see."""

from importlib import resources

import numpy as np
from PIL import Image
import pytest

from model import zoo
from model.data.dataset import to_image_q
from model.data.pictures import Fitting, PictureError, read_picture, read_pictures
from model.evaluate import run
from model.families.spec import spec


NANO = spec("qsdt_nano")
FITTING = Fitting.of(NANO)


@pytest.fixture(scope="module")
def samples():
    """Pixels (16, 28, 28) of the shipped samples, and the classes that nano gives them."""
    with resources.as_file(resources.files("model") / "weights/qsdt_nano.images.npz") as path:
        image_q = np.load(path)["image_q"]
    image_q = image_q[:16]
    table = to_image_q(np.arange(256, dtype=np.uint8).reshape(1, 16, 16), NANO).ravel()
    pixels = np.searchsorted(table, image_q[:, 0]).astype(np.uint8)
    np.testing.assert_array_equal(to_image_q(pixels, NANO), image_q)
    return pixels


@pytest.fixture(scope="module")
def classes(samples):
    return predicted(samples)


def predicted(pixels):
    logits = run(zoo.read("qsdt_nano"), to_image_q(pixels, NANO), "integer")["logits"]
    return logits.argmax(1).tolist()


def turned(pixels, orientation):
    """A file whose EXIF entry says that it must be turned to look like `pixels`."""
    how = {3: Image.Transpose.ROTATE_180, 6: Image.Transpose.ROTATE_90,
           8: Image.Transpose.ROTATE_270, 2: Image.Transpose.FLIP_LEFT_RIGHT}[orientation]
    picture = Image.fromarray(pixels).transpose(how)
    exif = picture.getexif()
    exif[0x0112] = orientation
    return picture, exif


@pytest.mark.parametrize("orientation", [2, 3, 6, 8])
def test_exif_orientation(tmp_path, samples, classes, orientation):
    files = [tmp_path / f"{i}.png" for i in range(16)]
    for file, pixels in zip(files, samples, strict=True):
        picture, exif = turned(pixels, orientation)
        picture.save(file, exif=exif)
    found = read_pictures(files, FITTING)
    np.testing.assert_array_equal(found, samples)
    assert predicted(found) == classes  # 16 of 16


def test_exif_of_a_jpeg_and_as_published(data_folder):
    upright = read_picture(data_folder / "base.jpg", FITTING)
    turned = read_picture(data_folder / "exif6.jpg", FITTING)
    assert np.abs(upright.astype(int) - turned).mean() < 3
    published = read_picture(data_folder / "exif6.jpg", Fitting.of(NANO, "published"))
    cropped = read_picture(data_folder / "base.jpg", Fitting.of(NANO, "crop"))
    assert np.abs(np.rot90(cropped).astype(int) - published).mean() < 3


def test_16_bit_grey(tmp_path, samples, classes):
    files = [tmp_path / f"{i}.{'png' if i % 2 else 'tif'}" for i in range(16)]
    for file, pixels in zip(files, samples, strict=True):
        Image.fromarray(pixels.astype(np.uint16) * 257).save(file)
    found = read_pictures(files, FITTING)
    np.testing.assert_array_equal(found, samples)
    assert predicted(found) == classes


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_white_item_on_alpha(tmp_path, samples, classes, mode):
    files = [tmp_path / f"{i}.png" for i in range(16)]
    for file, pixels in zip(files, samples, strict=True):
        white = np.full((*pixels.shape, len(mode)), 255, np.uint8)
        white[:, :, -1] = pixels
        Image.fromarray(white, mode=None).save(file)
    found = read_pictures(files, FITTING)
    np.testing.assert_array_equal(found, samples)
    assert predicted(found) == classes


def test_black_item_needs_another_background_and_says_so(data_folder):
    for name in ("blackglyph_rgba.png", "la.png"):
        with pytest.raises(PictureError, match=f"{name}: nothing is left .* --background"):
            read_picture(data_folder / name, FITTING)
        shown = read_picture(data_folder / name, Fitting.of(NANO, background="white"))
        assert np.ptp(shown) > 100


def test_palette_with_transparency(tmp_path):
    picture = Image.new("P", (28, 28), 0)
    picture.putpalette([255, 255, 255, 90, 90, 90])
    picture.paste(1, (4, 4, 20, 20))
    picture.save(tmp_path / "p.gif", transparency=0)
    found = read_picture(tmp_path / "p.gif", FITTING)
    assert found[0, 0] == 0 and found[10, 10] == 90


def test_32_bits_are_refused(tmp_path):
    Image.fromarray(np.ones((28, 28), np.float32)).save(tmp_path / "f.tif")
    with pytest.raises(PictureError, match=r"f.tif: has 32 bits a pixel"):
        read_picture(tmp_path / "f.tif", FITTING)


@pytest.mark.parametrize("fit", ["auto", "crop", "letterbox", "stretch", "published"])
@pytest.mark.parametrize("channels", [1, 3])
def test_every_fit_gives_the_square(tmp_path, fit, channels):
    ramp = np.linspace(10, 250, 60).astype(np.uint8)[None].repeat(30, 0)
    Image.fromarray(ramp).save(tmp_path / "a.png")
    fitting = Fitting(size=32, channels=channels, fit=fit, background="black")
    found = read_picture(tmp_path / "a.png", fitting)
    assert found.shape == ((32, 32) if channels == 1 else (32, 32, 3))
    grey = found if channels == 1 else found[:, :, 0]
    assert (grey[0, 16] == 0) == (fit == "letterbox")
    spread = int(grey[16, -1]) - int(grey[16, 0])
    whole = fit in ("letterbox", "stretch") or (fit == "auto" and channels == 1)
    assert (spread > 200) == whole


@pytest.mark.parametrize("name, short", [("qsdt_t", 256), ("sdt_v3_s", 232)])
def test_the_published_crop_is_the_family_s(tmp_path, name, short):
    """Resized to 256 or 232 and cut to 224, as the published evaluation of each does."""
    pixels = np.random.default_rng(0).integers(0, 256, (300, 400, 3), np.uint8)
    picture = Image.fromarray(pixels)
    picture.save(tmp_path / "a.png")
    wide = picture.resize((short * 400 // 300, short), Image.Resampling.BICUBIC)
    left, top = round((wide.width - 224) / 2), round((short - 224) / 2)
    want = np.asarray(wide.crop((left, top, left + 224, top + 224)))
    for fit in ("auto", "published"):
        found = read_picture(tmp_path / "a.png", Fitting.of(spec(name), fit))
        np.testing.assert_array_equal(found, want)


@pytest.mark.parametrize("options, message", [
    (dict(fit="zoom"), "fit must be one of auto, crop, letterbox, stretch, published, not zoom"),
    (dict(background="nocolour"), "background must be a colour .* not nocolour"),
    (dict(channels=4), "pictures have 1 or 3 channels, but the network takes 4"),
])
def test_options_are_checked(options, message):
    with pytest.raises(ValueError, match=message):
        Fitting(**{"size": 28, "channels": 1} | options)
