from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from gen.check.compare import verify
from gen.compile.compiler import compile_network
from gen.compile.fold import choose_folds, Fold, fold_patches, fold_weight
from gen.compile.layout import im2col
from hw.config import CoreConfig
from model.families.sdt_v3 import SdtV3Spec
from model.families.spec import MODELS
from model.integer.export import export
from model.integer.graph import Conv, IntegerParams
from model.integer.random_network import random_network, random_state
from tests.gen.random_cases import folding_network


def convolved(x, weight, *, stride, padding):
    """Sums (O, H', W') of x (C, H, W), tap by tap; ``padding`` is (rows, columns)."""
    _, _, height, width = weight.shape
    padded = np.pad(x, ((0, 0), (padding[0],) * 2, (padding[1],) * 2))
    rows = (padded.shape[1] - height) // stride + 1
    columns = (padded.shape[2] - width) // stride + 1
    total = np.zeros((len(weight), rows, columns), np.int64)
    for ky in range(height):
        for kx in range(width):
            window = padded[:, ky:ky + stride * rows:stride, kx:kx + stride * columns:stride]
            total += np.einsum("oi,ihw->ohw", weight[:, :, ky, kx],
                               window[:, :rows, :columns])
    return total


def folded(x, fold):
    """Positions ``fold * x ..`` become one of ``fold * C`` channels, the first one's first."""
    channels, height, width = x.shape
    return x.reshape(channels, height, width // fold, fold).transpose(3, 0, 1, 2).reshape(
        fold * channels, height, width // fold)


@pytest.mark.parametrize("fold", [1, 2, 4, 8])
@pytest.mark.parametrize(("kernel", "stride", "padding", "further"), [
    (1, 1, 0, 1), (3, 1, 1, 1), (3, 2, 1, 1), (7, 2, 3, 1), (7, 1, 3, 1), (5, 4, 2, 1),
    (3, 2, 1, 2), (7, 2, 3, 2), (2, 2, 0, 2)])
def test_folded_weights(fold, kernel, stride, padding, further):
    """A folded convolution of a folded map is the folded result, also where the map is folded
    ``further`` times as far."""
    rng = np.random.default_rng(kernel)
    width = 4 * fold * stride
    x = rng.integers(-8, 8, (3, 9 if further == 1 else 8, width))
    weight = rng.integers(-8, 8, (5, 3, kernel, kernel))
    wanted = folded(convolved(x, weight, stride=stride, padding=(padding, padding)), fold)
    both = Fold(further * fold, fold)
    across, before = fold_weight(weight, both, stride=stride, padding=padding)
    # Zeros as far to the right as taps reach.
    source = np.pad(folded(x, both.source), ((0, 0), (padding,) * 2, (before, across.shape[3])))
    if further > 1:    # steps across are 1 then, those down 2
        found = convolved(source, across, stride=1, padding=(0, 0))[:, ::stride]
    else:
        found = convolved(source, across, stride=stride, padding=(0, 0))
    np.testing.assert_array_equal(found[:, :, :wanted.shape[2]], wanted)
    assert across.any(axis=(0, 1, 2)).all()         # no column of taps in vain


@pytest.mark.parametrize("columns_first", [False, True])
@pytest.mark.parametrize("fold", [1, 2, 4])
@pytest.mark.parametrize(("kernel", "stride", "padding"), [(3, 1, 1), (4, 4, 0), (7, 2, 3)])
def test_patches(fold, kernel, stride, padding, columns_first):
    """The convolution of an image as a product with the patches that neighbouring outputs use."""
    rng = np.random.default_rng(kernel)
    image = rng.integers(-128, 128, (3, 11, 8 * stride * fold + kernel - stride - 2 * padding))
    weight = rng.integers(-8, 8, (5, 3, kernel, kernel))
    wanted = folded(convolved(image, weight, stride=stride, padding=(padding, padding)), fold)
    patches = im2col(image, kernel=kernel, stride=stride, padding=padding, fold=fold,
                     columns_first=columns_first)
    product = fold_patches(weight, fold, stride=stride, columns_first=columns_first)
    assert product.shape[2:] == (1, 1)
    if columns_first:    # what one output uses lies together
        used = np.flatnonzero(product[0].any(axis=(1, 2)))
        assert used[-1] - used[0] < 3 * kernel * kernel
    np.testing.assert_array_equal(np.einsum("oi,ihw->ohw", product[:, :, 0, 0], patches), wanted)


@cache
def networks(rows):
    """Some that fold, and random ones."""
    return [folding_network(rows, 4), folding_network(rows, 4, size=24), folding_network(rows, 2),
            folding_network(rows, 2, sep_expansion=1), folding_network(3 * rows // 4, 2),
            *(random_network(seed, max_size=20).network for seed in range(4)),
            *(random_network(seed, max_size=12, max_dim=24, family=SdtV3Spec).network
              for seed in range(3))]


@pytest.mark.parametrize("most", [1, 2, 64])
@pytest.mark.parametrize("rows", [16, 32, 64])
def test_chosen_folds(most, rows):
    """Both sides of a convolution are folded alike, or the source of one of stride 2 twice as far,
    by a multiple of the positions that share words: one, or three full ones."""
    largest, twice, several = 1, 0, 0
    for network in networks(rows):
        tensors = network.tensors()
        folds, shared, _ = choose_folds(network.ops, tensors, rows, most, 128)
        assert folds.keys() == {op.name for op in network.ops if isinstance(op, Conv)}
        for op in network.ops:
            fold = folds.get(op.name, Fold())
            largest = max(largest, *fold)
            assert 1 <= fold.target <= most and fold.source <= most
            assert fold.rows == 1 or (op.stride, fold.rows, tensors[op.source][2] % 2) == (2, 2, 0)
            twice += fold.rows == 2
            for name in {*op.inputs, *op.outputs} - {"image"}:
                _, channels, _, width = tensors[name]
                own = fold.source if name == op.inputs[0] else fold.target
                assert width % own == 0 == own % shared.get(name, 1)
                lanes = shared.get(name, 1) * channels
                assert name not in shared or lanes <= rows or lanes == 3 * rows
                if name in shared and lanes > rows:
                    several += 1
                    assert tensors[name][2] * width // shared[name] <= 128
            made = {*op.outputs, *getattr(getattr(op, "epilogue", None), "inputs", ())}
            assert len({shared.get(name, 1) for name in made}) == 1    # they lie alike
    assert largest == min(most, 4) or most == 64
    assert (several > 0) == (most == 64) or most == 2
    assert (twice > 0) == (most > 1)


def test_a_rep_conv_reads_what_a_folded_convolution_made():
    """16 channels fill a word of 16 lanes, so that a map that was folded by 2 can be read."""
    spec = replace(MODELS["qsdt_nano"], dims=(8, 8, 8, 16, 16), image_size=16)
    params, rng = IntegerParams(), np.random.default_rng(0)
    network = export(random_state(rng, spec, params), spec, params)
    program = compile_network(network, CoreConfig(rows=16, load_rows=4, pool_banks=8))
    assert program.maps["block3.0.attn.head_lif"].fold == 2
    image_q = rng.integers(-128, 128, (1, 1, 16, 16)).astype(np.int8)
    result = verify(network, program, image_q, forms=("integer", "iss"))
    assert not result.differences, result.lines
