"""Outputs of heads measured: perfect ones have figures of 1, silent ones of background alone."""

import numpy as np
import pytest

from model.data.pipeline import object_batches, steps_for
from model.families.spec import MODELS
from model.metrics.dense import DenseMeasure, FIGURES
from tests.model.dense_nets import squares, TOY


def outputs_for(batch, strides, classes):
    """Logits and masks that say the truth: a box at the place nearest to its centre, on the finest
    map."""
    side = batch.image_q.shape[-1]
    outputs = {}
    for s in strides:
        outputs[f"cls{s}"] = np.full((len(batch.objects), classes, side // s, side // s), -9.0)
        outputs[f"reg{s}"] = np.full((len(batch.objects), 5, side // s, side // s), -9.0)
    s = strides[0]
    for i, one in enumerate(batch.objects):
        for (left, top, right, bottom), kind in zip(one.boxes, one.classes, strict=True):
            x, y = int((left + right) / 2 / s), int((top + bottom) / 2 / s)
            at = (x + 0.5) * s, (y + 0.5) * s
            outputs[f"cls{s}"][i, kind, y, x] = 9
            sides = np.array([at[0] - left, at[1] - top, right - at[0], bottom - at[1]])
            outputs[f"reg{s}"][i, :, y, x] = [*np.log(sides / s), 9]
    seg = (batch.masks[:, None] == np.arange(classes + 1)[:, None, None]) * 8.0
    return outputs | {"seg": seg}


@pytest.mark.parametrize("strides", [(4, 8), (8, 16)])
def test_perfect_and_silent(strides):
    samples = squares(12, 0)
    perfect, silent = (DenseMeasure(samples, strides, pixels=True) for _ in range(2))
    for batch in object_batches(samples, TOY, steps_for(32, train=False), batch=5):
        outputs = outputs_for(batch, strides, 2)
        perfect.add(batch, outputs)
        silent.add(batch, {name: 0 * value + (name == "seg") * np.array([1, 0, 0])[:, None, None]
                           if name == "seg" else 0 * value - 9 for name, value in outputs.items()})
    made = perfect.figures()
    assert set(made) <= set(FIGURES) and len(perfect.found) == 12
    assert made["map50"] == pytest.approx(1) and made["miou"] == 1 == made["pixel_acc"]
    assert made["map_small"] == pytest.approx(1) and np.isnan(made["map_medium"])
    nothing = silent.figures()
    assert nothing["map50"] == 0 and 0.2 < nothing["miou"] < 0.34


def test_one_head_alone():
    samples = squares(4, 0)
    for strides, pixels, names in (((8,), False, "map50"), ((), True, "miou")):
        measure = DenseMeasure(samples, strides, pixels=pixels)
        for batch in object_batches(samples, TOY, (), batch=4):
            measure.add(batch, outputs_for(batch, (8,), 2))
        assert names in measure.figures() and (measure.precision is None) == pixels


def test_what_is_not_finite_is_refused():
    samples = squares(2, 0)
    batch = next(object_batches(samples, MODELS["qsdt_s"].changed(image_size=32), (), batch=2))
    outputs = outputs_for(batch, (8,), 2)
    outputs["cls8"][0, 0, 0, 0] = np.nan
    with pytest.raises(ValueError, match="values of map 0 must be finite"):
        DenseMeasure(samples, (8,), pixels=False).add(batch, outputs)
