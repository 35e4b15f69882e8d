import time

import numpy as np
import pytest
from test_datasets import clip
from tiny_datasets import H36M_ACTIONS, write_3dhp_test, write_h36m, write_humaneva

from edgepose.camera import flip_left_right
from edgepose.metrics import p_mpjpe
from edgepose.skeleton import H36M16, H36M17
from edgepose.training import protocols
from edgepose.training.datasets import read_dataset
from edgepose.training.protocols import papers_table, predict, run_flipped


class Knows:
    """An engine that knows every clip's pose by the middle frame's keypoints, and adds error_m(clip) (17, 3)."""

    frames, skeleton = 3, H36M17

    def __init__(self, clips, error_m=lambda clip: 0.0):
        self.answers = {}
        for c in clips:
            keypoints, joints = c.windows(c.centres, 1)
            for k, j in zip(keypoints[:, 0], joints[:, 0]):
                self.answers[k.tobytes()] = j + np.asarray(error_m(c), np.float32)

    def run(self, keypoints_norm, out=None):
        assert keypoints_norm.dtype == np.float32 and keypoints_norm.flags.c_contiguous
        assert keypoints_norm.shape[1:] == (self.frames, len(self.skeleton), 2)
        return np.stack([self.answers[window[1].tobytes()] for window in keypoints_norm])


def off(metres, joint="head"):
    """An error of one joint alone."""
    error = np.zeros((17, 3))
    error[H36M17.index(joint), 2] = metres
    return error


def test_human36m_has_its_fifteen_actions_and_their_mean_last(tmp_path):
    clips = read_dataset("h36m", write_h36m(tmp_path, frames=3, takes=H36M_ACTIONS), "test")
    size = {action: 0.017 * i for i, action in enumerate(H36M_ACTIONS)}
    table = papers_table(Knows(clips, lambda c: off(size[c.action])), "h36m", clips)
    assert list(table) == ["P1", "P2"]
    assert list(table["P1"]) == ["Dir.", "Disc.", "Eat", "Greet", "Phone", "Photo", "Pose",
                                 "Purch.", "Sit", "SitD.", "Smoke", "Wait", "WalkD.", "Walk", "WalkT.", "Avg."]
    np.testing.assert_allclose(list(table["P1"].values()), [*range(15), 7], atol=1e-3)
    eating = 1000 * np.concatenate([c.joints_m - c.joints_m[:, :1] for c in clips if c.action == "Eating"])
    assert table["P2"]["Eat"] == pytest.approx(p_mpjpe(eating + off(34), eating), abs=1e-3)


def test_an_action_counts_alike_however_long_its_takes_are(tmp_path):
    clips = read_dataset("h36m", write_h36m(tmp_path, frames=3, takes=("Walking", "Walking 1", "Eating")), "test")
    table = papers_table(Knows(clips, lambda c: off(0.017 if c.action == "Eating" else 0.034)), "h36m", clips)
    assert table["P1"] == pytest.approx({"Eat": 1, "Walk": 2, "Avg.": 1.5}, abs=1e-3)


def test_an_action_the_papers_do_not_know_is_refused(tmp_path):
    clips = read_dataset("h36m", write_h36m(tmp_path, takes=("Walking", "Flying")), "test")
    with pytest.raises(ValueError, match="'Flying' is not in the protocol of h36m; it has Directions"):
        papers_table(Knows(clips), "h36m", clips)


def test_3dhp_is_scored_by_scene_and_averaged_over_frames(tmp_path):
    clips = read_dataset("mpi-inf-3dhp", write_3dhp_test(tmp_path), "test")
    clips = [c for c in clips if c.subject != "TS6" or c.action == "Sitting"]  # 4 + 4, 4 + 4 and 4 + 2 frames
    error = {"green screen": 0.0, "no green screen": 0.017, "outdoor": 0.17}
    table = papers_table(Knows(clips, lambda c: off(error[c.camera])), "mpi-inf-3dhp", clips)
    assert list(table) == ["PCK", "AUC", "MPJPE"] and list(table["PCK"]) == ["GS", "no GS", "Outdoor", "Avg."]
    assert list(table["MPJPE"].values()) == pytest.approx([0, 1, 10, (8 * 1 + 6 * 10) / 22], abs=1e-3)
    assert list(table["PCK"].values()) == pytest.approx([100, 100, 100 * 13 / 14, 100 * (22 - 6 / 14) / 22])
    assert table["AUC"]["GS"] == pytest.approx(100 * 30 / 31)
    assert table["AUC"]["no GS"] == pytest.approx(100 * (13 * 30 + 27) / (14 * 31))  # 17 mm is below 20, 25, ... 150


@pytest.mark.parametrize("joint, counts",
                         [("spine", False), ("nose", False), ("head", True), ("thorax", True), ("left_hip", True)])
def test_pck_of_3dhp_counts_fourteen_joints(tmp_path, joint, counts):
    clips = read_dataset("mpi-inf-3dhp", write_3dhp_test(tmp_path), "test")
    table = papers_table(Knows(clips, lambda c: off(0.2, joint)), "mpi-inf-3dhp", clips)
    assert table["PCK"]["Avg."] == pytest.approx(100 * 13 / 14 if counts else 100)
    assert table["MPJPE"]["Avg."] == pytest.approx(200 / 17, abs=1e-3)


def test_humaneva_is_scored_by_action_and_subject_over_the_joints_it_has(tmp_path):
    clips = read_dataset("humaneva", write_humaneva(tmp_path), "test")
    table = papers_table(Knows(clips, lambda c: off(5.0, "spine") + off(5.0, "nose") + off(0.015 * int(c.subject[1]))),
                         "humaneva", clips)
    assert table["P1"] == pytest.approx({
        "Walk S1": 1, "Walk S2": 2, "Walk S3": 3, "Jog S1": 1, "Jog S2": 2, "Jog S3": 3, "Box S1": 1,
        "Box S2": 2, "Box S3": 3, "Avg.": 2}, abs=1e-3)


def test_only_frames_that_count_are_predicted_and_in_batches_as_at_once(monkeypatch):
    c = clip(20, valid=np.arange(20) % 3 != 0)
    model = Knows([c], lambda c: off(0.1))
    at_once = predict(model, c)
    monkeypatch.setattr(protocols, "BATCH", 4)
    for a, b in zip(predict(model, c)[:2], at_once[:2]):
        assert len(a) == 13
        np.testing.assert_array_equal(a, b)
    np.testing.assert_allclose(at_once[1], (c.joints_m - c.joints_m[:, :1])[c.valid], rtol=1e-6)


def test_a_model_of_sixteen_joints_is_fed_and_scored_with_its_own():
    c = clip(6)

    class Sixteen:
        frames, skeleton = 1, H36M16

        def run(self, keypoints_norm, out=None):
            rows = [H36M17.index(joint) for joint in H36M16.joints]
            expected = c.windows(c.centres, 1)
            np.testing.assert_array_equal(keypoints_norm, expected[0][:, :, rows])
            return expected[1][:, 0, rows]

    predicted, target, joints = predict(Sixteen(), c)
    assert joints == list(H36M16.joints)
    np.testing.assert_array_equal(predicted, target)


def test_flip_averaging_is_the_mean_with_the_mirrored_pose_mirrored_back():
    rng = np.random.default_rng(0)
    weights = rng.normal(size=(34, 51)).astype(np.float32)

    class Linear:
        frames, skeleton = 1, H36M17
        calls = 0

        def run(self, keypoints_norm, out=None):
            self.calls += 1
            return (keypoints_norm.reshape(len(keypoints_norm), -1) @ weights).reshape(-1, 17, 3)

    model, keypoints = Linear(), rng.normal(size=(4, 1, 17, 2)).astype(np.float32)
    averaged = run_flipped(model, keypoints)
    assert model.calls == 1
    mirrored = flip_left_right(model.run(flip_left_right(keypoints, H36M17)), H36M17)
    np.testing.assert_allclose(averaged, (model.run(keypoints) + mirrored) / 2, atol=1e-5)
    # The average does not depend on the side: the mirrored input has the mirrored answer.
    np.testing.assert_allclose(run_flipped(model, flip_left_right(keypoints, H36M17)),
                               flip_left_right(averaged, H36M17), atol=1e-5)


def test_the_cost_of_flipping_is_the_ratio_of_the_times(monkeypatch):
    monkeypatch.setattr(protocols, "TIMED", 5)

    class Slow:
        frames, skeleton = 1, H36M17

        def run(self, keypoints_norm, out=None):
            time.sleep(0.002 * len(keypoints_norm))
            return np.zeros((len(keypoints_norm), 17, 3), np.float32)

    plain_ms, flip_ms = protocols.flip_cost(Slow(), np.zeros((1, 1, 17, 2), np.float32))
    assert plain_ms >= 2 and flip_ms >= 4 and flip_ms > plain_ms
