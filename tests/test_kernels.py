"""Each kernel on each instruction set of this CPU against tests/reference.py."""

import itertools
import platform
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import reference as ref

from edgepose import _native
from edgepose.skeleton import H36M16, H36M17
from edgepose.zoo.layers import NEIGHBOUR_GROUPS, neighbour_matrices

KERNELS = _native.kernels
EPS = np.finfo(np.float32).eps
ISAS = _native.isas()
HALF_ISAS = [isa for isa in ISAS if isa != "generic"]  # SSE2 cannot widen half precision

# 2^p j - 1, + 0, + 1: vectors of 4, 8, 16 lanes, panels of 16 columns, tiles of 2, 6, 17 rows, blocks of 136 rows.
SIZES = (1, 2, 3, 4, 5, 6, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65)
LARGE = (127, 128, 129, 135, 136, 137, 255, 256, 257)
FEW = (1, 2, 3, 15, 16, 17, 33)

each_isa = pytest.mark.parametrize("isa", ISAS)
each_half_isa = pytest.mark.parametrize("isa", HALF_ISAS)


class Guarded:
    """A matrix whose rows start one float past an aligned address and are `gap` floats apart; all around it lies `guard`."""

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
        """Whether nothing was written beside the matrix."""
        span, shape, columns = self._view
        block = self._block.copy()
        block[span].reshape(shape)[:, :columns] = self._guard
        return bool((block == self._guard).all())


def source(values, gap=3):
    """The values unaligned and with NaN all around: what is read beside them and used shows."""
    guarded = Guarded(values.shape, np.nan, gap)
    guarded.matrix[...] = values
    return guarded.matrix


def target(shape, gap=5):
    return Guarded(shape, -7.25e33, gap)


def normal(rng, *shape):
    return rng.standard_normal(shape, dtype=np.float32)


def largest(*arrays):
    return max((float(np.abs(a).max()) for a in arrays if a is not None), default=0.0)


def product_tolerance(x, w, b, k, residual=None, activation="none", before=None):
    """The contract's 2 k eps max|x| max|w|, and the rounding of the sums with the bias and with the residual.

    After a GELU: times its steepest slope, 1.13, plus what vec.h states for it. `before`: what it was applied to.
    """
    tolerance = 2 * k * EPS * largest(x) * largest(w) + EPS * largest(b)
    if activation == "gelu":
        tolerance = 1.13 * tolerance + 4e-7 * max(1, largest(before))
    return tolerance + EPS * largest(residual)


def run_linear(isa, x, w, b, residual=None, activation="none", gap=5, in_place=False):
    y = target((len(x), w.shape[1]), gap)
    given = None
    if residual is not None:
        given = y.matrix if in_place else source(residual, gap)
        given[...] = residual
    KERNELS.linear(source(x), ref.pack_panels(w), source(ref.pack_bias(b)[None]), given, y.matrix, activation, isa)
    assert y.is_guarded(), f"wrote beside y for {x.shape} @ {w.shape}"
    return y.matrix


def check_linear(isa, m, k, n, activation="none", with_residual=False, in_place=False, half=False, gap=5):
    rng = np.random.default_rng((m, k, n))
    x, w, b = normal(rng, m, k), normal(rng, k, n), normal(rng, n)
    residual = normal(rng, m, n) if with_residual else None
    if half:
        w = w.astype(np.float16)
    y = run_linear(isa, x, w, b, residual, activation, gap, in_place)
    before = ref.linear(x, w, b) if activation == "gelu" else None
    tolerance = product_tolerance(x, w, b, k, residual, activation, before)
    error = np.abs(y - ref.linear(x, w, b, residual, activation)).max()
    assert error <= tolerance, f"{m} x {k} @ {k} x {n}: {error} > {tolerance}"


@each_isa
def test_linear_is_the_product_plus_the_bias(isa):
    for m, k, n in itertools.product(SIZES, SIZES, SIZES):
        check_linear(isa, m, k, n)


@each_isa
def test_linear_is_right_beyond_one_block_of_rows_and_many_panels(isa):
    for size in LARGE:
        for m, k, n in ((size, 33, 17), (17, size, 33), (33, 17, size)):
            check_linear(isa, m, k, n)


@each_isa
@pytest.mark.parametrize("residual", ["none", "separate", "in y"])
@pytest.mark.parametrize("activation", ref.ACTIVATIONS)
def test_linear_activates_and_adds_the_residual(isa, activation, residual):
    for m, k, n in itertools.product(FEW, FEW, FEW):
        check_linear(isa, m, k, n, activation, residual != "none", residual == "in y")


@each_isa
def test_linear_writes_rows_that_lie_side_by_side(isa):
    for m, k, n in itertools.product(FEW, FEW, FEW):
        check_linear(isa, m, k, n, gap=0)


@each_half_isa
@pytest.mark.parametrize("activation", ref.ACTIVATIONS)
def test_linear_widens_half_precision_weights(isa, activation):
    for m, k, n in itertools.product(FEW, FEW, FEW):
        check_linear(isa, m, k, n, activation, with_residual=True, half=True)


@each_half_isa
def test_half_precision_is_a_storage_format_alone(isa):
    rng = np.random.default_rng(1)
    every_finite = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    w = every_finite[np.isfinite(every_finite)].reshape(1, -1)
    b = np.zeros(w.shape[1], np.float32)
    np.testing.assert_array_equal(run_linear(isa, np.ones((1, 1), np.float32), w, b), w.astype(np.float32))
    x, w, b = normal(rng, 17, 40), normal(rng, 40, 33).astype(np.float16), normal(rng, 33)
    np.testing.assert_array_equal(run_linear(isa, x, w, b), run_linear(isa, x, w.astype(np.float32), b))


@pytest.mark.skipif("generic" not in ISAS, reason="needs the generic kernels")
def test_an_instruction_set_without_half_precision_refuses_half_weights():
    w = np.ones((4, 4), np.float16)
    with pytest.raises(ValueError, match="generic have no half precision"):
        run_linear("generic", np.ones((1, 4), np.float32), w, np.zeros(4, np.float32))


@each_isa
def test_a_row_alone_equals_that_row_among_many_to_the_bit(isa):
    rng = np.random.default_rng(2)
    for k, n, activation in itertools.product((1, 17, 64, 129), (3, 16, 40), ref.ACTIVATIONS):
        x, w, b, residual = normal(rng, 141, k), normal(rng, k, n), normal(rng, n), normal(rng, 141, n)
        many = run_linear(isa, x, w, b, residual, activation)
        for m in (1, 2, 5, 17, 34):
            some = run_linear(isa, x[-m:], w, b, residual[-m:], activation)
            np.testing.assert_array_equal(some, many[-m:])


@each_isa
def test_columns_alone_equal_those_columns_among_many_to_the_bit(isa):
    rng = np.random.default_rng(3)
    for m, k, activation in itertools.product((1, 16, 17), (1, 33, 128), ref.ACTIVATIONS):
        x, w, b = normal(rng, m, k), normal(rng, k, 70), normal(rng, 70)
        many = run_linear(isa, x, w, b, activation=activation)
        for columns in (slice(0, 1), slice(16, 33), slice(64, 70), slice(5, 64), slice(69, 70)):
            alone = run_linear(isa, x, w[:, columns], b[columns], activation=activation)
            np.testing.assert_array_equal(alone, many[:, columns])


@each_isa
def test_gelu_is_as_exact_as_vec_h_states(isa):
    x = np.concatenate([np.linspace(-12, 12, 40001), np.geomspace(1e-30, 1e30, 2000), -np.geomspace(1e-30, 1e30, 2000)])
    x = x.astype(np.float32)[:, None]
    one, zero = np.ones((1, 1), np.float32), np.zeros(1, np.float32)
    error = np.abs(run_linear(isa, x, one, zero, activation="gelu") - ref.gelu(x)) / np.maximum(1, np.abs(x))
    assert error.max() <= 4e-7, f"{error.max()} at {x[error.argmax()]}"


GRAPHS = [(skeleton, groups) for skeleton in (H36M17, H36M16) for groups in NEIGHBOUR_GROUPS]


def run_graph_conv(isa, x, w, b, adjacency, residual=None, activation="none", in_place=False):
    people, joints, k = x.shape
    gather, scatter, group_rows = ref.gather_scatter(adjacency)
    y = target((people * joints, w.shape[2]))
    given = None
    if residual is not None:
        given = y.matrix if in_place else source(residual.reshape(people * joints, -1), 5)
        given[...] = residual.reshape(given.shape)
    KERNELS.graph_conv(source(x.reshape(-1, k)), ref.pack_panels(w), source(ref.pack_bias(b), 0), given, y.matrix,
                       gather, scatter, group_rows, activation, isa)
    assert y.is_guarded(), f"wrote beside y for {x.shape} by {w.shape}"
    return y.matrix.reshape(people, joints, -1)


def check_graph_conv(isa, adjacency, people, k, n, activation="none", residual=None, half=False):
    groups, joints, _ = adjacency.shape
    rng = np.random.default_rng((people, k, n))
    x, w, b = normal(rng, people, joints, k), normal(rng, groups, k, n), normal(rng, joints, n)
    added = normal(rng, people, joints, n) if residual else None
    if half:
        w = w.astype(np.float16)
    y = run_graph_conv(isa, x, w, b, adjacency, added, activation, residual == "in y")
    before = ref.graph_conv(x, w, b, adjacency) if activation == "gelu" else None
    # A neighbour's product is off by 2 k eps max|x| max|w|. The coefficients that mix them sum up to `mixing`; each of them
    # is rounded, and so is every addition in the mixing: 1/2 eps a neighbour of what is k max|x| max|w| at most.
    mixing = np.abs(adjacency).sum((0, 2)).max()
    neighbours = np.count_nonzero(adjacency, axis=2).sum(0).max()
    terms = mixing * k * (1 + (neighbours + 1) / 4)
    tolerance = product_tolerance(x, w, b, terms, added, activation, before)
    error = np.abs(y - ref.graph_conv(x, w, b, adjacency, added, activation)).max()
    assert error <= tolerance, f"{people} people, {k} to {n} channels: {error} > {tolerance}"


@each_isa
@pytest.mark.parametrize("skeleton, groups", GRAPHS, ids=lambda v: getattr(v, "name", v))
def test_graph_conv_mixes_neighbours_in_every_grouping(isa, skeleton, groups):
    adjacency = neighbour_matrices(skeleton, groups)
    for people, k, n in itertools.product((1, 3, 4, 5, 9), (1, 3, 17), (1, 16, 33)):
        check_graph_conv(isa, adjacency, people, k, n)


@each_isa
@pytest.mark.parametrize("residual", [None, "separate", "in y"])
@pytest.mark.parametrize("activation", ref.ACTIVATIONS)
def test_graph_conv_activates_and_adds_the_residual(isa, activation, residual):
    for people, k, n in itertools.product((1, 2, 5), FEW, FEW):
        check_graph_conv(isa, neighbour_matrices(H36M17), people, k, n, activation, residual)


@each_half_isa
def test_graph_conv_widens_half_precision_weights(isa):
    for people, k, n in itertools.product((1, 5), FEW, FEW):
        check_graph_conv(isa, neighbour_matrices(H36M17), people, k, n, "relu", "separate", half=True)


@each_isa
def test_graph_conv_at_sizes_around_powers_of_two(isa):
    for size in SIZES + LARGE:
        check_graph_conv(isa, neighbour_matrices(H36M17), 1, size, 17)
        check_graph_conv(isa, neighbour_matrices(H36M17), 2, 17, size)


@each_isa
def test_graph_conv_takes_any_small_graph(isa):
    rng = np.random.default_rng(4)
    for joints, groups in itertools.product((1, 2, 3, 16, 31), (1, 2, 5)):
        adjacency = rng.uniform(-1, 1, (groups, joints, joints)) * (rng.random((groups, joints, joints)) < 0.3)
        adjacency[:, 0, 0] = 1
        check_graph_conv(isa, adjacency, 5, 9, 20)


@each_isa
def test_a_person_alone_equals_that_person_among_many_to_the_bit(isa):
    rng = np.random.default_rng(5)
    adjacency = neighbour_matrices(H36M17)
    for k, n, activation in ((1, 3, "gelu"), (40, 33, "relu"), (128, 16, "none")):
        x, w, b = normal(rng, 9, 17, k), normal(rng, 3, k, n), normal(rng, 17, n)
        many = run_graph_conv(isa, x, w, b, adjacency, activation=activation)
        for people in (slice(0, 1), slice(8, 9), slice(2, 7)):
            np.testing.assert_array_equal(run_graph_conv(isa, x[people], w, b, adjacency, activation=activation), many[people])


@each_isa
def test_a_graph_convs_columns_alone_equal_those_among_many_to_the_bit(isa):
    rng = np.random.default_rng(6)
    adjacency = neighbour_matrices(H36M17)
    x, w, b = normal(rng, 2, 17, 33), normal(rng, 3, 33, 70), normal(rng, 17, 70)
    many = run_graph_conv(isa, x, w, b, adjacency)
    for columns in (slice(0, 1), slice(16, 33), slice(64, 70)):
        np.testing.assert_array_equal(run_graph_conv(isa, x, w[..., columns], b[:, columns], adjacency), many[..., columns])


def run_normalize(isa, x, epsilon, in_place=False):
    y = target(x.shape)
    y.matrix[...] = x
    KERNELS.normalize(y.matrix if in_place else source(x), y.matrix, epsilon, isa)
    assert y.is_guarded(), f"wrote beside y for {x.shape}"
    return y.matrix


def normalize_tolerance(x, epsilon):
    """From the mean's rounding error d <= n eps max|x| and the variance's relative (n + 3) eps + (d / sigma)^2."""
    n = x.shape[1]
    sigma = np.sqrt(x.astype(np.float64).var(1, keepdims=True) + epsilon)
    d = n * EPS * np.abs(x).max(1, keepdims=True) / sigma
    scale = ((n + 3) * EPS + d * d) / 2 + 3 * EPS
    return d + scale * (np.abs(ref.normalize(x, epsilon)) + d)


@each_isa
@pytest.mark.parametrize("in_place", [False, True], ids=["y apart", "y is x"])
def test_normalize_subtracts_the_mean_and_divides_by_the_deviation(isa, in_place):
    for m, n in itertools.product((1, 2, 3, 17), SIZES + LARGE):
        x = normal(np.random.default_rng((m, n)), m, n) * 3 + 1
        error = np.abs(run_normalize(isa, x, 1e-5, in_place) - ref.normalize(x, 1e-5))
        assert (error <= normalize_tolerance(x, 1e-5)).all(), f"{m} x {n}: {error.max()}"


@each_isa
def test_normalized_rows_have_mean_0_and_variance_1(isa):
    for n in SIZES[2:] + LARGE:
        x = normal(np.random.default_rng(n), 5, n) * 100 + 30
        y, tolerance = run_normalize(isa, x, 1e-5).astype(np.float64), normalize_tolerance(x, 1e-5)
        assert (np.abs(y.mean(1)) <= tolerance.max(1)).all()
        # 1 - var / (var + epsilon) is what epsilon takes away; an error t on y changes its mean square by 2 t mean|y|.
        missing = 1e-5 / x.astype(np.float64).var(1)
        assert (np.abs(y.var(1) - 1) <= missing + 2 * tolerance.max(1) + tolerance.max(1) ** 2).all()


@each_isa
@pytest.mark.parametrize("constant", [0.0, 1.0, -0.1, 1e-30, 12345.678, 1e15, -3e35])
def test_a_constant_row_stays_finite(isa, constant):
    for n in SIZES + LARGE:
        y = run_normalize(isa, np.full((2, n), constant, np.float32), 1e-5)
        # All x are one number and so are all x - mean: whatever the mean's rounding, y is at most 1.
        assert np.isfinite(y).all() and (y == y[0, 0]).all() and abs(y[0, 0]) <= 1 + 3 * EPS


@each_isa
def test_normalize_takes_each_row_by_itself(isa):
    x = normal(np.random.default_rng(7), 20, 37)
    many = run_normalize(isa, x, 1e-6)
    for r in range(20):
        np.testing.assert_array_equal(run_normalize(isa, x[r:r + 1], 1e-6), many[r:r + 1])


@each_isa
@pytest.mark.parametrize("in_place", [False, True], ids=["y apart", "y is x"])
def test_add_is_numpys_to_the_bit(isa, in_place):
    for m, n in itertools.product((1, 2, 3, 17), SIZES + LARGE):
        rng = np.random.default_rng((m, n))
        x, c, y = normal(rng, m, n), normal(rng, m, n), target((m, n))
        y.matrix[...] = x
        KERNELS.add(y.matrix if in_place else source(x), source(c, 7), y.matrix, isa)
        assert y.is_guarded()
        np.testing.assert_array_equal(y.matrix, x + c)


def run_attention(isa, q, k, v):
    tokens, d = q.shape
    x = source(np.concatenate([q, k, v], 1))
    y = target((tokens, d))
    KERNELS.attention(x[:, :d], x[:, d:2 * d], x[:, 2 * d:], y.matrix, isa)
    assert y.is_guarded(), f"wrote beside y for {q.shape}"
    return y.matrix


def attention_tolerance(q, k, v):
    """What the errors of scores, exp, sum and product can add up to.

    A score is off by 2 d eps max|q| max|k|, its difference to the largest by twice that and a rounding; exp makes of it a
    relative error and adds 3 ulp; numerator and denominator have it both. The sums over the tokens add 2 tokens eps each.
    """
    tokens, d = q.shape
    scores = q.astype(np.float64) @ k.astype(np.float64).T
    exponent = 2 * (2 * d * EPS * largest(q) * largest(k)) + EPS * (scores.max() - scores.min())
    relative = 2 * (np.expm1(exponent) + 3 * EPS) + 4 * tokens * EPS + 2 * EPS
    return relative * largest(v)


@each_isa
def test_attention_weighs_the_values_by_the_softmax_of_the_scores(isa):
    for tokens, d in itertools.product(SIZES, SIZES):
        q, k, v = (normal(np.random.default_rng((tokens, d, i)), tokens, d) for i in range(3))
        q /= np.float32(d**0.5)
        error = np.abs(run_attention(isa, q, k, v) - ref.attention(q, k, v)).max()
        assert error <= attention_tolerance(q, k, v), f"{tokens} tokens of {d}: {error}"


@each_isa
def test_attention_is_right_for_many_tokens_and_wide_heads(isa):
    for tokens, d in [(size, 9) for size in LARGE] + [(9, size) for size in LARGE]:
        q, k, v = (normal(np.random.default_rng((tokens, d, i)), tokens, d) for i in range(3))
        q /= np.float32(d**0.5)
        error = np.abs(run_attention(isa, q, k, v) - ref.attention(q, k, v)).max()
        assert error <= attention_tolerance(q, k, v), f"{tokens} tokens of {d}: {error}"


@each_isa
def test_attention_to_identical_keys_is_the_mean_of_the_values(isa):
    for tokens, d in itertools.product((1, 2, 3, 16, 17, 33), (1, 3, 16, 17)):
        rng = np.random.default_rng((tokens, d))
        q, k, v = normal(rng, tokens, d), np.repeat(normal(rng, 1, d), tokens, 0), normal(rng, tokens, d)
        mean = np.broadcast_to(v.astype(np.float64).mean(0), (tokens, d))
        # Equal scores differ in no bit, so that the weights are 1 / tokens but for the roundings of their sum and quotient.
        assert np.abs(run_attention(isa, q, k, v) - mean).max() <= (3 * tokens + 2) * EPS * largest(v)


@each_isa
def test_attention_weights_sum_to_1(isa):
    for tokens in SIZES:
        rng = np.random.default_rng(tokens)
        q, k = normal(rng, tokens, 8), normal(rng, tokens, 8)
        y = run_attention(isa, q, k, np.ones((tokens, 8), np.float32))
        assert np.abs(y - 1).max() <= (3 * tokens + 2) * EPS


@each_isa
@pytest.mark.parametrize("scale", [1e3, 1e9, 1e18])
def test_huge_scores_pick_one_value_and_do_not_overflow(isa, scale):
    tokens, d = 17, 16
    rng = np.random.default_rng(8)
    q = np.full((tokens, d), scale, np.float32)
    k = np.repeat(rng.permutation(tokens)[:, None], d, 1).astype(np.float32) * np.float32(scale)
    v = normal(rng, tokens, d)
    y = run_attention(isa, q, k, v)
    # Scores are at least 1e6 d apart: every other weight is e^-87, the least exp gives.
    np.testing.assert_allclose(y, np.broadcast_to(v[k[:, 0].argmax()], (tokens, d)), rtol=2 * EPS, atol=1e-36)
    y = run_attention(isa, -q, k, v)
    np.testing.assert_allclose(y, np.broadcast_to(v[k[:, 0].argmin()], (tokens, d)), rtol=2 * EPS, atol=1e-36)


@each_isa
def test_exp_is_as_exact_as_vec_h_states(isa):
    # Two keys, scores 0 and -s: the second's weight is e^-s / (1 + e^-s), with the sum and the quotient rounded.
    s = np.linspace(0, 80, 4096).astype(np.float32)
    for at in range(0, len(s), 256):
        chunk = s[at:at + 256]
        q = chunk[:, None]
        k = np.zeros((256, 1), np.float32)
        k[1] = -1
        v = np.zeros((256, 1), np.float32)
        v[1] = 1
        e = np.exp(-chunk.astype(np.float64))
        weight = e / (255 + e)
        error = np.abs(run_attention(isa, q, k, v)[:, 0] - weight) / weight
        # 3 ulp, the sum of 256 ones in order (exact, but for e), the division and the two products.
        assert error.max() <= (3 + 1 + 3) * EPS, f"{error.max() / EPS} eps at {chunk[error.argmax()]}"


@each_isa
def test_a_querys_answer_does_not_depend_on_its_place_to_the_bit(isa):
    rng = np.random.default_rng(9)
    for tokens, d in ((17, 16), (33, 5), (40, 27)):
        q, k, v = (normal(rng, tokens, d) for _ in range(3))
        order = rng.permutation(tokens)
        np.testing.assert_array_equal(run_attention(isa, q[order], k, v), run_attention(isa, q, k, v)[order])


OBJECTS = {"x86_64": ("generic", "avx2", "avx512"), "aarch64": ("generic", "neon")}.get(platform.machine(), ("generic",))


@pytest.mark.skipif(not (shutil.which("g++") and shutil.which("nm")), reason="needs g++ and nm")
@pytest.mark.parametrize("isa", OBJECTS)
def test_an_instruction_sets_object_exports_its_table_and_nothing_else(isa, tmp_path):
    # Unoptimised: an inline function that some other object could end up with stands out of line.
    source_file = Path(__file__).parent.parent / "csrc" / f"kernels_{isa}.cpp"
    made = tmp_path / "kernels.o"
    command = ["g++", "-std=c++17", "-O0", "-fPIC", "-Wno-psabi", "-c", source_file, "-o", made]
    subprocess.run(command, check=True, timeout=120)
    listing = subprocess.run(["nm", "-C", "--extern-only", "--defined-only", made], check=True, capture_output=True, text=True).stdout
    assert [line.split(maxsplit=2)[2] for line in listing.splitlines()] == [f"edgepose::{isa}::table"]
