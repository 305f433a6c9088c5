"""The published detector as a whole, where it looks, and its second defect."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from model.decode.anchors import anchors
from model.families.qsdt import QsdtSpec
from model.published.detector import RpnMap
from model.published.mask_rcnn import CORRECT, Defects, map_strides, MaskRcnn


torch.set_num_threads(1)

SPEC = QsdtSpec(name="tiny", in_channels=1, image_size=256, dims=(8, 8, 16, 16, 24),
                depths=(1, 1, 1, 1, 1), conv_expansion=(1, 1, 1), mlp_ratio=1, heads=2,
                norm_mean=(0.5,), norm_std=(0.5,))
DOUBLING = Defects(doubling_strides=True)


def detector(defects=CORRECT, **changes):
    torch.manual_seed(0)
    return MaskRcnn(replace(SPEC, **changes), width=8, hidden=16, classes=3,
                    defects=defects).double().eval()


def test_strides_follow_from_the_network():
    assert detector().strides == [4, 8, 16, 16, 32]
    assert detector(strides=(2, 2, 2, 2, 2)).strides == [4, 8, 16, 32, 64]
    assert detector(strides=(1, 2, 1, 2, 2)).strides == [2, 2, 4, 8, 16]
    assert map_strides([8], 3) == [8, 16, 32]


def test_strides_double_as_published_by_a_switch():
    assert detector(DOUBLING).strides == [4, 8, 16, 32, 64]
    assert detector().sizes == detector(DOUBLING).sizes == [32, 64, 128, 256, 512]


def best_places(model, box):
    """Centre of the anchor at which each map differs most from that of an image without the object,
    a bright `box` alone in the image."""
    image = torch.zeros(1, 1, 256, 256, dtype=torch.float64)
    with torch.no_grad():
        blank = model.backbone(image)
        image[:, :, box[1] : box[3], box[0] : box[2]] = 2
        maps = [(u - v).abs().sum(1)[0] for u, v in zip(model.backbone(image), blank, strict=True)]
    maps.append(maps[-1][::2, ::2])
    for found, stride, size in zip(maps, model.strides, model.sizes, strict=True):
        boxes = anchors(tuple(found.shape), stride=stride, size=size, ratios=(1,))
        x0, y0, x1, y1 = boxes[found.argmax()]
        yield (x0 + x1) / 2, (y0 + y1) / 2


@pytest.mark.parametrize("box", [(128, 128, 192, 192), (160, 64, 224, 128), (48, 176, 128, 240)])
def test_a_lone_object_has_its_top_score_inside_of_its_box(box):
    """Detection check (g): for every map; with the published strides not for the last two."""
    for defects, right in ((CORRECT, [True] * 5), (DOUBLING, [True] * 3 + [False] * 2)):
        inside = [box[0] <= x <= box[2] and box[1] <= y <= box[3]
                  for x, y in best_places(detector(defects), box)]
        assert inside == right


class Lone(nn.Module):
    """Stands for the RPN: one position of one map is an object."""

    def __init__(self, level, x, y):
        super().__init__()
        self.level, self.x, self.y = level, x, y

    def forward(self, maps):
        found = []
        for i, u in enumerate(maps):
            logits = torch.full((1, 3, *u.shape[2:]), -9.0)
            if i == self.level:
                logits[0, 1, self.y, self.x] = 9
            found.append(RpnMap(logits, torch.zeros(1, 12, *u.shape[2:])))
        return found


@pytest.mark.parametrize("level, stride", list(enumerate((4, 8, 16, 16, 32))))
def test_proposals_lie_where_the_map_says(level, stride):
    """Detection check (g), through the proposals."""
    model = detector()
    model.rpn_head = Lone(level, 3, 2)
    maps = [torch.zeros(1, 8, 256 // s, 256 // s) for s in (4, 8, 16, 16, 32)]
    best = model.propose(maps, height=256, width=256).boxes[0]
    size = 32 << level
    want = [3 * stride - size / 2, 2 * stride - size / 2, 3 * stride + size / 2,
            2 * stride + size / 2]
    assert best.tolist() == np.clip(want, 0, 256).tolist()


@pytest.mark.parametrize("defects", [CORRECT, DOUBLING, Defects(binary_neck=True)])
def test_an_image_goes_through(defects):
    """Random weights find something; twice the same; boxes and masks inside of the image."""
    model = detector(defects)
    with torch.no_grad():
        model.box_head.fc_cls.bias.copy_(torch.tensor([0.5, 0, 0.3, 0]))
        model.mask_head.conv_logits.layer.bias.fill_(1)
    image = torch.randn(1, 1, 96, 64, dtype=torch.float64)
    (found, masks), (again, same) = (model.detect(image, height=90, width=60) for _ in range(2))
    for name in ("boxes", "scores", "classes"):
        assert np.array_equal(getattr(found, name), getattr(again, name)), name
    assert np.array_equal(masks, same)
    assert len(found.boxes) and masks.shape == (len(found.boxes), 90, 60) and masks.any()
    assert found.boxes.min() >= 0 and (found.boxes.max(0) <= [60, 90, 60, 90]).all()
    assert (np.diff(found.scores) <= 0).all() and set(found.classes) <= {0, 1, 2}


def test_nothing_is_found_in_nothing():
    model = detector()
    with torch.no_grad():
        model.box_head.fc_cls.bias.copy_(torch.tensor([-99.0, -99, -99, 99]))
    found, masks = model.detect(torch.zeros(1, 1, 32, 32).double(), height=30, width=30)
    assert found.boxes.shape == (0, 4) and masks.shape == (0, 30, 30)


def test_what_is_not_one_image_is_named():
    model = detector()
    with pytest.raises(ValueError, match="there must be one image, not 2"):
        model.detect(torch.zeros(2, 1, 32, 32), height=32, width=32)
    with pytest.raises(ValueError, match="height and width must be at most 32 and 32, not 40"):
        model.detect(torch.zeros(1, 1, 32, 32), height=40, width=32)
    with pytest.raises(ValueError, match="height and width must be multiples of 16, not 40 and 32"):
        model.detect(torch.zeros(1, 1, 40, 32), height=40, width=32)
    with pytest.raises(ValueError, match="time_steps must be 1, not 2"):
        detector(time_steps=2)
