"""normalize, add, multiply, blend and attention on each instruction set of this CPU against tests/reference.py, and the
symbols that objects export."""

import itertools
import platform
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import reference as ref
from guarded import EPS, KERNELS, LARGE, SIZES, each_isa, largest, normal, source, target


def run_normalize(isa, x, epsilon, in_place=False):
    y = target(x.shape)
    y.matrix[...] = x
    KERNELS.normalize(y.matrix if in_place else source(x), y.matrix, epsilon, isa)
    assert y.is_guarded(), f"wrote beside y for {x.shape}"
    return y.matrix


def normalize_tolerance(x, epsilon):
    """The bound from the mean's rounding error d <= n eps max|x| and the variance's, (n + 3) eps + (d / sigma)^2."""
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
        # 1 - var / (var + epsilon) is the share that epsilon takes; an error t on y changes its mean square by
        # 2 t mean|y|.
        missing = 1e-5 / x.astype(np.float64).var(1)
        assert (np.abs(y.var(1) - 1) <= missing + 2 * tolerance.max(1) + tolerance.max(1) ** 2).all()


@each_isa
@pytest.mark.parametrize("constant", [0.0, 1.0, -0.1, 1e-30, 12345.678, 1e15, -3e35])
def test_a_constant_row_stays_finite(isa, constant):
    for n in SIZES + LARGE:
        y = run_normalize(isa, np.full((2, n), constant, np.float32), 1e-5)
        # All x are equal and so are all x - mean: whatever the mean's rounding, y is at most 1.
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


@each_isa
@pytest.mark.parametrize("in_place", [False, True], ids=["y apart", "y is x"])
def test_multiply_is_numpys_to_the_bit_and_its_sigmoid_within_2e_7(isa, in_place):
    for m, n in itertools.product((1, 2, 3, 17), SIZES + LARGE):
        rng = np.random.default_rng((m, n))
        x, r, y = normal(rng, m, n), normal(rng, m, n) * 30, target((m, n))
        for activation in ("none", "sigmoid"):
            y.matrix[...] = x
            KERNELS.multiply(y.matrix if in_place else source(x), source(r, 7), y.matrix, activation, isa)
            assert y.is_guarded()
            if activation == "none":
                np.testing.assert_array_equal(y.matrix, x * r)
            else:
                assert np.abs(y.matrix - ref.sigmoid(x * r)).max() <= 2e-7


@each_isa
def test_a_sigmoid_of_anything_lies_between_0_and_1_and_nan_stays(isa):
    x = np.array([[-np.inf, -1e30, -100, -88, -87, 0, 87, 88, 100, 1e30, np.inf, np.nan]], np.float32)
    y = target(x.shape)
    KERNELS.multiply(source(x), source(np.ones_like(x)), y.matrix, "sigmoid", isa)
    assert np.isnan(y.matrix[0, -1]) and ((0 <= y.matrix[:, :-1]) & (y.matrix[:, :-1] <= 1)).all()
    np.testing.assert_allclose(y.matrix[0, :-1], ref.sigmoid(x[0, :-1]), atol=2e-7)


@each_isa
def test_blend_weighs_two_matrices(isa):
    for m, n in itertools.product((1, 2, 3, 17), SIZES + LARGE):
        rng = np.random.default_rng((m, n))
        x, before, y = normal(rng, m, n), normal(rng, m, n), target((m, n))
        y.matrix[...] = before
        KERNELS.blend(0.3, -0.7, source(x), y.matrix, isa)
        assert y.is_guarded()
        exact = np.float64(np.float32(0.3)) * before + np.float64(np.float32(-0.7)) * x
        assert (np.abs(y.matrix - exact) <= 2 * EPS * (np.abs(0.3 * before) + np.abs(0.7 * x))).all()


def run_attention(isa, q, k, v, before=None, after=None):
    tokens, d = q.shape
    x = source(np.concatenate([q, k, v], 1))
    y = target((tokens, d))
    before, after = (tokens if reach is None else reach for reach in (before, after))
    KERNELS.attention(x[:, :d], x[:, d:2 * d], x[:, 2 * d:], y.matrix, before, after, isa)
    assert y.is_guarded(), f"wrote beside y for {q.shape}"
    return y.matrix


def attention_tolerance(q, k, v):
    """The bound on the errors of scores, exp, sum and product together.

    A score is off by 2 d eps max|q| max|k|, its difference from the largest by twice that and a rounding; exp turns
    this into a relative error and adds 3 ulp, in numerator and denominator. The sums over the tokens add 2 tokens eps
    each.
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
@pytest.mark.parametrize("before, after",
                         [(0, 0), (1, 1), (5, 0), (0, 5), (16, 16), (17, 3), (100, 0), (0, 100), (2**31 - 1, 1)])
def test_attention_looks_no_further_than_before_and_after(isa, before, after):
    for tokens, d in itertools.product((1, 2, 16, 17, 33, 70), (3, 16)):
        q, k, v = (normal(np.random.default_rng((tokens, d, i)), tokens, d) for i in range(3))
        q /= np.float32(d**0.5)
        apart = np.arange(tokens)[:, None] - np.arange(tokens)
        seen = (apart <= before) & (-apart <= after)
        error = np.abs(run_attention(isa, q, k, v, before, after) - ref.attention(q, k, v, seen)).max()
        assert error <= attention_tolerance(q, k, v), f"{tokens} tokens of {d}: {error}"


@each_isa
def test_what_is_out_of_sight_changes_no_bit(isa):
    q, k, v = (normal(np.random.default_rng(i), 50, 7) for i in range(3))
    far = v.copy()
    far[:10] = 1e6
    near = run_attention(isa, q, k, v, 4, 4)
    np.testing.assert_array_equal(run_attention(isa, q, k, far, 4, 4)[14:], near[14:])


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
        # Equal scores are equal to the bit: the weights are 1 / tokens but for the roundings of their sum and quotient.
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
    # Scores are at least 1e6 d apart: every other weight is e^-87, the least that exp gives.
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


OBJECTS = {"x86_64": ("generic", "avx2", "avxvnni", "avx512", "avx512vnni"),
           "aarch64": ("generic", "neon", "neondot", "neoni8mm", "neonfp16")}.get(platform.machine(), ("generic",))


@pytest.mark.slow
@pytest.mark.skipif(not (shutil.which("g++") and shutil.which("nm")), reason="needs g++ and nm")
@pytest.mark.parametrize("isa", OBJECTS)
def test_an_instruction_sets_object_exports_its_table_and_nothing_else(isa, tmp_path):
    # Unoptimised code keeps inline functions, which some other object could use, out of line. No exceptions:
    # unoptimised code would refer to the runtime's handler for them.
    source_file = Path(__file__).parent.parent / "csrc" / f"kernels_{isa}.cpp"
    made = tmp_path / "kernels.o"
    command = ["g++", "-std=c++17", "-O0", "-fno-exceptions", "-fPIC", "-Wno-psabi", "-c", source_file, "-o", made]
    subprocess.run(command, check=True, timeout=120)
    listing = subprocess.run(["nm", "-C", "--extern-only", "--defined-only", made], check=True,
                             capture_output=True, text=True).stdout
    assert [line.split(maxsplit=2)[2] for line in listing.splitlines()] == [f"edgepose::{isa}::table"]


def ring_case(rng, heads, d, span, count):
    """(q (heads, d), keys, values (frames, heads, d), place (frames,), age (heads, ages)), the newest frame first."""
    frames = span * (count - 1) + 1
    place = np.sort(rng.uniform(0, 12, frames)).astype(np.float32)
    place[0] = 0
    return (normal(rng, heads, d), normal(rng, frames, heads, d), normal(rng, frames, heads, d), place,
            normal(rng, heads, 11))


def run_ring(isa, q, keys, values, place, age, span, count, newest=0):
    """The kernel on a ring whose newest frame is row `newest`."""
    rows = np.concatenate([keys.reshape(len(keys), -1), values.reshape(len(keys), -1)], 1)
    ring = np.empty_like(rows)
    ring[(newest - np.arange(len(rows))) % len(rows)] = rows
    y = target((1, q.size))
    KERNELS.ring_attention(source(q.reshape(1, -1)), ring, newest, source(place[None]), age, y.matrix, span, count, isa)
    assert y.is_guarded()
    return y.matrix.reshape(q.shape)


def ring_tolerance(q, keys, values, age):
    """A score errs by 2 d eps max|q| max|k| and what the ages add; its weight by as much more, and by exp's 3 ulp."""
    d, frames = q.shape[1], len(keys)
    score = 2 * d * EPS * largest(q) * largest(keys) + 8 * EPS * (largest(age) + d * largest(q) * largest(keys))
    return (2 * score + (2 * frames + 16) * EPS) * largest(values)


@each_isa
def test_ring_attention_weighs_the_frames_that_each_head_looks_at(isa):
    for heads, d, span, count in ((2, 3, 1, 2), (2, 16, 2, 3), (4, 17, 4, 9), (8, 16, 10, 16), (2, 40, 20, 40)):
        rng = np.random.default_rng((heads, d, span, count))
        case = ring_case(rng, heads, d, span, count)
        for newest in (0, 1, len(case[1]) - 1):
            error = np.abs(run_ring(isa, *case, span, count, newest) - ref.ring_attention(*case, span, count)).max()
            assert error <= ring_tolerance(case[0], case[1], case[2], case[4]), f"{heads} heads of {d}: {error}"


@each_isa
def test_ring_attention_does_not_look_at_frames_that_are_not_remembered(isa):
    rng = np.random.default_rng(1)
    q, keys, values, place, age = ring_case(rng, 4, 16, 4, 9)
    for remembered in (1, 2, 5, 20):
        place[remembered:] = -1
        keys[remembered:] = values[remembered:] = np.nan
        y = run_ring(isa, q, keys, values, place, age, 4, 9)
        error = np.abs(y - ref.ring_attention(q, keys, values, place, age, 4, 9)).max()
        assert error <= ring_tolerance(q, keys[:remembered], values[:remembered], age), f"{remembered}: {error}"
        q, keys, values, place, age = ring_case(rng, 4, 16, 4, 9)


@each_isa
def test_ring_attention_takes_scores_that_grow_from_block_to_block(isa):
    rng = np.random.default_rng(2)
    q, keys, values, place, age = ring_case(rng, 2, 16, 20, 40)
    for way in (1, -1):
        age[...] = way * np.linspace(0, 60, 11, dtype=np.float32)
        y = run_ring(isa, q, keys, values, place, age, 20, 40)
        assert np.abs(y - ref.ring_attention(q, keys, values, place, age, 20, 40)).max() <= ring_tolerance(
            q, keys, values, age)


@each_isa
def test_ring_attention_passes_nan_on(isa):
    q, keys, values, place, age = ring_case(np.random.default_rng(3), 2, 16, 2, 3)
    q[0, 3] = np.nan
    y = run_ring(isa, q, keys, values, place, age, 2, 3)
    assert np.isnan(y[0]).all() and np.isfinite(y[1]).all()
