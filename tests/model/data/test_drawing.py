"""model.data.drawing: colours, places and names of what is drawn."""

import numpy as np
from PIL import Image
import pytest

from model.data.drawing import colour, draw, draw_sample, LEAST_SIDE, save, sheet, zoom
from model.data.objects import Found, IGNORED, Objects, Sample
from model.error import InputError


NAMES = ("bag", "boot", "coat")


def found(boxes, classes, scores):
    return Found(boxes=np.array(boxes, float), classes=np.array(classes),
                 scores=np.array(scores, float))


def test_colours_differ():
    """The first twenty, by at least a sixteenth of the range in some channel."""
    shades = np.array([colour(place) for place in range(20)])
    far = np.abs(shades[:, None] - shades[None]).max(2)
    assert far[~np.eye(20, dtype=bool)].min() >= 16
    assert colour(0) == (230, 25, 75)


def test_box_lies_on_its_pixels():
    """Columns 3..9, rows 4..7 of 64 x 64, enlarged four times: nothing outside, two pixels wide."""
    image = np.zeros((64, 64), np.uint8)
    plain = np.asarray(draw(image))
    assert plain.shape == (256, 256, 3) and not plain.any() and zoom(image) == 4
    boxes = Objects(boxes=np.array([[3, 24, 10, 28.0]]), classes=[2])
    drawn = np.asarray(draw(image, boxes=boxes, classes=NAMES))[:256, :256]
    shade = (drawn == colour(2)).all(2)
    rows, columns = np.nonzero(shade[24 * 4:, :])
    assert (columns.min(), columns.max(), rows.max()) == (12, 39, 15)
    inner = drawn[24 * 4 + 2 : 28 * 4 - 2, 12 + 2 : 40 - 2]
    assert not inner.any() and shade[24 * 4 : 28 * 4, 12:14].all()


def test_masks_are_mixed():
    image = np.full((3, 300, 200), 100, np.uint8)
    mask = np.zeros((300, 200), np.uint8)
    mask[:10], mask[10:20] = 3, IGNORED
    picture = np.asarray(draw(image, mask=mask, mask_classes=("background", *NAMES)))
    assert zoom(image) == 1
    assert (picture[:10, :200] == np.rint((100 + np.array(colour(2))) / 2)).all()
    assert (picture[10:20, :200] == 114).all() and (picture[20:300, :200] == 100).all()


def test_legend_names_what_can_be_seen():
    image = np.zeros((64, 64), np.uint8)
    mask = np.zeros((64, 64), np.uint8)
    mask[5, 5] = 2
    picture = np.asarray(draw(image, boxes=found([[1, 1, 5, 5]], [0], [0.5]), classes=NAMES,
                              mask=mask, mask_classes=("background", *NAMES)))
    legend = picture[:, 256:]
    for place, there in enumerate((True, True, False)):
        assert (legend == colour(place)).all(2).any() == there


def test_what_is_at_the_edge_stays_in_the_picture():
    """Labels and boxes that reach over it; a box without pixels."""
    image = np.full((64, 64), 9, np.uint8)
    boxes = found([[-5, -5, 90, 90], [63, 63, 64, 64], [64, 64, 64, 64]], [0, 1, 2], [1, 0.2, 0.1])
    assert draw(image, boxes=boxes, classes=NAMES).height == 256
    crowd = Objects(boxes=np.array([[2, 2, 60, 60.0]]), classes=[1], crowd=[True])
    dashed = np.asarray(draw(image, boxes=crowd, classes=NAMES))
    share = (dashed[239, 8:240] == colour(1)).all(1).mean()
    assert 0.3 < share < 0.7


def test_the_same_again(tmp_path):
    rng = np.random.default_rng(4)
    image = rng.integers(0, 256, (3, 40, 30)).astype(np.uint8)
    mask = rng.integers(0, 4, (40, 30)).astype(np.uint8)
    boxes = found(np.sort(rng.random((5, 2, 2)), 1).reshape(5, 4) * 30, rng.integers(0, 3, 5),
                  rng.random(5))
    made = [draw(image, boxes=boxes, classes=NAMES, mask=mask,
                 mask_classes=("background", *NAMES), title="scene 3") for _ in range(2)]
    for number, one in enumerate(made):
        save(one, tmp_path / f"{number}.png")
    assert (tmp_path / "0.png").read_bytes() == (tmp_path / "1.png").read_bytes()
    assert Image.open(tmp_path / "0.png").size == made[0].size
    with pytest.raises(InputError, match="is a folder"):
        save(made[0], tmp_path)


def test_large_pictures_are_reduced():
    """300 x 600 pixels to at most 300: boxes, mask and picture alike."""
    image, mask = np.full((300, 600), 100, np.uint8), np.zeros((300, 600), np.uint8)
    mask[:20] = 3
    sample = Sample(image=image, objects=Objects.none(), mask=mask)
    boxes = found([[200, 100, 400, 200]], [2], [0.5])
    names = {"classes": NAMES, "mask_classes": ("background", *NAMES)}
    picture = np.asarray(draw_sample(sample, longest=300, boxes=boxes, **names))[:150, :300]
    rows, columns = np.nonzero((picture[60:] == colour(2)).all(2))
    assert (columns.min(), columns.max(), rows.max() + 60) == (100, 199, 99)
    assert (picture[:10, 0] != 100).any(1).all() and (picture[10:, 0] == 100).all()
    plain = np.asarray(draw_sample(sample, longest=600, boxes=boxes, **names))
    assert plain.shape[0] == 300 and plain.shape[1] > 600


def test_notes_stand_behind_names():
    image = np.zeros((64, 64), np.uint8)
    boxes = found([[8, 30, 10, 60]], [1], [0.5])
    plain, noted = (np.asarray(draw(image, boxes=boxes, classes=NAMES, notes=notes))
                    for notes in ((), ["double"]))
    wide = [(one[:, :256] == colour(1)).all(2).any(0).nonzero()[0].max() for one in (plain, noted)]
    assert wide[1] > wide[0]


def test_sheet():
    one = draw(np.zeros((LEAST_SIDE, LEAST_SIDE), np.uint8))
    two = draw(np.zeros((LEAST_SIDE, 100), np.uint8), title="x")
    made = sheet([one, two, one], 2)
    assert made.size == (2 * 260, 2 * (LEAST_SIDE + 16 + 4))
    assert made.getpixel((LEAST_SIDE + 1, 0)) == (255, 255, 255)
    assert sheet([one], 5).size == (260, 260)
    assert sheet([one], 5, "three").size == (260, 260 + 16)
