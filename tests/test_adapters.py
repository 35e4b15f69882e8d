import itertools
import json

import numpy as np
import pytest

from edgepose.adapters import ADAPTERS, BODY25, COCO17, HALPE26, MEDIAPIPE33, MPII16, Adapter
from edgepose.clip import load_clip
from edgepose.engine import load
from edgepose.skeleton import H36M16, H36M17
from edgepose.stream import Stream

LAYOUTS = {"coco17": COCO17, "coco17-demo": COCO17, "halpe26": HALPE26, "body25": BODY25,
           "body25b": ADAPTERS["body25b"].layout, "mediapipe33": MEDIAPIPE33,
           "openpose18": ADAPTERS["openpose18"].layout, "wholebody133": ADAPTERS["wholebody133"].layout,
           "mpii16": MPII16, "h36m17": H36M17, "h36m16": H36M16}
WITH_EYES = [name for name, layout in LAYOUTS.items() if "left_eye" in layout.joints and name != "coco17-demo"]
LIMBS = [joint for joint in H36M17.joints if joint.startswith(("left_", "right_"))]

PERSON_PX = np.array([
    (702, 211), (716, 196), (690, 199), (741, 204), (676, 210), (790, 322), (640, 338), (850, 440), (588, 455),
    (872, 560), (530, 540), (762, 604), (668, 611), (790, 770), (640, 782), (776, 930), (655, 941)], float)


def as_dict(adapter, keypoints_px):
    xy, confidence = adapter(keypoints_px)
    return dict(zip(adapter.skeleton.joints, xy)), dict(zip(adapter.skeleton.joints, confidence))


def random_keypoints(layout, seed=0):
    rng = np.random.default_rng(seed)
    return np.concatenate([rng.uniform(0, 1000, (len(layout), 2)), rng.uniform(0.5, 1, (len(layout), 1))], axis=1)


def sources_of(layout_name, joint):
    """The keypoints that move the joint or change its confidence, found by trying each."""
    adapter, layout = ADAPTERS[layout_name], LAYOUTS[layout_name]
    at, found = adapter.skeleton.index(joint), set()
    keypoints = random_keypoints(layout)
    for k, keypoint in enumerate(layout.joints):
        moved, doubted = keypoints.copy(), keypoints.copy()
        moved[k, :2] += 10
        doubted[k, 2] = 0.4
        moves = not np.allclose(adapter(moved)[0][at], adapter(keypoints)[0][at])
        assert moves == (adapter(doubted)[1][at] == 0.4) or layout_name == "coco17-demo"
        if moves:
            found.add(keypoint)
    return found


def test_the_table_has_a_row_per_layout_under_its_own_name():
    assert list(ADAPTERS) == list(LAYOUTS)
    for name, adapter in ADAPTERS.items():
        assert adapter.layout.name == name and adapter.layout.joints == LAYOUTS[name].joints
        assert adapter.skeleton is H36M17


@pytest.mark.parametrize("name, expected", [
    ("coco17", {"pelvis": (715, 607.5), "spine": (715, 468.75), "thorax": (715, 330), "nose": (702, 211),
                "head": (703, 197.5), "right_ankle": (655, 941), "right_wrist": (530, 540)}),
    ("coco17-demo", {"pelvis": (715, 607.5), "spine": (719.3333, 468.75), "thorax": (710.6667, 299.3333),
                     "nose": (705.25, 240.75), "head": (705.75, 184), "right_ankle": (655, 941),
                     "right_wrist": (530, 540)}),
])
def test_the_published_person_converts_to_the_published_joints(name, expected):
    xy, _ = as_dict(ADAPTERS[name], PERSON_PX)
    for joint, place in expected.items():
        np.testing.assert_allclose(xy[joint], place, atol=1e-4, err_msg=joint)
    for joint in LIMBS:
        np.testing.assert_array_equal(xy[joint], PERSON_PX[COCO17.index(joint)])


@pytest.mark.parametrize("name", LAYOUTS)
def test_limb_joints_are_copied_exactly_with_their_confidence(name):
    keypoints = random_keypoints(LAYOUTS[name])
    xy, confidence = as_dict(ADAPTERS[name], keypoints)
    for joint in LIMBS:
        np.testing.assert_array_equal([*xy[joint], confidence[joint]], keypoints[LAYOUTS[name].index(joint)])


@pytest.mark.parametrize("name", LAYOUTS)
def test_joints_move_and_grow_with_the_person(name):
    keypoints = random_keypoints(LAYOUTS[name])[:, :2]
    xy, _ = ADAPTERS[name](keypoints)
    moved, _ = ADAPTERS[name](2 * keypoints + [100, -50])
    np.testing.assert_allclose(moved, 2 * xy + [100, -50], atol=1e-9)


@pytest.mark.parametrize("name, joint, expected", [
    ("halpe26", "pelvis", {"hip"}), ("halpe26", "spine", {"neck", "hip"}), ("halpe26", "thorax", {"neck"}),
    ("halpe26", "nose", {"nose"}), ("halpe26", "head", {"left_eye", "right_eye"}),
    ("body25", "pelvis", {"mid_hip"}), ("body25", "spine", {"neck", "mid_hip"}), ("body25", "thorax", {"neck"}),
    ("body25", "nose", {"nose"}), ("body25", "head", {"left_eye", "right_eye"}),
    ("body25b", "pelvis", {"left_hip", "right_hip"}), ("body25b", "thorax", {"left_shoulder", "right_shoulder"}),
    ("mediapipe33", "pelvis", {"left_hip", "right_hip"}),
    ("mediapipe33", "spine", {"left_hip", "right_hip", "left_shoulder", "right_shoulder"}),
    ("mediapipe33", "nose", {"nose"}), ("mediapipe33", "head", {"left_eye", "right_eye"}),
    ("mpii16", "pelvis", {"pelvis"}), ("mpii16", "spine", {"pelvis", "thorax"}), ("mpii16", "thorax", {"thorax"}),
    ("mpii16", "nose", {"thorax", "head_top"}), ("mpii16", "head", {"thorax", "head_top"}),
    ("h36m16", "nose", {"thorax", "head"}),
])
def test_derived_joints_come_from_the_keypoints_of_the_specification(name, joint, expected):
    assert sources_of(name, joint) == expected


def test_the_right_ear_of_mediapipe_does_not_become_the_thorax():
    assert MEDIAPIPE33.joints[8] == "right_ear"
    assert sources_of("mediapipe33", "thorax") == {"left_shoulder", "right_shoulder"}
    keypoints = np.zeros((33, 2))
    keypoints[[11, 12]] = (100, 50), (60, 54)
    np.testing.assert_array_equal(as_dict(ADAPTERS["mediapipe33"], keypoints)[0]["thorax"], (80, 52))


@pytest.mark.parametrize("layout, positions", [
    (ADAPTERS["body25b"].layout,
     {"upper_neck": 17, "head_top": 18, "left_big_toe": 19, "right_heel": 24, "left_wrist": 9}),
    (HALPE26, {"head": 17, "neck": 18, "hip": 19, "right_heel": 25, "left_wrist": 9}),
    (BODY25, {"neck": 1, "right_shoulder": 2, "left_shoulder": 5, "mid_hip": 8, "right_ankle": 11, "left_ankle": 14,
              "right_eye": 15, "left_ear": 18, "right_heel": 24}),
    (MEDIAPIPE33, {"left_eye": 2, "right_eye": 5, "left_shoulder": 11, "right_wrist": 16, "left_thumb": 21,
                   "left_hip": 23, "right_ankle": 28, "right_foot_index": 32}),
    (MPII16, {"right_ankle": 0, "pelvis": 6, "thorax": 7, "head_top": 9, "right_wrist": 10, "left_wrist": 15}),
    (ADAPTERS["openpose18"].layout, {"neck": 1, "right_shoulder": 2, "left_wrist": 7, "right_hip": 8,
                                     "left_ankle": 13, "left_ear": 17}),
    (ADAPTERS["wholebody133"].layout, {"nose": 0, "right_ankle": 16, "left_big_toe": 17, "right_heel": 22,
                                       "face_0": 23, "left_hand_0": 91, "right_hand_20": 132}),
    (COCO17, {"nose": 0, "left_eye": 1, "right_ear": 4, "left_shoulder": 5, "right_wrist": 10, "left_hip": 11,
              "right_ankle": 16}),])
def test_keypoints_are_where_the_detector_puts_them(layout, positions):
    assert {joint: layout.index(joint) for joint in positions} == positions


def test_the_neck_and_head_of_mpii_are_weighted():
    keypoints = np.zeros((16, 2))
    keypoints[MPII16.index("thorax")] = 120, 240
    xy, _ = as_dict(ADAPTERS["mpii16"], keypoints)
    np.testing.assert_allclose(xy["nose"], (90, 180))
    np.testing.assert_allclose(xy["head"], (50, 100))


def test_a_missing_keypoint_of_body25_does_not_drag_a_midpoint_silently():
    keypoints = random_keypoints(BODY25)
    keypoints[BODY25.index("mid_hip")] = 0
    keypoints[BODY25.index("left_eye")] = 0
    _, confidence = as_dict(ADAPTERS["body25"], keypoints)
    assert [joint for joint, c in confidence.items() if c == 0] == ["pelvis", "spine"]


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_missing_keypoint_that_is_nan_spoils_only_joints_of_confidence_zero(name):
    keypoints = random_keypoints(LAYOUTS[name])
    for k in range(len(keypoints)):
        broken = keypoints.copy()
        broken[k] = np.nan, np.nan, 0
        xy, confidence = ADAPTERS[name](broken)
        assert np.isfinite(xy[confidence > 0]).all()


def test_without_confidence_every_joint_is_sure():
    xy, confidence = ADAPTERS["coco17-demo"](PERSON_PX)
    assert confidence.shape == (17,) and (confidence == 1).all()


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_clip_converts_as_its_frames_do_to_the_bit(name):
    clip = np.stack([random_keypoints(LAYOUTS[name], seed) for seed in range(6)])
    clip[2, :, 2] = 0.1
    xy, confidence = ADAPTERS[name](clip.reshape(2, 3, *clip.shape[1:]))
    assert xy.shape == (2, 3, 17, 2) and confidence.shape == (2, 3, 17)
    for frame, frame_xy, frame_confidence in zip(clip, xy.reshape(6, 17, 2), confidence.reshape(6, 17)):
        np.testing.assert_array_equal(ADAPTERS[name](frame)[0], frame_xy)
        np.testing.assert_array_equal(ADAPTERS[name](frame)[1], frame_confidence)


def with_hidden(layout, *hidden, confidence=0.29, place=(5, 5)):
    """A frame in which some keypoints are hardly visible."""
    keypoints = random_keypoints(layout)
    for keypoint in hidden:
        keypoints[layout.index(keypoint)] = *place, confidence
    return keypoints


EYES, EARS = ("left_eye", "right_eye"), ("left_ear", "right_ear")
FACE = ("nose", *EYES, *EARS)
# Replacements for a joint of the face as more and more is hidden, measured on real detections.
NOSE_FROM = [("nose",), EYES, EYES[:1], EYES[1:], EARS, EARS[:1], EARS[1:]]
HEAD_FROM = [EYES, EYES[:1], EYES[1:], EARS, EARS[:1], EARS[1:], ("nose",)]


@pytest.mark.parametrize("name", WITH_EYES)
@pytest.mark.parametrize("joint, places", [("nose", NOSE_FROM), ("head", HEAD_FROM)])
def test_nose_and_head_are_the_first_place_of_the_table_that_is_seen(name, joint, places):
    layout = LAYOUTS[name]
    for hidden in (subset for size in range(6) for subset in itertools.combinations(FACE, size)):
        keypoints = with_hidden(layout, *hidden)
        xy, confidence = as_dict(ADAPTERS[name], keypoints)
        place = next((place for place in places if not set(place) & set(hidden)), None)
        if place:
            sources = keypoints[[layout.index(keypoint) for keypoint in place]]
            np.testing.assert_allclose(xy[joint], sources[:, :2].mean(0), err_msg=str(hidden))
            assert confidence[joint] == sources[:, 2].min()
        else:
            shoulders, hips = (keypoints[[layout.index(f"{side}_{part}") for side in ("left", "right")], :2].mean(0)
                               for part in ("shoulder", "hip"))
            np.testing.assert_allclose(xy[joint], shoulders + {"nose": 0.30, "head": 0.36}[joint] * (shoulders - hips))
            assert confidence[joint] == 0.3


@pytest.mark.parametrize("name", [*WITH_EYES, "coco17-demo"])
def test_a_guessed_head_is_no_surer_than_the_trunk(name):
    keypoints = with_hidden(LAYOUTS[name], *FACE)
    keypoints[LAYOUTS[name].index("left_hip"), 2] = 0.1
    _, confidence = as_dict(ADAPTERS[name], keypoints)
    assert confidence["head"] == confidence["nose"] == 0.1


def test_the_head_of_every_layout_with_eyes_is_the_middle_of_the_eyes():
    at = {keypoint: PERSON_PX[COCO17.index(keypoint)] for keypoint in COCO17.joints}
    for name in WITH_EYES:
        keypoints = np.array([at.get(keypoint, (9, 9)) for keypoint in LAYOUTS[name].joints], float)
        np.testing.assert_array_equal(as_dict(ADAPTERS[name], keypoints)[0]["head"], (703, 197.5))


@pytest.mark.parametrize("hidden, changed", [
    ("nose", {"spine": (715, 468.75), "thorax": (715, 330), "nose": (715, 330 - 0.25 * 277.5),
              "head": (715, 330 - 0.5 * 277.5)}),
    ("left_eye", {"thorax": (715, 330), "head": (715, 330 - 0.5 * 277.5)}),
    ("right_eye", {"thorax": (715, 330), "head": (715, 330 - 0.5 * 277.5)}),
    ("left_ear", {"head": (703, 184)}), ("right_ear", {"head": (703, 184)})])
def test_the_demos_joints_that_need_a_hidden_part_of_the_face_do_without(hidden, changed):
    keypoints = np.concatenate([PERSON_PX, np.full((17, 1), 0.9)], axis=1)
    whole, _ = as_dict(ADAPTERS["coco17-demo"], keypoints)
    keypoints[COCO17.index(hidden)] = 5, 5, 0.29
    xy, confidence = as_dict(ADAPTERS["coco17-demo"], keypoints)
    for joint, place in {**whole, **changed}.items():
        np.testing.assert_allclose(xy[joint], place, err_msg=joint)
    assert confidence["spine"] == confidence["thorax"] == 0.9
    assert confidence["head"] == (0.9 if hidden.endswith("ear") else 0.3)


@pytest.mark.parametrize("faint", ["left_shoulder", "left_hip"])
def test_a_faint_trunk_does_not_change_the_demos_recipe(faint):
    keypoints = np.concatenate([PERSON_PX, np.full((17, 1), 0.9)], axis=1)
    keypoints[COCO17.index(faint), 2] = 0.2
    np.testing.assert_array_equal(ADAPTERS["coco17-demo"](keypoints)[0], ADAPTERS["coco17-demo"](PERSON_PX)[0])


def test_a_face_just_seen_is_used():
    keypoints = np.concatenate([PERSON_PX, np.full((17, 1), 0.3)], axis=1)
    np.testing.assert_array_equal(ADAPTERS["coco17-demo"](keypoints)[0], ADAPTERS["coco17-demo"](PERSON_PX)[0])


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_model_of_16_joints_gets_all_but_the_nose(name):
    keypoints = random_keypoints(LAYOUTS[name])
    keypoints[:3, 2] = 0.1
    narrow, full = ADAPTERS[name].onto(H36M16), ADAPTERS[name]
    common_joints = [H36M17.index(joint) for joint in H36M16.joints]
    for few, all_joints in zip(narrow(keypoints), full(keypoints)):
        np.testing.assert_array_equal(few, all_joints[common_joints])


def test_h36m16_is_the_identity_for_a_model_of_16_joints_and_has_its_nose_filled_in_for_17():
    keypoints = random_keypoints(H36M16)
    xy, confidence = ADAPTERS["h36m16"].onto(H36M16)(keypoints)
    np.testing.assert_array_equal(np.column_stack([xy, confidence]), keypoints)
    xy, _ = as_dict(ADAPTERS["h36m16"], keypoints)
    np.testing.assert_allclose(xy["nose"], (xy["thorax"] + xy["head"]) / 2)


OWN = {**{joint: joint for joint in LIMBS}, "pelvis": ("left_hip", "right_hip"),
       "spine": {"left_hip": 0.5, "chin": 0.5}, "thorax": "chin",
       "nose": {"chin": (0.25, 1), "left_hip": (0.75, 0)}, "head": "chin"}


def test_a_layout_of_ones_own_is_a_mapping_by_name():
    joints = ["chin", *LIMBS]
    keypoints = random_keypoints(joints)
    adapter = Adapter.from_mapping(OWN, joints=joints)
    xy, confidence = as_dict(adapter, keypoints)
    at = {joint: keypoints[joints.index(joint)] for joint in joints}
    np.testing.assert_allclose(xy["pelvis"], (at["left_hip"] + at["right_hip"])[:2] / 2)
    np.testing.assert_allclose(xy["spine"], (at["left_hip"] + at["chin"])[:2] / 2)
    np.testing.assert_allclose(xy["nose"], [0.25 * at["chin"][0] + 0.75 * at["left_hip"][0], at["chin"][1]])
    assert confidence["nose"] == min(at["chin"][2], at["left_hip"][2])
    without_nose = Adapter.from_mapping({j: s for j, s in OWN.items() if j != "nose"}, joints=joints)
    np.testing.assert_allclose(as_dict(without_nose, keypoints)[0]["nose"], (xy["thorax"] + xy["head"]) / 2)


UPPER = {"thorax": ("left_shoulder", "right_shoulder"), "nose": "nose", "head": "nose",
         **{f"{side}_{joint}": f"{side}_{joint}" for side in ("left", "right")
            for joint in ("shoulder", "elbow", "wrist")}}
UPPER_KEYPOINTS = ["nose", *(joint for joint in UPPER if "_" in joint)]
HIDDEN = dict.fromkeys([joint for joint in H36M17.joints if joint not in UPPER])


def test_a_joint_that_a_detector_does_not_give_is_never_sure():
    adapter = Adapter.from_mapping({**UPPER, **HIDDEN}, UPPER_KEYPOINTS)
    _, confidence = as_dict(adapter, random_keypoints(UPPER_KEYPOINTS))
    assert {joint for joint, sure in confidence.items() if sure == 0} == set(HIDDEN)
    _, without_head = as_dict(Adapter.from_mapping({**UPPER, **HIDDEN, "nose": None, "head": None}, UPPER_KEYPOINTS),
                              random_keypoints(UPPER_KEYPOINTS))
    assert without_head["nose"] == without_head["head"] == 0


def test_an_upper_body_alone_gives_a_pose_for_every_frame():
    clip = load_clip("balance_cam1")
    adapter = Adapter.from_mapping({**UPPER, **HIDDEN}, UPPER_KEYPOINTS, "desk")
    stream = Stream(load("ampose"), adapter, clip.image_size)
    columns = [COCO17.index(keypoint) for keypoint in UPPER_KEYPOINTS]
    for frame, keypoints_px in enumerate(clip.keypoints_px):
        pose = stream.push(keypoints_px[columns], clip.time_of(frame))
        seen = {joint for joint, is_seen in zip(H36M17.joints, pose.is_seen) if is_seen}
        assert seen and seen <= set(UPPER) and np.isfinite(pose.joints_m).all()


def test_a_layout_with_nothing_to_place_a_body_by_is_refused():
    with pytest.raises(ValueError, match="layout 'custom' detects no hip and not both shoulders, so it can place"):
        Adapter.from_mapping({**UPPER, **HIDDEN, "left_shoulder": None}, UPPER_KEYPOINTS)


def test_a_layout_is_read_from_a_file(tmp_path):
    keypoints, file = random_keypoints(UPPER_KEYPOINTS), tmp_path / "desk.json"
    file.write_text(json.dumps({"keypoints": UPPER_KEYPOINTS, "joints": {**UPPER, **HIDDEN}}))
    mine = Adapter.from_file(file)
    assert mine.layout.name == "desk" and mine.layout.joints == tuple(UPPER_KEYPOINTS)
    for read, written in zip(mine(keypoints), Adapter.from_mapping({**UPPER, **HIDDEN}, UPPER_KEYPOINTS)(keypoints)):
        np.testing.assert_array_equal(read, written)


@pytest.mark.parametrize("content, message", [
    ("{", "desk.json is no JSON file"), ("[]", 'desk.json: wanted {"keypoints": '),
    ('{"keypoints": []}', "desk.json: wanted"),
    (json.dumps({"keypoints": ["nose"], "joints": {"nose": "nose"}}), "desk.json: layout 'desk' leaves out 'pelvis'"),
    (json.dumps({"keypoints": [1], "joints": {"nose": "nose"}}), "desk.json: joints is .1.; wanted the names"),
])
def test_a_file_that_is_no_layout_is_named(tmp_path, content, message):
    (tmp_path / "desk.json").write_text(content)
    with pytest.raises(ValueError, match=message):
        Adapter.from_file(tmp_path / "desk.json")


@pytest.mark.parametrize("change, message", [
    ({"head": None}, "leaves out .*'head'"),
    ({"tail": "chin"}, "unknown .*'tail'"),
    ({"head": "chinn"},
     "joint 'head' comes from 'chinn', and the detector has no joint 'chinn'; did you mean chin\\?; it has chin, "),
    ({"left_wrist": None, "left_rist": "left_wrist"},
     "has the unknown joint 'left_rist'; did you mean left_wrist.*\\?; leaves out 'left_wrist'; wanted"),
    ({7: "chin"}, "unknown joint 7; wanted"),
    ({joint: None for joint in LIMBS[:9]}, "leaves out ('[a-z_]+', ){5}and 4 more; wanted"),
    ({"head": {"chin": 0.9}}, r"'head' sum to \[0.9 0.9\].*wanted 1"),
    ({"head": {"chin": (1, 0.5)}}, "'head' sum to"), ({"head": ()}, r"joint 'head' comes from \(\); wanted a keypoint"),
    ({"head": 3}, "joint 'head' comes from 3; wanted a keypoint"),
    ({"head": {"chin": "x"}}, "weights of joint 'head'"),])
def test_a_mapping_that_cannot_be_right_is_refused(change, message):
    mapping = {joint: sources for joint, sources in {**OWN, **change}.items() if sources is not None}
    with pytest.raises(ValueError, match=message):
        Adapter.from_mapping(mapping, joints=["chin", *LIMBS])


@pytest.mark.parametrize("joints", ["chin", [1, 2], [None]])
def test_keypoints_without_names_are_refused(joints):
    with pytest.raises(TypeError, match="wanted the names of the detector's keypoints"):
        Adapter.from_mapping(OWN, joints=joints)


@pytest.mark.parametrize("shape", [(16, 2), (17,), (17, 4), (17, 1), (0, 3), (), (3, 18, 2)])
def test_keypoints_that_do_not_fit_the_layout_are_refused(shape):
    with pytest.raises(ValueError, match=r'layout "coco17" needs \(17, 2\) or \(17, 3\)'):
        ADAPTERS["coco17"](np.zeros(shape))
    with pytest.raises(ValueError, match=r'layout "body25" needs \(25, 2\) or \(25, 3\)'):
        ADAPTERS["body25"](np.zeros(shape))


def test_a_skeleton_with_joints_the_adapter_does_not_give_is_refused():
    with pytest.raises(ValueError, match="no joint 'left_eye'"):
        ADAPTERS["coco17"].onto(COCO17)


def test_without_confidences_a_keypoint_in_the_corner_was_not_found():
    keypoints = random_keypoints(COCO17.joints)[:, :2]
    keypoints[COCO17.index("left_wrist")] = 0
    _, confidence = ADAPTERS["coco17"](keypoints)
    assert [joint for joint, sure in zip(H36M17.joints, confidence) if not sure] == ["left_wrist"]
