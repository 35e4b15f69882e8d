"""Matrices for the tests of kernels: unaligned, with rows further apart than they are wide, and guarded."""

import numpy as np
import pytest
import reference as ref

from edgepose import _native

KERNELS = _native.kernels
EPS = np.finfo(np.float32).eps
ISAS = _native.isas()
WIDENING_ISAS = [isa for isa in ISAS if isa != "neonfp16"]  # that one multiplies half precision without widening it

# 2^p j - 1, + 0, + 1: vectors of 4, 8, 16 lanes, panels of 16 columns, tiles of 2, 6, 17 rows, blocks of 136 rows.
SIZES = (1, 2, 3, 4, 5, 6, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65)
LARGE = (127, 128, 129, 135, 136, 137, 255, 256, 257)
FEW = (1, 2, 3, 15, 16, 17, 33)

each_isa = pytest.mark.parametrize("isa", ISAS)
each_widening_isa = pytest.mark.parametrize("isa", WIDENING_ISAS)


class Guarded:
    """A matrix with rows that start one float past an aligned address, `gap` floats apart, and with `guard` around."""

    def __init__(self, shape, guard, gap=3):
        rows, columns = shape
        self._guard = np.float32(guard)
        self._block = np.full(1 + rows * (columns + gap) + 2 * ref.PANEL, self._guard, np.float32)
        self._view = slice(1, 1 + rows * (columns + gap)), (rows, columns + gap), columns
        assert self.matrix.ctypes.data % 64 and np.shares_memory(self.matrix, self._block)

    @property
    def matrix(self):
        span, shape, columns = self._view
        return self._block[span].reshape(shape)[:, :columns]

    def is_guarded(self):
        """True if nothing was written beside the matrix."""
        span, shape, columns = self._view
        block = self._block.copy()
        block[span].reshape(shape)[:, :columns] = self._guard
        return bool((block == self._guard).all())


def source(values, gap=3):
    """The values unaligned, with NaN around them: a kernel that reads and uses anything beside them shows it."""
    guarded = Guarded(values.shape, np.nan, gap)
    guarded.matrix[...] = values
    return guarded.matrix


def target(shape, gap=5):
    return Guarded(shape, -7.25e33, gap)


def normal(rng, *shape):
    return rng.standard_normal(shape, dtype=np.float32)


def largest(*arrays):
    return max((float(np.abs(a).max()) for a in arrays if a is not None), default=0.0)
