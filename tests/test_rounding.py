"""Weights in eight bits: to the nearest, and by GPTQ."""

import numpy as np
import pytest

from edgepose.build_engines.rounding import round_weights, scales_of

SHAPES = [("linear", (5, 7)), ("conv", (3, 5, 7)), ("graph_conv", (3, 5, 7))]


def weights(shape):
    w = np.random.default_rng(2).standard_normal(shape).astype(np.float32)
    w[..., 3] = 0
    return w


def moments_of(op, shape, rows=400, seed=3):
    """(rows of x for each part of the weights, their moments): columns that go together, as a network's do."""
    rng = np.random.default_rng(seed)
    groups, k = (shape[0], shape[1]) if op == "graph_conv" else (1, int(np.prod(shape[:-1])))
    x = [rng.standard_normal((rows, 2)) @ rng.standard_normal((2, k)) + 0.1 * rng.standard_normal((rows, k))
         for _ in range(groups)]
    return x, [part.T @ part / rows for part in x]


@pytest.mark.parametrize("op, shape", SHAPES)
def test_weights_are_rounded_to_half_a_step_and_zero_stays_zero(op, shape):
    w = weights(shape)
    whole, scale = round_weights(w, op), scales_of(w, op)
    assert whole.dtype == np.int8 and scale.shape == ((3, 7) if op == "graph_conv" else (7,))
    assert np.abs(whole).max() == 127
    wide = scale[:, None] if op == "graph_conv" else scale
    assert (np.abs(whole * wide - w) <= 0.5001 * wide).all() and (whole[..., 3] == 0).all()


@pytest.mark.parametrize("op, shape", [("linear", (40, 30)), ("conv", (3, 20, 30)), ("graph_conv", (3, 40, 30))])
def test_gptq_changes_the_products_less_than_the_nearest_weights_do(op, shape):
    w = weights(shape)
    x, moments = moments_of(op, shape)
    scale = scales_of(w, op).reshape(len(x), 1, -1)

    def lost(whole):
        parts = zip(x, whole.reshape(len(x), -1, shape[-1]), w.reshape(len(x), -1, shape[-1]), scale)
        return sum(np.square(rows @ (part * own - exact)).sum() for rows, part, exact, own in parts)

    by_gptq = round_weights(w, op, moments)
    assert by_gptq.shape == w.shape and by_gptq.dtype == np.int8 and np.abs(by_gptq.astype(int)).max() <= 127
    assert lost(by_gptq) < 0.3 * lost(round_weights(w, op))


def test_gptq_of_columns_that_do_not_go_together_is_the_nearest():
    w = weights((50, 7))
    np.testing.assert_array_equal(round_weights(w, "linear", [np.eye(50)]), round_weights(w, "linear"))


def test_gptq_takes_columns_of_x_that_are_always_zero():
    w = weights((20, 7))
    moments = np.diag(np.arange(20) % 3).astype(float)
    np.testing.assert_array_equal(round_weights(w, "linear", [moments]), round_weights(w, "linear"))
    np.testing.assert_array_equal(round_weights(w, "linear", [np.zeros((20, 20))]), round_weights(w, "linear"))
