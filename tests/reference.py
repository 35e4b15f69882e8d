"""Each kernel of csrc/kernels.h in plain float64 numpy, and the padding of its biases."""

import math

import numpy as np

PANEL = 16  # columns of a packed panel: kPanelColumns in csrc/kernels.h

_erf = np.frompyfunc(math.erf, 1, 1)


def padded(n):
    """n rounded up to whole panels."""
    return -(-n // PANEL) * PANEL


def rounded_rows(x, bits):
    """(whole numbers (..., k) int64, which of them is zero (..., 1), what one is worth (..., 1) float32) of the rows of
    x (..., k), as csrc/kernels.h says."""
    x, levels = np.asarray(x, np.float32), np.float32(2**bits - 1)
    least, largest = np.minimum(x.min(-1, keepdims=True), 0), np.maximum(x.max(-1, keepdims=True), 0)
    step = largest / levels - least / levels
    with np.errstate(divide="ignore"):
        inverse = np.where(step < np.float32(1e-35), np.float32(0), np.float32(1) / step)
    zero = np.rint(-least * inverse).astype(np.int64)
    return np.minimum(np.rint(x * inverse).astype(np.int64) + zero, 2**bits - 1), zero, step


def whole_product(x, w, scale, bits):
    """x (..., k) in so many bits @ integers w (k, n), times the scale (n) of a column and the step of a row: float32,
    to the bit what the kernels add a bias to. In 16 bits the halves of the numbers have sums of their own."""
    numbers, zero, step = rounded_rows(x, bits)
    halves = [(256, (numbers >> 8) - (zero >> 8)), (1, (numbers & 255) - (zero & 255))]
    parts = [(1, numbers - zero)] if bits == 8 else halves
    sums = sum(np.float32(factor) * (part @ w.astype(np.int64)).astype(np.float32) for factor, part in parts)
    return sums * np.float32(scale) * step


def pack_bias(b):
    """b (..., n) -> (..., n rounded up to whole panels) float32, zero past n."""
    wide = np.zeros((*b.shape[:-1], padded(b.shape[-1])), np.float32)
    wide[..., :b.shape[-1]] = b
    return wide


def gelu(x):
    """x/2 (1 + erf(x / sqrt 2))."""
    x = np.asarray(x, np.float64)
    return x / 2 * (1 + _erf(x / math.sqrt(2)).astype(np.float64))


def sigmoid(x):
    """1 / (1 + e^-x)."""
    with np.errstate(over="ignore"):
        return 1 / (1 + np.exp(-np.asarray(x, np.float64)))


ACTIVATIONS = {"none": lambda x: x, "relu": lambda x: np.maximum(x, 0), "gelu": gelu, "sigmoid": sigmoid}


def linear(x, w, b, residual=None, activation="none"):
    """activation(x @ w + b) + residual; x (m, k), w (k, n), b (n,), residual (m, n)."""
    y = ACTIVATIONS[activation](x.astype(np.float64) @ w.astype(np.float64) + b)
    return y if residual is None else y + residual


def graph_conv(x, w, b, adjacency, residual=None, activation="none"):
    """activation(sum_g A_g x_p w_g + b) + residual for each person p.

    x (people, J, k), w (groups, k, n), b (J, n), adjacency (groups, J, J), residual (people, J, n).
    """
    sums = sum(a @ (x.astype(np.float64) @ wg) for a, wg in zip(adjacency, w.astype(np.float64)))
    y = ACTIVATIONS[activation](sums + b)
    return y if residual is None else y + residual


def normalize(x, epsilon):
    """Each row minus its mean, over the root of its variance plus epsilon."""
    x = x.astype(np.float64)
    d = x - x.mean(1, keepdims=True)
    return d / np.sqrt((d * d).mean(1, keepdims=True) + epsilon)


def softmax(x):
    """Softmax over the last axis."""
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def attention(q, k, v, seen=True):
    """One head: softmax(q k^T) v; q, k, v (tokens, d). seen (tokens, tokens): the tokens that a token looks at."""
    scores = np.where(seen, q.astype(np.float64) @ k.astype(np.float64).T, -np.inf)
    return softmax(scores) @ v.astype(np.float64)


def ring_attention(q, keys, values, place, age, span, count):
    """All heads: softmax(q k^T + age) v; q (heads, d), keys and values (frames, heads, d), the newest frame first.

    Even heads look at the frames 0 to span back, odd ones at 0, span, ... span (count - 1), if their place (frames,) is
    not below 0. age (heads, ages): values at the places 0, 1, ..., linear between them and constant beyond.
    """
    y = np.empty(q.shape)
    for head, row in enumerate(q.astype(np.float64)):
        back = np.arange(0, span * count, span) if head % 2 else np.arange(span + 1)
        back = back[place[back] >= 0]
        scores = keys[back, head].astype(np.float64) @ row
        scores += np.interp(place[back], np.arange(age.shape[1]), age[head])
        y[head] = softmax(scores) @ values[back, head].astype(np.float64)
    return y


def gather_scatter(adjacency):
    """(gather (R, J), scatter (J, R), group_rows) with scatter restricted to a group @ gather restricted to it = A_g.

    Zero rows are left out of every second group and zero columns of the others: both ways of taking A_g apart.
    """
    gather, scatter = [], []
    for g, matrix in enumerate(adjacency):
        identity = np.eye(len(matrix))
        if g % 2:
            rows = np.flatnonzero(matrix.any(1))
            gather.append(matrix[rows])
            scatter.append(identity[:, rows])
        else:
            columns = np.flatnonzero(matrix.any(0))
            gather.append(identity[columns])
            scatter.append(matrix[:, columns])
    return (np.concatenate(gather).astype(np.float32, order="C"),
            np.concatenate(scatter, axis=1).astype(np.float32, order="C"), [len(rows) for rows in gather])
