"""The place of a person in front of a camera: lenses with distortion, depth over time, sizes, depth cameras."""

import json

import cv2
import numpy as np
import pytest

import edgepose
from edgepose.camera import checked_distortion, guessed_intrinsics, undistorted, with_depths
from edgepose.clip import CLIPS, load_clip
from edgepose.columns import lengths_of_height
from edgepose.skeleton import H36M17
from walking import walk

SIZE, CAMERA = (1280, 720), (900.0, 910.0, 650.0, 350.0)
BARREL = (-0.28, 0.09, 0.001, -0.0008, -0.012)
HZ = 30.0


class Told:
    """A lifter that answers with the poses it is told, so that only the place is to be found."""

    frames, skeleton, rate_hz = 1, H36M17, 50.0

    def __init__(self, joints_m, size=1.0):
        self._answers = iter(np.float32(size * joints_m))

    def run(self, windows, out=None):
        return np.stack([next(self._answers) for _ in windows])


def approaching(frames=90, speed_m_s=-1.0, start_m=5.0):
    """(joints from the root (F, 17, 3), root (F, 3)): somebody who walks towards the camera."""
    joints_m = walk(frames, HZ).numpy() * [1, -1, -1]  # y up becomes y down
    root_m = np.stack([np.full(frames, 0.4), np.full(frames, -0.1), start_m + speed_m_s * np.arange(frames) / HZ], 1)
    return joints_m - joints_m[:, :1], root_m


def seen_by(points_m, distortion=None):
    """(F, 17, 2) px, by OpenCV."""
    matrix = np.array([[CAMERA[0], 0, CAMERA[2]], [0, CAMERA[1], CAMERA[3]], [0, 0, 1]])
    flat, _ = cv2.projectPoints(np.float64(points_m).reshape(-1, 3), np.zeros(3), np.zeros(3), matrix,
                                np.array(distortion or (0.0,) * 4))
    return flat.reshape(*points_m.shape[:2], 2)


def placed(joints_m, keypoints, size=1.0, **options):
    """The poses of a stream with a camera."""
    stream = edgepose.Stream(Told(joints_m, size), "h36m17", SIZE, **{"camera": CAMERA, **options})
    return [stream.push(points, i / HZ) for i, points in enumerate(keypoints)]


@pytest.mark.parametrize("distortion", [BARREL, BARREL[:4], (0.12, -0.3, 0.0004, 0.0002, 0.11, 0.02, 0.01, -0.004)])
def test_pixels_lose_the_distortion_that_opencv_gives_them(distortion):
    pixels = np.random.default_rng(0).uniform((150, 80), (1130, 640), (500, 2))
    matrix = np.array([[CAMERA[0], 0, CAMERA[2]], [0, CAMERA[1], CAMERA[3]], [0, 0, 1]])
    rays = np.column_stack([(pixels - CAMERA[2:]) / CAMERA[:2], np.ones(len(pixels))])
    seen, _ = cv2.projectPoints(rays, np.zeros(3), np.zeros(3), matrix, np.array(distortion))
    assert np.abs(seen[:, 0] - pixels).max() > 3
    np.testing.assert_allclose(undistorted(seen[:, 0], CAMERA, distortion), pixels, atol=1e-6)


def test_a_pixel_beyond_what_a_lens_can_show_has_no_undistorted_place():
    assert np.isnan(undistorted([[6000.0, 350.0]], CAMERA, (-0.3, 0.0, 0.0, 0.0))).all()


@pytest.mark.parametrize("distortion", [None, BARREL])
def test_the_root_is_where_the_person_stands_through_any_lens(distortion):
    joints_m, root_m = approaching()
    poses = placed(joints_m, seen_by(joints_m + root_m[:, None], distortion), distortion=distortion)
    for pose, wanted in zip(poses, root_m):
        np.testing.assert_allclose(pose.root_m, wanted, atol=0.05)  # at first its speed is unknown
        assert (pose.root_error_m > 0).all()


def test_without_telling_the_distortion_the_place_is_off():
    joints_m, root_m = approaching()
    poses = placed(joints_m, seen_by(joints_m + root_m[:, None], BARREL))
    assert max(abs(pose.root_m - wanted).max() for pose, wanted in zip(poses, root_m)) > 0.05


def test_without_a_camera_the_place_is_not_known_and_a_guess_is_stated():
    joints_m, root_m = approaching(10)
    keypoints = seen_by(joints_m + root_m[:, None])
    assert all(pose.root_m is None and pose.root_error_m is None for pose in placed(joints_m, keypoints, camera=None))
    camera = guessed_intrinsics(SIZE, 2 * np.degrees(np.arctan(SIZE[0] / 2 / CAMERA[0])))
    assert camera == pytest.approx((CAMERA[0], CAMERA[0], 640, 360))
    assert placed(joints_m, keypoints, camera=camera)[-1].root_m[2] == pytest.approx(root_m[-1, 2], rel=0.03)
    assert guessed_intrinsics(SIZE)[0] == pytest.approx(640 / np.tan(np.radians(30)))


def test_depth_is_calm_under_noise_and_does_not_lag():
    rng = np.random.default_rng(1)
    joints_m, root_m = approaching(300, speed_m_s=-0.3, start_m=6)
    noisy = joints_m * rng.normal(1, 0.03, (300, 1, 1))
    poses = placed(noisy, seen_by(joints_m + root_m[:, None]))
    off = np.array([pose.root_m[2] for pose in poses])[60:] - root_m[60:, 2]
    raw = (rng.normal(1, 0.03, 240) - 1) * root_m[60:, 2]
    assert off.std() < 0.6 * raw.std() and abs(off.mean()) < 0.03


def test_the_stated_error_covers_a_person_of_another_size():
    joints_m, root_m = approaching()
    keypoints = seen_by(joints_m + root_m[:, None])
    for size in (0.9, 1.1):
        for pose, wanted in zip(placed(joints_m, keypoints, size), root_m):
            assert (abs(pose.root_m - wanted) < 2 * pose.root_error_m + 0.01).all()


def height_of(joints_m):
    """The standing height by the parts of columns.HEIGHT_PARTS."""
    at = {joint: joints_m[0, H36M17.index(joint)] for joint in H36M17.joints}
    parts = (("left_hip", "left_knee"), ("left_knee", "left_ankle"), ("pelvis", "spine"), ("spine", "thorax"))
    return sum(np.linalg.norm(at[a] - at[b]) for a, b in parts) / 0.782


def test_a_height_sets_the_size_of_the_pose_and_its_place():
    joints_m, root_m = approaching()
    poses = placed(joints_m, seen_by(joints_m + root_m[:, None]), size=1.25, height_m=height_of(joints_m))
    for pose, wanted, joints in zip(poses, root_m, joints_m):
        np.testing.assert_allclose(pose.root_m, wanted, atol=0.05)  # at first its speed is unknown
        np.testing.assert_allclose(pose.joints_m, joints, atol=2e-3)


@pytest.mark.parametrize("missing", [(), ("pelvis", "left_hip")])
def test_a_depth_camera_says_where_the_person_is_within_two_centimetres(missing):
    rng = np.random.default_rng(2)
    joints_m, root_m = approaching(speed_m_s=-1.2)
    points_m = joints_m + root_m[:, None]
    depth_m = points_m[..., 2] + rng.normal(0, 0.004, points_m.shape[:2])
    depth_m[:, [H36M17.index(joint) for joint in missing]] = np.nan
    rows = np.concatenate([seen_by(points_m), np.ones((*depth_m.shape, 1)), depth_m[..., None]], axis=-1)
    for pose, wanted in zip(placed(joints_m, rows, size=1.0 if missing else 1.2), root_m):
        np.testing.assert_allclose(pose.root_m, wanted, atol=0.02)
        assert pose.root_error_m[2] < 0.07


def test_the_size_that_a_depth_camera_showed_holds_when_it_sees_nothing_any_more():
    joints_m, root_m = approaching()
    points_m = joints_m + root_m[:, None]
    depth_m = np.where(np.arange(90)[:, None] < 45, points_m[..., 2], 0)
    rows = np.concatenate([seen_by(points_m), np.ones((90, 17, 1)), depth_m[..., None]], axis=-1)
    poses = placed(joints_m, rows, size=1.2, height_m="learn")
    np.testing.assert_allclose(poses[-1].root_m, root_m[-1], atol=0.03)
    np.testing.assert_allclose(poses[-1].joints_m, joints_m[-1], atol=0.01)
    untold = placed(joints_m, rows, size=1.2)[-1]
    np.testing.assert_allclose(untold.root_m, root_m[-1], atol=0.03)
    np.testing.assert_allclose(untold.joints_m, 1.2 * joints_m[-1], atol=1e-5)


def test_a_depth_picture_gives_each_keypoint_its_depth():
    picture = np.zeros((60, 80), np.uint16)
    picture[20:31, 30:41] = 2500
    picture[25, 35] = 0
    rows = with_depths([[35, 25, 0.9], [5, 5, 0.8], [99, 5, 0.7]], picture)
    np.testing.assert_allclose(rows, [[35, 25, 0.9, 2.5], [5, 5, 0.8, np.nan], [99, 5, 0.7, np.nan]])
    np.testing.assert_array_equal(with_depths(np.zeros((2, 3, 2)), picture / 1000).shape, (2, 3, 4))
    with pytest.raises(ValueError, match="depth_m is float64 of shape .2, 3, 4.; wanted numbers, .height, width."):
        with_depths([[1, 2]], np.zeros((2, 3, 4)))


def test_who_is_not_seen_for_long_is_nowhere():
    joints_m, root_m = approaching(80)
    keypoints = list(seen_by(joints_m + root_m[:, None]))
    keypoints[20:] = [None] * 60
    poses = placed(joints_m, keypoints, max_gap_s=3.0)
    share = [pose.root_error_m[2] / pose.root_m[2] for pose in poses[:45]]
    assert share[44] > 1.2 * share[19]
    assert poses[-1] is not None and poses[-1].root_m is None


@pytest.mark.parametrize("camera, words", [((900, 900, 2000, 360), "centred at .2000, 360. px, outside the picture of "
                                            "1280 x 720: these intrinsics are those of another picture")])
def test_intrinsics_of_another_picture_are_refused(camera, words):
    with pytest.raises(ValueError, match=words):
        edgepose.Stream(Told(np.zeros((1, 17, 3))), "h36m17", SIZE, camera=camera)


def test_intrinsics_that_may_be_of_another_picture_are_said_and_counted():
    joints_m, root_m = approaching(3)
    stream = edgepose.Stream(Told(joints_m), "h36m17", SIZE, camera=(300, 300, 160, 120))
    with pytest.warns(UserWarning, match="the lens is centred far from the middle of the picture"):
        stream.push(seen_by(joints_m + root_m[:, None])[0], 0.0)
    assert stream.notices["other_lens"] == 1


@pytest.mark.parametrize("options, words", [
    ({"distortion": (0.1,) * 6}, "wanted OpenCV's 4, 5 or 8 finite numbers"),
    ({"distortion": (np.nan,) * 4}, "wanted OpenCV's 4, 5 or 8 finite numbers"),
    ({"distortion": (0.1,) * 4, "camera": None}, "the distortion is known and the lens is not"),
    ({"height_m": 3.0}, "height_m is 3.0; wanted a number from 0.5 to 2.5"),
    ({"height_m": "guess"}, "height_m is 'guess'; wanted metres, 'learn' or None"),
    ({"height_m": "learn", "camera": None}, "the height is to be learnt and the lens is not known"),
    ({"lengths_m": {"thigh": 0.4}}, "takes no lengths of a person; wanted none, a model that does, or constant bones")])
def test_impossible_options_are_refused(options, words):
    with pytest.raises(ValueError, match=words):
        edgepose.Stream(Told(np.zeros((1, 17, 3))), "h36m17", SIZE, **{"camera": CAMERA, **options})


def test_no_distortion_is_eight_zeros():
    assert checked_distortion(None) == [0.0] * 8 and checked_distortion((1, 2, 3, 4)) == [1, 2, 3, 4, 0, 0, 0, 0]


@pytest.mark.parametrize("name", ["balance_cam1", "balance_cam2", "balance_cam3"])
@pytest.mark.parametrize("model", ["ampose", "posemlp"])
def test_a_real_person_is_within_8_percent_of_the_true_distance(name, model):
    """The truth is the place from which the clip's own triangulated pose is seen at its keypoints, with its lens."""
    clip = load_clip(name)
    with np.load(CLIPS / f"{name}.npz") as arrays:
        matrix = arrays["camera_K"]
    camera = (matrix[0, 0], matrix[1, 1], matrix[0, 2], matrix[1, 2])
    stream = edgepose.Stream(edgepose.load(model), clip.layout, clip.image_size, camera=camera)
    off = []
    for i in range(len(clip.keypoints_px)):
        pose = stream.push(clip.seen_in(i), clip.time_of(i))
        truth_m = edgepose.camera.root_translation(clip.reference_m[i], pose.keypoints_norm,
                                                   pose.confidence * pose.is_seen, edgepose.camera.H36M_FOCAL,
                                                   edgepose.camera.H36M_FOCAL, 0, 0)
        off.append(abs(pose.root_m[2] / truth_m[2] - 1))
    assert np.median(off) < 0.08


def test_a_pose_turns_into_json():
    joints_m, root_m = approaching(1)
    pose = placed(joints_m, seen_by(joints_m + root_m[:, None]))[0]
    read = json.loads(pose.to_json())
    assert read == pose.to_dict() and read["timestamp_s"] == 0 and read["was_reset"] is True
    assert read["joints_m"]["left_knee"] == pytest.approx(pose.joints_m[H36M17.index("left_knee")], abs=1e-6)
    assert read["root_m"] == pytest.approx(pose.root_m, abs=1e-6) and "error_m" not in read
    assert read["is_seen"]["head"] is True and set(read["confidence"]) == set(H36M17.joints)


def test_lengths_of_a_height_are_those_of_the_size():
    lengths = lengths_of_height(1.7)
    assert sum(lengths[name] for name in ("thigh", "shank", "trunk")) / 0.782 == pytest.approx(1.7)
