import pytest

from edgepose.skeleton import H36M16, H36M17, Skeleton


@pytest.mark.parametrize("skeleton", [H36M17, H36M16])
def test_mirror_swaps_left_and_right_and_is_its_own_inverse(skeleton):
    assert tuple(skeleton.mirror[j] for j in skeleton.mirror) == tuple(range(len(skeleton)))
    for joint, twin in zip(skeleton.joints, (skeleton.joints[j] for j in skeleton.mirror)):
        assert twin == joint.replace("left", "?").replace("right", "left").replace("?", "right")


@pytest.mark.parametrize("skeleton", [H36M17, H36M16])
def test_the_tree_is_symmetric(skeleton):
    for parent, joint in skeleton.bones:
        assert (skeleton.mirror[parent], skeleton.mirror[joint]) in skeleton.bones


def test_h36m_order_is_that_of_the_data_set():
    assert H36M17.parents == (-1, 0, 1, 2, 0, 4, 5, 0, 7, 8, 9, 8, 11, 12, 8, 14, 15)
    assert [H36M17.index(j) for j in ("pelvis", "right_ankle", "left_ankle", "nose", "head",
                                      "left_wrist", "right_wrist")] == [0, 3, 6, 9, 10, 13, 16]
    assert H36M17.mirror == (0, 4, 5, 6, 1, 2, 3, 7, 8, 9, 10, 14, 15, 16, 11, 12, 13)


def test_leaving_out_the_nose_hangs_the_head_from_the_thorax():
    assert len(H36M16) == 16 and "nose" not in H36M16.joints
    assert H36M16.parents[H36M16.index("head")] == H36M16.index("thorax")
    assert H36M16.depths[H36M16.index("right_wrist")] == 5


@pytest.mark.parametrize("joints, parents, message", [
    (("a", "a"), (-1, 0), "twice"),
    (("left_a", "b"), (-1, 0), "right_a"),
    (("a", "b", "c"), (-1, 2, 1), "tree"),
    (("a", "b"), (-1, -1), "one root"),
    (("a", "b"), (-1, 7), "tree"),
])
def test_a_malformed_skeleton_is_refused(joints, parents, message):
    with pytest.raises(ValueError, match=message):
        Skeleton("broken", joints, parents)


def test_an_unknown_joint_is_answered_with_the_names():
    with pytest.raises(ValueError, match="no joint 'tail'.*pelvis"):
        H36M17.index("tail")
