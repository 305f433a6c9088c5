"""model.gallery: the first pictures and the worst, and what the page says of them."""

from dataclasses import replace
import re

import numpy as np
from PIL import Image
import pytest

from model import gallery
from model.data.drawing import draw_sample
from model.data.objects import Found
from model.data.pipeline import object_batches, steps_for
from model.decode.outputs import Seen
from model.error import InputError
from model.gallery import PAGE, write_gallery
from model.metrics.dense import DenseMeasure
from tests.model.dense_nets import squares, TOY
from tests.model.metrics.test_dense import outputs_for


SAMPLES = squares(6, 0)
WRONG, MISSED = 3, 4


@pytest.fixture(scope="module")
def measure():
    """All right but for one picture whose boxes have the other class, and one without any."""
    made = DenseMeasure(SAMPLES, (4, 8), pixels=True)
    for batch in object_batches(SAMPLES, TOY, steps_for(32, train=False), batch=4):
        outputs = outputs_for(batch, (4, 8), 2)
        for i, place in enumerate(batch.places):
            if place == WRONG:
                outputs["cls4"][i] = outputs["cls4"][i, ::-1]
            if place == MISSED:
                outputs["cls4"][i] = -9
                outputs["seg"][i, 0] = 99
        made.add(batch, outputs)
    return made


def look(samples):
    """What `measure` saw: the truth, the other class, nothing."""
    found = []
    for row, place in enumerate(samples.places):
        one = samples.sample(row)
        boxes = Found(boxes=one.objects.boxes, scores=np.full(len(one.objects), 0.9),
                      classes=one.objects.classes ^ (place == WRONG))
        if place == MISSED:
            one, boxes = replace(one, mask=0 * one.mask), boxes.at_least(1)
        found.append(Seen(found=boxes, mask=one.mask))
    return found


def test_qualities(measure):
    qualities = measure.qualities(0.3)
    assert np.flatnonzero(qualities < 1).tolist() == [WRONG, MISSED]
    assert qualities[WRONG] == 0.5    # no box is right, every pixel is
    assert 0 < qualities[MISSED] < 0.25
    assert (measure.qualities(1.0) < 1).all()    # no box has a score of 1: all are missed


def test_first_and_worst(measure, tmp_path):
    write_gallery(tmp_path, {"float": measure, "integer": measure},
                  {"float": look, "integer": look}, words=["mAP <1>"], count=3)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "first-01.png", "first-02.png", "first-03.png", PAGE, "worst-01.png", "worst-02.png"]
    page = (tmp_path / PAGE).read_text()
    assert "<p>mAP &lt;1&gt;</p>" in page and "score of at least 0.3" in page
    first, worst = page.split("<h2>")[1:]
    assert first.count("quality 1.00; all right") == 3
    names = "(bright|dark)"
    lines = re.findall(r"<p>(picture .*?)<br>", worst)
    assert re.match(rf"picture {MISSED + 1}: quality 0\.\d\d; [\d.]+ % of pixels wrong, most: "
                    rf"background for {names}; {names} missed", lines[0])
    assert re.match(rf"picture {WRONG + 1}: quality 0\.50; {names} 90 for {names}", lines[1])
    # Three panels of 256 pixels side by side, with their legends.
    with Image.open(tmp_path / "first-01.png") as picture:
        assert 3 * 256 < picture.width < 1200 and 256 < picture.height < 320
    assert all(path.stat().st_size < 100_000 for path in tmp_path.iterdir())


def test_all_right(tmp_path):
    """None of the worst if none has a mistake; large pictures are reduced."""
    large = replace(SAMPLES, images=np.kron(SAMPLES.images, np.ones((1, 30, 30), np.uint8)),
                    objects=[replace(one, boxes=30 * one.boxes) for one in SAMPLES.objects],
                    masks=np.kron(SAMPLES.masks, np.ones((1, 30, 30), np.uint8)))
    made = DenseMeasure(large, (8,), pixels=True)
    for batch in object_batches(large, TOY, steps_for(32, train=False), batch=6):
        made.add(batch, outputs_for(batch, (8,), 2))

    def perfect(samples):
        return [Seen(mask=samples.sample(row).mask) for row in range(len(samples))]

    made.strides = ()
    write_gallery(tmp_path, {"integer": made}, {"integer": perfect}, count=1)
    page = (tmp_path / PAGE).read_text()
    assert "None: all are right." in page and "mean IoU" in page and "score" not in page
    with Image.open(tmp_path / "first-01.png") as picture:
        assert 800 < picture.width < 1100 and 400 < picture.height < 450


def test_the_truth_has_what_the_network_has_heads_for(measure, tmp_path, monkeypatch):
    """No masks beside those of a detector, and no boxes beside those of a segmenter."""
    drawn = []

    def draw(sample, *, boxes, **words):
        drawn.append((sample.mask is None, boxes is None))
        return draw_sample(sample, boxes=boxes, **words)

    monkeypatch.setattr(gallery, "draw_sample", draw)
    for head in ("mask", "found"):
        write_gallery(tmp_path, {"integer": measure}, {
            "integer": lambda samples, head=head: [replace(one, **{head: None})
                                                   for one in look(samples)]}, count=1)
    assert drawn[:4] == [(True, False)] * 4 and drawn[4:] == [(False, True)] * 4


def test_folders_that_cannot_be(measure, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="is a file; name a folder"):
        write_gallery(tmp_path / "file", {"integer": measure}, {"integer": look})
