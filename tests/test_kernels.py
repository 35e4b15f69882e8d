"""The products, linear and graph_conv, on each instruction set of this CPU against tests/reference.py."""

import itertools

import numpy as np
import pytest
import reference as ref
from guarded import EPS, FEW, ISAS, KERNELS, LARGE, SIZES, each_isa, each_widening_isa, largest, normal, source, target

from edgepose.skeleton import H36M16, H36M17
from edgepose.zoo.layers import NEIGHBOUR_GROUPS, neighbour_matrices


def product_tolerance(x, w, b, k, residual=None, activation="none", before=None):
    """The contract's 2 k eps max|x| max|w|, and the rounding of the sums with the bias and with the residual.

    After a GELU or sigmoid: times its steepest slope, 1.13 or 1/4, plus the error that vec.h states for it. `before`:
    the activation's input.
    """
    tolerance = 2 * k * EPS * largest(x) * largest(w) + EPS * largest(b)
    if activation == "gelu":
        tolerance = 1.13 * tolerance + 4e-7 * max(1, largest(before))
    if activation == "sigmoid":
        tolerance = tolerance / 4 + 2e-7
    return tolerance + EPS * largest(residual)


def run_linear(isa, x, w, b, residual=None, activation="none", gap=5, in_place=False):
    y = target((len(x), w.shape[1]), gap)
    given = None
    if residual is not None:
        given = y.matrix if in_place else source(residual, gap)
        given[...] = residual
    KERNELS.linear(source(x), np.ascontiguousarray(w), source(ref.pack_bias(b)[None]), given, y.matrix, activation, isa)
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


def in_eight_bits(rng, *shape):
    """(weights of whole numbers (..., k, n), a scale for each column (..., n))."""
    w = rng.integers(-127, 128, shape).astype(np.int8)
    return w, (np.abs(normal(rng, *shape[:-2], shape[-1])) + 0.1) / 127


def padded_scale(scale):
    return np.ascontiguousarray(ref.pack_bias(scale))


each_bits = pytest.mark.parametrize("bits", [8, 16])


def run_whole(isa, x, w, scale, b, bits, residual=None, activation="none", gap=5):
    y = target((len(x), w.shape[1]), gap)
    KERNELS.linear(source(x), w, source(ref.pack_bias(b)[None]),
                   None if residual is None else source(residual, gap), y.matrix, activation, isa, padded_scale(scale),
                   bits)
    assert y.is_guarded(), f"wrote beside y for {x.shape} @ {w.shape}"
    return y.matrix


def check_whole(isa, m, k, n, bits, activation="none", with_residual=False):
    """The sums are exact and what follows is rounded in one order: equal to the bit, but for GELU and sigmoid."""
    rng = np.random.default_rng((m, k, n))
    x, b = 3 * normal(rng, m, k) + normal(rng, m, 1), normal(rng, n)
    w, scale = in_eight_bits(rng, k, n)
    residual = normal(rng, m, n) if with_residual else None
    y = run_whole(isa, x, w, scale, b, bits, residual, activation)
    before = ref.whole_product(x, w, scale, bits) + b
    after = ref.ACTIVATIONS[activation](before).astype(np.float32)
    wanted = after if residual is None else after + residual
    allowed = {"gelu": 4e-7 * max(1, largest(before)), "sigmoid": 2e-7}.get(activation, 0)
    tolerance = allowed and allowed + 2 * EPS * (largest(after) + largest(residual))
    error = np.abs(y - wanted).max()
    assert error <= tolerance, f"{m} x {k} @ {k} x {n}: {error} > {tolerance}"


@each_isa
@each_bits
def test_products_of_whole_numbers_are_exact(isa, bits):
    for m, k, n in itertools.product((1, 2, 3, 4, 5, 6, 7, 9, 12, 13, 16, 17, 18, 33),
                                     (1, 2, 3, 4, 5, 7, 8, 15, 16, 17, 63, 64, 65), (1, 15, 16, 17, 31, 33, 65, 129)):
        check_whole(isa, m, k, n, bits)
    for m, k, n in ((137, 33, 17), (17, 2049, 33), (273, 5, 3), (5, 1023, 130)):
        check_whole(isa, m, k, n, bits)


@each_isa
@each_bits
@pytest.mark.parametrize("activation", ref.ACTIVATIONS)
def test_products_of_whole_numbers_activate_and_add_the_residual(isa, bits, activation):
    for m, k, n in itertools.product(FEW, FEW, FEW):
        check_whole(isa, m, k, n, bits, activation, with_residual=True)


@each_isa
@each_bits
def test_products_of_whole_numbers_do_not_overflow(isa, bits):
    k = 65536
    for weight, x in itertools.product((127, -127, -128), (255.0, -255.0)):
        w, row = np.full((k, 17), weight, np.int8), np.full((3, k), x, np.float32)
        y = run_whole(isa, row, w, np.ones(17, np.float32), np.zeros(17, np.float32), bits)
        np.testing.assert_allclose(y, float(k) * weight * x, rtol=4 * EPS)


@each_isa
@each_bits
def test_neighbouring_weights_at_the_ends_of_their_range_are_multiplied_exactly(isa, bits):
    rng = np.random.default_rng(9)
    for m, k, n in itertools.product((1, 5, 17), (1, 2, 3, 8, 65), (1, 17, 70)):
        x, w = 3 * normal(rng, m, k), rng.choice((-128, -127, -65, -64, 0, 64, 65, 127), (k, n)).astype(np.int8)
        scale = np.full(n, 1 / 127, np.float32)
        y = run_whole(isa, x, w, scale, np.zeros(n, np.float32), bits)
        np.testing.assert_array_equal(y, ref.whole_product(x, w, scale, bits))


@each_isa
def test_a_row_rounds_half_to_even_between_its_own_ends(isa):
    rows = np.array([[0.5, 1.5, 2.5, 254.5, 253.5, 255], [-0.5, -1.5, -100.5, 154, -101, -99.5]], np.float32)
    whole = np.array([[0, 2, 2, 254, 254, 255], [0, -2, -100, 154, -101, -100]], np.float32)
    np.testing.assert_array_equal(ref.rounded_rows(rows, 8)[2], 1)
    y = run_whole(isa, rows, np.eye(6, dtype=np.int8), np.ones(6, np.float32), np.zeros(6, np.float32), 8)
    np.testing.assert_array_equal(y, whole)


@each_isa
@each_bits
@pytest.mark.parametrize("size", [1e-38, 1e-30, 1e-10, 1.0, 1e10, 1e30, 3e38])
def test_rows_of_any_size_are_right_to_half_a_step(isa, bits, size):
    x = (np.random.default_rng(7).uniform(-1, 1, (3, 40)) * size).astype(np.float32)
    x[1], x[2] = np.abs(x[1]), -np.abs(x[2])
    y = run_whole(isa, x, np.eye(40, dtype=np.int8), np.ones(40, np.float32), np.zeros(40, np.float32), bits)
    step = np.ptp(np.pad(x.astype(np.float64), ((0, 0), (0, 1))), axis=1, keepdims=True) / (2**bits - 1)
    # Both x and zero are rounded, each to half a step; what is below 1e-35 a step becomes zero.
    assert (np.abs(y - x) <= np.maximum(step + 4 * EPS * largest(x), 2**bits * 1e-35)).all()


@each_isa
@each_bits
@pytest.mark.parametrize("broken", [np.nan, np.inf, -np.inf])
def test_broken_input_does_not_come_out_as_whole_numbers(isa, bits, broken):
    rng = np.random.default_rng(4)
    for k in (1, 16, 37):
        x = normal(rng, 19, k)
        x[5, k // 2] = broken
        w, scale = in_eight_bits(rng, k, 20)
        y = run_whole(isa, x, w, scale, np.zeros(20, np.float32), bits)
        assert np.isnan(y[5]).all() and np.isfinite(np.delete(y, 5, 0)).all()


@each_isa
@pytest.mark.parametrize("activation", ref.ACTIVATIONS)
def test_linear_widens_weights_of_eight_bits(isa, activation):
    rng = np.random.default_rng(5)
    for m, k, n in itertools.product((1, 2, 4, 5, 8, 17, 33), FEW, (*FEW, 64, 65, 130)):
        x, b, residual = normal(rng, m, k), normal(rng, n), normal(rng, m, n)
        w, scale = in_eight_bits(rng, k, n)
        y = target((m, n))
        KERNELS.linear(source(x), w, source(ref.pack_bias(b)[None]), source(residual, 5),
                       y.matrix, activation, isa, padded_scale(scale))
        assert y.is_guarded()
        wide = w * scale.astype(np.float64)
        before = ref.linear(x, wide, b)
        tolerance = product_tolerance(x, 2 * wide, b, k, residual, activation, before)
        assert np.abs(y.matrix - ref.linear(x, wide, b, residual, activation)).max() <= tolerance


@each_widening_isa
@pytest.mark.parametrize("activation", ref.ACTIVATIONS)
def test_linear_widens_half_precision_weights(isa, activation):
    for m, k, n in itertools.product(FEW, FEW, FEW):
        check_linear(isa, m, k, n, activation, with_residual=True, half=True)


@each_widening_isa
def test_half_precision_is_a_storage_format_alone(isa):
    rng = np.random.default_rng(1)
    every_finite = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    w = every_finite[np.isfinite(every_finite)].reshape(1, -1)
    b = np.zeros(w.shape[1], np.float32)
    np.testing.assert_array_equal(run_linear(isa, np.ones((1, 1), np.float32), w, b), w.astype(np.float32))
    x, w, b = normal(rng, 17, 40), normal(rng, 40, 33).astype(np.float16), normal(rng, 33)
    np.testing.assert_array_equal(run_linear(isa, x, w, b), run_linear(isa, x, w.astype(np.float32), b))


@pytest.mark.skipif("neonfp16" not in ISAS, reason="needs a CPU with half-precision arithmetic")
def test_products_in_half_precision_are_as_exact_as_kernels_h_states():
    rng = np.random.default_rng(8)
    for m, k, n, size in itertools.product((1, 3, 4, 5, 17), (*FEW, 130), (1, 16, 33), (1e-30, 1.0, 1e30)):
        x, w = normal(rng, m, k) * np.float32(size), normal(rng, k, n).astype(np.float16)
        y = run_linear("neonfp16", x, w, np.zeros(n, np.float32))
        allowed = k * np.abs(x).max(1, keepdims=True) * (2**-11 * (3 + 16 / 2) * largest(w) + 2**-28)
        assert (np.abs(y - ref.linear(x, w, np.zeros(n))) <= allowed + 2 * k * EPS * largest(x) * largest(w)).all()


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
    KERNELS.graph_conv(source(x.reshape(-1, k)), np.ascontiguousarray(w), source(ref.pack_bias(b), 0), given, y.matrix,
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
    # A neighbour's product is off by 2 k eps max|x| max|w|. The coefficients that mix the neighbours sum up to
    # `mixing`; each is rounded, and so is every addition: 1/2 eps a neighbour, of k max|x| max|w| at most.
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


@each_widening_isa
def test_graph_conv_widens_half_precision_weights(isa):
    for people, k, n in itertools.product((1, 5), FEW, FEW):
        check_graph_conv(isa, neighbour_matrices(H36M17), people, k, n, "relu", "separate", half=True)


@each_isa
@pytest.mark.parametrize("bits", [0, 8, 16])
def test_graph_conv_in_eight_bits(isa, bits):
    # Eighths and neighbours with weight 1: the gathered values are exact, and so is every rounding.
    rng = np.random.default_rng(6)
    adjacency = (neighbour_matrices(H36M17) > 0).astype(np.float64)
    gather, scatter, group_rows = ref.gather_scatter(adjacency)
    for people, k, n in itertools.product((1, 2, 5, 9), (1, 3, 8, 17, 64), (1, 16, 33)):
        x, b, residual = (rng.integers(-400, 400, (people, 17, k)) / np.float32(8), normal(rng, 17, n),
                          normal(rng, people, 17, n))
        w, scale = in_eight_bits(rng, 3, k, n)
        y = target((people * 17, n))
        KERNELS.graph_conv(source(x.reshape(-1, k)), w, source(ref.pack_bias(b), 0),
                           source(residual.reshape(-1, n), 5), y.matrix,
                           gather, scatter, group_rows, "relu", isa, padded_scale(scale), bits)
        assert y.is_guarded()
        sums, first, size = 0, 0, 0
        for g, rows in enumerate(group_rows):
            mixed = gather[first:first + rows].astype(np.float64) @ x
            exact = w[g] * scale[g].astype(np.float64)
            product = ref.whole_product(mixed, w[g], scale[g], bits) if bits else mixed @ exact
            sums = sums + scatter[:, first:first + rows].astype(np.float64) @ product
            size = max(size, largest(product))
            first += rows
        wanted = np.maximum(sums + b, 0) + residual
        # A product of floats errs by k eps of its terms, which are at most `size` in all; the mixing adds up to 9
        # neighbours.
        terms = 1 if bits else 2 * k
        tolerance = (9 * (terms + 4) * EPS * max(size, largest(x) * largest(w * scale.max()))
                     + EPS * (largest(b) + largest(residual)))
        assert np.abs(y.matrix.reshape(wanted.shape) - wanted).max() <= tolerance


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
            np.testing.assert_array_equal(run_graph_conv(isa, x[people], w, b, adjacency, activation=activation),
                                          many[people])


@each_isa
def test_a_graph_convs_columns_alone_equal_those_among_many_to_the_bit(isa):
    rng = np.random.default_rng(6)
    adjacency = neighbour_matrices(H36M17)
    x, w, b = normal(rng, 2, 17, 33), normal(rng, 3, 33, 70), normal(rng, 17, 70)
    many = run_graph_conv(isa, x, w, b, adjacency)
    for columns in (slice(0, 1), slice(16, 33), slice(64, 70)):
        np.testing.assert_array_equal(run_graph_conv(isa, x, w[..., columns], b[:, columns], adjacency),
                                      many[..., columns])
