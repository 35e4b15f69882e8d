"""Weights in eight bits, a scale a column: each to the nearest, or by GPTQ so that a product's answers change least.

Source: Frantar et al. 2022, GPTQ: columns of x with the most energy first, damping 1 %, as in the authors' code.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

LARGEST = 127
DAMPING = 0.01  # added to the diagonal, as a part of its mean
BLOCK = 64  # rows of weights whose errors are handed to the rest at once


def scales_of(w: np.ndarray, op: str) -> np.ndarray:
    """The scale of each column of w (..., k, n): (n,), of a graph_conv (groups, n)."""
    over = w.ndim - 2 if op == "graph_conv" else tuple(range(w.ndim - 1))
    scale = np.abs(w).max(over).astype(np.float64) / LARGEST
    scale[scale == 0] = 1.0
    return np.ascontiguousarray(scale, np.float32)


def round_weights(w: np.ndarray, op: str, moments: Sequence[np.ndarray] = ()) -> np.ndarray:
    """int8: w (..., k, n) is about scales_of(w) times it.

    moments: the mean of x x^T over the rows that w multiplies, (k, k); of a conv over its taps side by side, of a
    graph_conv one for each group. Without them each weight goes to the nearest.
    """
    scale = scales_of(w, op).reshape(-1, 1, w.shape[-1])  # (groups, 1, n)
    parts = w.reshape(len(scale), -1, w.shape[-1])
    if not moments:
        whole = np.clip(np.rint(parts / scale), -LARGEST, LARGEST)
    else:
        whole = np.stack([_gptq(part.astype(np.float64) / own, moment)
                          for part, own, moment in zip(parts, scale, moments, strict=True)])
    return whole.astype(np.int8).reshape(w.shape)


def _gptq(w: np.ndarray, moments: np.ndarray) -> np.ndarray:
    """Whole numbers near w (k, n), rounded row after row; a row's error is made up for by the rows after it."""
    order = np.argsort(-np.diag(moments), kind="stable")
    w, moments = w[order], moments[np.ix_(order, order)].astype(np.float64)
    diagonal = np.diag_indices(len(w))
    moments[diagonal] += DAMPING * moments[diagonal].mean() or 1.0
    upper = np.linalg.cholesky(np.linalg.inv(moments)).T
    whole = np.empty_like(w)
    for begin in range(0, len(w), BLOCK):
        end = min(begin + BLOCK, len(w))
        errors = np.empty((end - begin, w.shape[1]))
        for i in range(begin, end):
            whole[i] = np.clip(np.rint(w[i]), -LARGEST, LARGEST)
            errors[i - begin] = (w[i] - whole[i]) / upper[i, i]
            w[i + 1:end] -= np.outer(upper[i, i + 1:end], errors[i - begin])
        w[end:] -= upper[begin:end, end:].T @ errors
    found = np.empty_like(whole)
    found[order] = whole
    return found
