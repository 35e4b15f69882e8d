"""Bones that keep their lengths: learnt as poses come, and of a whole recording."""

import numpy as np
import pytest

import edgepose
from edgepose import with_constant_bones
from edgepose.clip import load_clip, stream_clip
from edgepose.skeleton import H36M17
from test_place import HZ, Told, approaching, seen_by

PARENTS = [parent for parent, _ in H36M17.bones]
ENDS = [joint for _, joint in H36M17.bones]


def lengths(joints_m):
    """(N, 16) m."""
    return np.linalg.norm(joints_m[:, ENDS] - joints_m[:, PARENTS], axis=-1)


def variation(joints_m):
    """The greatest range of a bone over its mean."""
    found = lengths(joints_m)
    return (np.ptp(found, axis=0) / found.mean(axis=0)).max()


def mpjpe_mm(joints_m, wanted_m):
    return 1e3 * np.linalg.norm(joints_m - wanted_m, axis=-1).mean()


def noisy_walk(frames=300, seed=0):
    """(true, noisy): depth is twice as wrong as x and y."""
    joints_m, _ = approaching(frames, speed_m_s=-0.2)
    noise = np.random.default_rng(seed).normal(0, [0.02, 0.02, 0.04], joints_m.shape)
    noise[:, 0] = 0
    return joints_m, joints_m + noise


def streamed(joints_m, **options):
    """The joints that a stream answers with, by a lifter that says `joints_m`."""
    truth, root_m = approaching(len(joints_m), speed_m_s=-0.2)
    stream = edgepose.Stream(Told(joints_m), "h36m17", (1280, 720), constant_bones=True, **options)
    return np.stack([stream.push(points, i / HZ).joints_m for i, points in enumerate(seen_by(truth + root_m[:, None]))])


def test_bones_of_a_recording_have_one_length_each_left_and_right_alike():
    truth, noisy = noisy_walk()
    held = with_constant_bones(noisy, H36M17)
    assert variation(noisy) > 0.3 and variation(held) < 1e-5
    for left, right in ((lengths(held)[0, ENDS.index(H36M17.index(f"{side}_knee"))] for side in ("left", "right")),):
        assert left == pytest.approx(right, rel=1e-6)


def test_known_lengths_bring_the_joints_nearer():
    truth, noisy = noisy_walk()
    bone = dict(zip(ENDS, lengths(truth)[0]))
    known = {name: bone[H36M17.index(f"left_{joint}")] for name, joint in
             (("upper_arm", "elbow"), ("forearm", "wrist"), ("thigh", "knee"), ("shank", "ankle"))}
    learnt, told = (with_constant_bones(1.2 * noisy, H36M17, some) for some in (None, known))
    assert mpjpe_mm(told, truth) < mpjpe_mm(learnt, truth)


def test_lengths_that_are_known_are_kept():
    _, noisy = noisy_walk(50)
    held = lengths(with_constant_bones(noisy, H36M17, {"thigh": 0.5, "hip_width": 0.3}))
    for side in ("left", "right"):
        np.testing.assert_allclose(held[:, ENDS.index(H36M17.index(f"{side}_knee"))], 0.5, rtol=1e-5)
        np.testing.assert_allclose(held[:, ENDS.index(H36M17.index(f"{side}_hip"))], 0.15, rtol=1e-5)


def test_a_few_wild_poses_do_not_change_the_lengths():
    _, noisy = noisy_walk()
    wild = noisy.copy()
    wild[50:60] *= 3
    wanted, found = (lengths(with_constant_bones(joints_m, H36M17))[0] for joints_m in (noisy, wild))
    np.testing.assert_allclose(found, wanted, rtol=0.03)


@pytest.mark.parametrize("smoothing", [None, edgepose.OneEuro(1.0, 2.0)])
def test_a_stream_learns_the_lengths_in_two_seconds_and_then_hardly_changes_them(smoothing):
    truth, noisy = noisy_walk(300)
    found = streamed(noisy, smoothing=smoothing)
    after = found[round(2.1 * HZ):]
    assert variation(after) < 0.01
    wanted = lengths(truth).mean(axis=0)
    is_long = wanted > 0.2  # noise lengthens short bones
    np.testing.assert_allclose(lengths(after).mean(axis=0)[is_long], wanted[is_long], rtol=0.08)


def test_smoothing_without_constant_bones_shortens_them():
    truth, noisy = noisy_walk(300)
    stream = edgepose.Stream(Told(noisy), "h36m17", (1280, 720), smoothing=edgepose.OneEuro(1.0, 2.0))
    _, root_m = approaching(300, speed_m_s=-0.2)
    found = np.stack([stream.push(points, i / HZ).joints_m
                      for i, points in enumerate(seen_by(truth + root_m[:, None]))])
    assert variation(found[60:]) > 0.05


def test_a_stream_is_learnt_anew_for_another_person():
    joints_m, root_m = approaching(200, speed_m_s=-0.2)
    bodies = np.concatenate([joints_m[:100], 0.7 * joints_m[100:]])
    stream = edgepose.Stream(Told(bodies), "h36m17", (1280, 720), constant_bones=True)
    times_s = np.arange(200) / HZ + np.where(np.arange(200) < 100, 0, 5.0)
    found = np.stack([stream.push(points, time_s).joints_m
                      for points, time_s in zip(seen_by(joints_m + root_m[:, None]), times_s)])
    np.testing.assert_allclose(lengths(found[100:]).mean(), 0.7 * lengths(found[:100]).mean(), rtol=0.01)


@pytest.mark.parametrize("model", ["ampose", "posemlp", "dln-s"])
def test_constant_bones_do_not_cost_a_real_person_accuracy(model):
    """A man on a beam, three cameras; the reference is good to some 30 mm."""
    raw, held = [], []
    for name in ("balance_cam1", "balance_cam2", "balance_cam3"):
        clip = load_clip(name)
        poses, _ = stream_clip(edgepose.load(model), clip)
        joints_m, wanted_m = np.stack([pose.joints_m for pose in poses]), clip.reference_m[:len(poses)]
        constant = with_constant_bones(joints_m, H36M17)
        assert variation(joints_m) > 0.1 and variation(constant) < 1e-5
        raw.append(mpjpe_mm(joints_m, wanted_m))
        held.append(mpjpe_mm(constant, wanted_m))
    assert np.mean(held) < np.mean(raw) + 1.0


def test_joints_of_another_skeleton_are_refused():
    with pytest.raises(ValueError, match=r"joints_m has shape \(5, 16, 3\); wanted \(N, 17, 3\)"):
        with_constant_bones(np.zeros((5, 16, 3)), H36M17)
    with pytest.raises(ValueError, match="lengths_m has 'tail'"):
        with_constant_bones(np.zeros((5, 17, 3)), H36M17, {"tail": 1.0})
