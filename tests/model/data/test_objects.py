"""model.data.objects: boxes, classes and masks of pictures."""

import numpy as np
import pytest

from model.data.objects import InMemory, Objects, ObjectTable


def boxes(*rows):
    return np.array(rows, float).reshape(-1, 4)


def test_defaults_and_parts():
    found = Objects(boxes=boxes((0, 0, 2, 3), (1, 1, 2, 2)), classes=[4, 5], crowd=[False, True])
    assert found.areas.tolist() == [6, 1] and len(found) == 2
    assert found[~found.crowd].boxes.tolist() == [[0, 0, 2, 3]]
    assert found[1:].classes.tolist() == [5] and found[1:].crowd.tolist() == [True]
    assert len(Objects.none()) == 0 and Objects.none().boxes.shape == (0, 4)


@pytest.mark.parametrize("values, text", [
    (dict(boxes=boxes((3, 0, 3, 1)), classes=[0]), "boxes must be finite, with left below right"),
    (dict(boxes=boxes((0, 0, np.inf, 1)), classes=[0]), "boxes must be finite"),
    (dict(boxes=boxes((0, 0, 1, 1)), classes=[0, 1]), "classes must be one for each of 1 boxes"),
    (dict(boxes=boxes((0, 0, 1, 1)), classes=[0], areas=[[1.0]]), "areas must be one for each"),
])
def test_wrong_ones(values, text):
    with pytest.raises(ValueError, match=text):
        Objects(**values)


def test_table():
    rows = boxes((0, 0, 1, 1), (0, 0, 2, 2), (0, 0, 3, 3))
    table = ObjectTable(Objects(boxes=rows, classes=[0, 1, 2]), np.array([0, 1, 1, 3]))
    assert [one.classes.tolist() for one in table] == [[0], [], [1, 2]]
    assert [one.classes.tolist() for one in table[1:]] == [[], [1, 2]]
    assert table[-1].areas.tolist() == [4, 9]
    assert len(table[3:]) == 0 == len(table[2:1])
    with pytest.raises(IndexError):
        table[3]


def test_in_memory():
    data = InMemory(images=np.zeros((2, 3, 5, 4), np.uint8), objects=[Objects.none()] * 2,
                    masks=np.ones((2, 5, 4), np.uint8), classes=("a", "b"),
                    mask_classes=("none", "a", "b"))
    one = data.sample(1)
    assert one.size == (5, 4) and one.mask.sum() == 20 and len(one.objects) == 0
    assert list(data.image_ids) == [1, 2] == list(data.category_ids)
    assert len(data.objects_of(0)) == 0
