"""The exact assignment of detections to people, beside scipy's."""

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from edgepose import _native

NEVER = 1e6  # scipy refuses rows in which every pair is infinite


def least_sum(cost, unassigned):
    """The least sum by scipy: each row may take a column of its own for the price instead."""
    rows = len(cost)
    instead = np.full((rows, rows), NEVER)
    np.fill_diagonal(instead, unassigned)
    whole = np.hstack([np.where(np.isinf(cost), NEVER, cost), instead])
    taken = linear_sum_assignment(whole)
    return whole[taken].sum()


def sum_of(cost, unassigned, columns_of):
    taken = columns_of[columns_of >= 0]
    assert len(set(taken.tolist())) == len(taken), "a column has two rows"
    return sum(cost[row, column] if column >= 0 else unassigned for row, column in enumerate(columns_of))


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (1, 4), (4, 1), (3, 5), (5, 3), (8, 8), (20, 20), (40, 7)])
@pytest.mark.parametrize("forbidden", [0.0, 0.3, 0.9])
def test_the_sum_is_the_least_there_is(rows, columns, forbidden):
    rng = np.random.default_rng(rows * 100 + columns)
    for _ in range(50):
        cost = rng.normal(0, 10, (rows, columns))
        cost[rng.random(cost.shape) < forbidden] = np.inf
        unassigned = rng.normal(5, 5)
        mine = sum_of(cost, unassigned, _native.assignment(cost, unassigned))
        assert mine == pytest.approx(least_sum(cost, unassigned), abs=1e-9)


def test_whole_numbers_with_many_ties_are_assigned_at_the_least_sum():
    rng = np.random.default_rng(0)
    for _ in range(200):
        cost = rng.integers(0, 3, (7, 6)).astype(float)
        assert sum_of(cost, 1.0, _native.assignment(cost, 1.0)) == least_sum(cost, 1.0)


def test_a_pair_dearer_than_the_price_stays_apart():
    assert _native.assignment(np.array([[3.0]]), 2.0).tolist() == [-1]
    assert _native.assignment(np.array([[1.0]]), 2.0).tolist() == [0]
    assert _native.assignment(np.array([[np.inf, -5.0], [-1.0, np.inf]]), 0.0).tolist() == [1, 0]


@pytest.mark.parametrize("shape", [(0, 0), (0, 3), (3, 0)])
def test_nobody_and_nothing_are_assigned(shape):
    assert _native.assignment(np.zeros(shape), 0.0).tolist() == [-1] * shape[0]
