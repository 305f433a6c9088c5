"""Functions of single numbers: right to the last digits, and the same wherever a number lies."""

import math

import numpy as np

from model.decode.elementary import exp, sigmoid, softmax


def test_values():
    x = np.array([[-700.0, -1.0, 0.0], [1.0, 20.0, 700.0]])
    assert exp(x).tolist() == [[math.exp(v) for v in row] for row in x.tolist()]
    np.testing.assert_allclose(sigmoid(x), 1 / (1 + np.exp(-x)), rtol=1e-15)
    assert sigmoid([-1e300, 0, 1e300]).tolist() == [0, 0.5, 1]
    np.testing.assert_allclose(softmax(x), np.exp(x - x.max(1, keepdims=True)) / np.exp(
        x - x.max(1, keepdims=True)).sum(1, keepdims=True), rtol=1e-15)
    assert softmax(np.array([[1e4, 1e4]])).tolist() == [[0.5, 0.5]]


def test_no_numbers_at_all():
    assert exp([]).shape == sigmoid([]).shape == (0,)
    assert softmax(np.zeros((0, 5))).shape == (0, 5)


def test_the_place_of_a_number_changes_nothing():
    x = np.random.default_rng(0).normal(0, 3, (37, 41))
    for function in (exp, sigmoid):
        assert np.array_equal(function(x)[5:, ::3], function(np.asfortranarray(x[5:, ::3])))
    order = np.random.default_rng(1).permutation(41)
    assert np.array_equal(softmax(x)[:, order], softmax(x[:, order]))
