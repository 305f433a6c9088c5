"""model.families.merge: a chain of two 1x1 convolutions is one, to the last bits of float64."""

from fractions import Fraction

import numpy as np
import pytest

from model.families.merge import chains, merge_chains


C, M = 5, 7


def norm(rng, name, channels):
    return {f"{name}.weight": rng.uniform(-2, 2, channels).astype("f4"),
            f"{name}.bias": rng.normal(size=channels).astype("f4"),
            f"{name}.running_mean": rng.normal(size=channels).astype("f4"),
            f"{name}.running_var": rng.uniform(0.5, 2, channels).astype("f4"),
            f"{name}.num_batches_tracked": np.array(3)}


def chain(name, outer=""):
    rng = np.random.default_rng(1)
    state = {f"{name}.conv1.0.weight": rng.normal(size=(M, C, 1)).astype("f4"),
             **norm(rng, f"{name}.conv1.1", M),
             f"{name}.conv2.0.weight": rng.normal(size=(C, M, 1)).astype("f4"),
             **norm(rng, f"{name}.conv2.1", C)}
    return state | (norm(rng, outer, C) if outer else {})


def normalised(state, name, values):
    """A batch norm in rationals, but for the square root."""
    w, b, mean, var = (state[f"{name}.{part}"].astype(float)
                       for part in ("weight", "bias", "running_mean", "running_var"))
    gain = [Fraction(x) for x in (w / np.sqrt(var + 1e-5)).tolist()]
    return [(v - Fraction(m)) * g + Fraction(c)
            for v, m, g, c in zip(values, mean.tolist(), gain, b.tolist(), strict=True)]


def times(state, key, values):
    matrix = state[key].reshape(state[key].shape[:2]).astype(float).tolist()
    return [sum(Fraction(w) * v for w, v in zip(row, values, strict=True)) for row in matrix]


@pytest.mark.parametrize("name, outer", [("block3.0.attn.q_conv.0", "block3.0.attn.q_conv.1"),
                                         ("block3.0.rep_conv", "")])
def test_it_is_the_same_map(name, outer):
    state = {"other.weight": np.ones(1)} | chain(name, outer)
    merged = merge_chains(state)
    target = name.removesuffix(".0") if outer else name
    parts = ("weight", "bias", "running_mean", "running_var")
    assert set(merged) == {"other.weight", f"{target}.0.weight",
                           *(f"{target}.1.{part}" for part in parts)}
    assert merged[f"{target}.0.weight"].shape == (C, C, 1, 1)
    for x in np.random.default_rng(2).integers(0, 5, (4, C)).tolist():
        values = [Fraction(v, 4) for v in x]
        want = normalised(state, f"{name}.conv1.1", times(state, f"{name}.conv1.0.weight", values))
        want = normalised(state, f"{name}.conv2.1", times(state, f"{name}.conv2.0.weight", want))
        want = normalised(state, outer, want) if outer else want
        made = normalised(merged, f"{target}.1", times(merged, f"{target}.0.weight", values))
        assert max(abs(a - b) for a, b in zip(made, want, strict=True)) < 1e-13


def test_the_order_of_sums_is_fixed():
    """Rows one at a time are rows of the whole, bit for bit."""
    state = chain("a.0", "a.1")
    whole = merge_chains(state)["a.0.weight"]
    for row in range(C):
        key = "a.0.conv2.0.weight"
        one = {k: v[row : row + 1] if k.startswith(("a.0.conv2", "a.1")) and v.ndim else v
               for k, v in state.items()}
        assert one[key].shape[0] == 1
        np.testing.assert_array_equal(merge_chains(one)["a.0.weight"][0], whole[row])


def test_what_is_no_chain_stays():
    state = chain("a")
    del state["a.conv2.0.weight"]
    assert chains(state) == () and merge_chains(state).keys() == state.keys()
    assert chains(chain("a") | chain("b.0")) == ("a", "b.0")


@pytest.mark.parametrize("change, said", [
    (lambda s: s | {"a.0.conv1.0.alpha": np.ones(M)},
     "a.0: its two 1x1 convolutions are quantised one by one, .*; use the weights in float"),
    (lambda s: {k: v for k, v in s.items() if k != "a.0.conv1.1.bias"},
     "a.0.conv1.1.bias: missing"),
    (lambda s: {k: v for k, v in s.items() if ".running_" not in k},
     r"a.0.conv1.1.running_mean: missing, .*; save the whole state_dict\(\)"),
    (lambda s: s | {"a.0.conv2.0.weight": np.ones((C, M + 1, 1))},
     "a.0.conv2.0.weight must read the 7 channels of a.0.conv1, not 8"),
    (lambda s: s | {"a.0.conv2.0.weight": np.ones((C, M, 3))},
     r"a.0.conv2.0.weight must be of a 1x1 convolution, not of shape \(5, 7, 3\)"),
    (lambda s: s | {"a.1.bias": np.ones(4)}, r"a.1.bias must have shape \(5,\), not \(4,\)"),
])
def test_what_cannot_be_merged_is_named(change, said):
    with pytest.raises(ValueError, match=said) as caught:
        merge_chains(change(chain("a.0", "a.1")))
    assert "\n" not in str(caught.value)
