import gc
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
from walking import film

import edgepose
from edgepose.adapters import ADAPTERS, COCO17
from edgepose.clip import load_windows
from edgepose.metrics import mpjpe
from edgepose.pictures import detector as d

SIZE = (128, 96)
ASPECT = 96 / 128


def ramp(height=200, width=250):
    """A picture whose red is x and whose green is y."""
    image = np.zeros((height, width, 3), np.uint8)
    image[..., 0], image[..., 1] = np.arange(width), np.arange(height)[:, None]
    return image


@pytest.mark.parametrize("box", [(100.3, 90.7, 60.0, 80.0), (5.0, 100.0, 75.0, 100.0), (245.0, 195.0, 150.0, 200.0),
                                 (120.0, 20.0, 33.0, 44.0)])
def test_a_crop_holds_the_picture_where_to_picture_says(box):
    box = np.array(box)
    part = d.crop(ramp(), box, SIZE)
    y, x = np.mgrid[:SIZE[0], :SIZE[1]]
    places = d.to_picture(np.stack([x, y], -1), box, SIZE)
    inside = ((places >= 0) & (places <= [249, 199])).all(-1)
    # Bilinear interpolation is exact on a ramp; the rest is float32 of numbers up to 255 and four products.
    np.testing.assert_allclose(part[inside][:, :2], places[inside], atol=8 * 255 * np.finfo(np.float32).eps)
    outside = ((places < -1) | (places > [250, 200])).any(-1)
    assert not part[outside].any() and outside.any() == (box[0] in (5.0, 245.0) or box[1] == 20.0)


def test_the_corners_of_a_crop_are_those_of_its_box():
    height, width = SIZE
    for box in np.random.default_rng(0).uniform([-100, -100, 10, 10], [500, 500, 900, 900], (20, 4)):
        for corner in ([0, 0], [width, 0], [0, height], [width, height]):
            side = np.sign(np.array(corner) - [width / 2, height / 2])
            np.testing.assert_allclose(d.to_picture(np.array(corner), box, SIZE), box[:2] + side * box[2:] / 2,
                                       rtol=0, atol=1e-9)
        # The centre of the box.
        np.testing.assert_allclose(d.to_picture(np.array([width / 2, height / 2]), box, SIZE), box[:2])


@pytest.mark.parametrize("low, high, wanted", [
    ((100, 50), (200, 250), (150, 150, 250 * 0.75, 250)),  # tall: its height counts
    ((0, 0), (300, 100), (150, 50, 375, 500))])  # wide: its width counts
def test_a_box_keeps_the_shape_of_the_network_and_a_quarter_of_room(low, high, wanted):
    np.testing.assert_allclose(d.padded_box(np.array(low), np.array(high), 0.75), wanted)


def test_a_person_with_few_seen_keypoints_is_lost():
    keypoints = np.column_stack([np.arange(17), np.arange(17) * 2, np.full(17, 0.1)])
    keypoints[:5, 2] = 0.9
    assert d.box_around(keypoints, ASPECT)[1] == 4  # the centre of the five seen ones alone
    keypoints[0, 2] = 0.1
    assert d.box_around(keypoints, ASPECT) is None


def gaussians(points, size=(32, 24), sigma=2.0):
    y, x = np.mgrid[:size[0], :size[1]]
    return np.exp(-((x - points[:, :1, None]) ** 2 + (y - points[:, 1:, None]) ** 2)
                  / (2 * sigma**2)).astype(np.float32)


def test_a_drawn_gaussian_is_found_to_a_quarter_of_a_pixel():
    points = np.random.default_rng(0).uniform([2, 2], [21, 29], (500, 2))
    found = d.decode(gaussians(points))
    # The maximum is at most half a pixel away on each axis, on the side of its higher neighbour; after a shift of a
    # quarter of a pixel to that side at most a quarter is left. Without the shift it is a half.
    assert np.abs(found[:, :2] - points).max() <= 0.25 + 1e-6
    assert np.abs(np.round(found[:, :2]) - points).max() > 0.45
    np.testing.assert_allclose(found[:, 2], np.exp(-((np.round(points) - points) ** 2).sum(1) / 8), atol=1e-6)
    # A point in the middle of a pixel needs no shift.
    np.testing.assert_array_equal(d.decode(gaussians(np.array([[7.0, 9.0]])))[0, :2], [7, 9])


def test_a_maximum_at_the_edge_is_not_shifted_and_confidence_is_at_most_one():
    heatmaps = np.zeros((3, 32, 24), np.float32)
    heatmaps[0, 0, 5], heatmaps[1, 31, 23], heatmaps[2, 4, 4] = 0.5, 2.0, -1.0
    found = d.decode(heatmaps)
    np.testing.assert_array_equal(found[:2], [[5, 0, 0.5], [23, 31, 1.0]])
    assert found[2, 2] == 0


def test_the_heatmaps_of_the_mirrored_crop_come_back_mirrored_and_exchanged():
    points = np.random.default_rng(1).uniform([9, 9], [15, 22], (17, 2))
    # Heatmap pixel i is the crop's pixel 4 i; the crop's pixel u is 95 - u in the mirrored crop.
    mirrored = np.column_stack([(95 - 4 * points[:, 0]) / 4, points[:, 1]])[list(COCO17.mirror)]
    back = d.unflipped(gaussians(mirrored))
    mass = back / back.sum((1, 2), keepdims=True)
    y, x = np.mgrid[:32, :24]
    # A shift of a whole pixel makes up for three quarters: a quarter is left.
    np.testing.assert_allclose((mass * x).sum((1, 2)), points[:, 0] + 0.25, atol=0.02)
    np.testing.assert_allclose((mass * y).sum((1, 2)), points[:, 1], atol=0.02)


@pytest.mark.parametrize("image, error, message", [
    (np.zeros((9, 9, 3)), TypeError, "image is float64"), ([[1]], TypeError, "image is list"),
    (None, TypeError, "NoneType"),
    (np.zeros((9, 9), np.uint8), ValueError, r"shape \(9, 9\); wanted \(height, width, 3\)"),
    (np.zeros((9, 9, 4), np.uint8), ValueError, r"\(9, 9, 4\)"),
    (np.zeros((0, 9, 3), np.uint8), ValueError, r"\(0, 9, 3\)")])
def test_what_is_no_picture_is_refused(image, error, message):
    with pytest.raises(error, match=message):
        d.checked_image(image)


@pytest.fixture(scope="module")
def shipped():
    pytest.importorskip("onnxruntime", reason="the shipped detector runs in onnxruntime")
    return edgepose.open_detector("shipped")


@pytest.fixture(scope="module")
def movie():
    return film(24, seed=0)


def test_a_rendered_walk_is_found_and_lifted_from_pictures_alone(shipped, movie):
    shipped.reset()
    stream = edgepose.Stream(edgepose.load("ampose"), shipped.layout, (movie.frames.shape[2], movie.frames.shape[1]))
    poses, errors = [], []
    for i, image in enumerate(movie.frames.numpy()):
        keypoints = shipped(image)
        errors.append(np.linalg.norm(keypoints[:, :2] - movie.keypoints_px[i].numpy(), axis=1))
        poses.append(stream.push(keypoints, i / movie.fps).joints_m)
    height = np.ptp(movie.keypoints_px[..., 1].numpy(), axis=1).mean()
    assert np.median(errors) < 0.05 * height
    truth = movie.joints_m.numpy()
    mean_pose = np.broadcast_to(load_windows(1)[1].mean(0), truth.shape)
    # The lifter alone is 33 mm off, the mean pose 187 mm: to be a third below that, the detector must mostly tell left
    # from right.
    assert mpjpe(np.array(poses) * 1e3, truth * 1e3) < 2 / 3 * mpjpe(mean_pose * 1e3, truth * 1e3)


def test_the_box_follows_the_person_and_is_looked_for_again_after_a_loss(shipped, movie):
    shipped.reset()
    image = movie.frames[0].numpy()
    first = shipped(image)
    seen_px = first[first[:, 2] >= d.SEEN_ABOVE, :2]
    np.testing.assert_allclose(shipped._box[:2], (seen_px.min(0) + seen_px.max(0)) / 2)
    tracked = shipped.in_box(image, shipped._box)
    # From the second picture on it searches in the last box, not in the whole picture.
    np.testing.assert_array_equal(shipped(image), tracked)
    assert shipped(np.zeros_like(image)) is None and shipped._box is None
    np.testing.assert_array_equal(shipped(image), first)


def test_the_flip_test_is_the_mean_of_both_views(shipped, movie):
    flipping = edgepose.open_detector("shipped", flip_test=True)
    image, box = movie.frames[0].numpy(), np.array([128.0, 96.0, 144.0, 192.0])
    part = d.crop(image, box, flipping.size)
    views = [shipped.heatmaps(d.normalised(view)) for view in (part, part[:, ::-1])]
    found = d.decode((views[0] + d.unflipped(views[1])) / 2)
    np.testing.assert_allclose(flipping.in_box(image, box)[:, :2], d.to_picture(4 * found[:, :2], box, flipping.size))
    assert not np.array_equal(flipping.in_box(image, box), shipped.in_box(image, box))


@pytest.mark.parametrize("name, options, error, message", [
    ("yolo", {}, ValueError, "no detector 'yolo'; wanted \"shipped\""),
    ("gone.onnx", {}, FileNotFoundError, "no detector at gone.onnx"),
    ("rtmlib", {"flip_test": True}, ValueError, "rtmlib has no flip test")])
def test_a_detector_that_cannot_be_had_is_answered(name, options, error, message):
    pytest.importorskip("onnxruntime")
    with pytest.raises(error, match=message):
        edgepose.open_detector(name, **options)


def test_a_file_that_is_no_such_network_is_refused(tmp_path):
    pytest.importorskip("onnxruntime")
    (tmp_path / "a.onnx").write_bytes(b"nothing")
    with pytest.raises(ValueError, match="no ONNX file that onnxruntime can run"):
        edgepose.open_detector(tmp_path / "a.onnx")
    shape = (1, 3, 64, 64)
    values = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape) for name in ("x", "y")]
    graph = onnx.helper.make_graph([onnx.helper.make_node("Relu", ["x"], ["y"])], "g", values[:1], values[1:])
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8),
              tmp_path / "b.onnx")
    with pytest.raises(ValueError, match=r"gives \[1, 3, 64, 64\]; wanted \(1, 3, H, W\) -> \(1, 17, H / 4, W / 4\)"):
        edgepose.open_detector(tmp_path / "b.onnx")


@pytest.mark.parametrize("name, library, package", [("shipped", "onnxruntime", r"'edgepose\[video\]'"),
                                                    ("mediapipe", "mediapipe", "'mediapipe<0.10.30'"),
                                                    ("rtmlib", "rtmlib", "rtmlib")])
def test_a_missing_library_is_named_with_what_to_install(monkeypatch, name, library, package):
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ImportError, match=f"needs {library}, which is not installed: pip install {package}"):
        edgepose.open_detector(name)


LANDMARKS = [SimpleNamespace(x=i / 100, y=i / 50, z=0.0, visibility=i / 40) for i in range(33)]


def fake_mediapipe(calls, with_solutions):
    """MediaPipe's two interfaces, as its documentation describes them."""
    class Pose:
        def __init__(self, static_image_mode, model_complexity=1):
            assert static_image_mode is False

        def close(self):
            calls["closed"] = calls.get("closed", 0) + 1

        def process(self, image):
            assert image.dtype == np.uint8 and image.shape == (50, 200, 3)
            return SimpleNamespace(pose_landmarks=SimpleNamespace(landmark=LANDMARKS) if image.any() else None)

    class Landmarker:
        @classmethod
        def create_from_options(cls, options):
            assert options.running_mode == "video" and options.num_poses == 1
            assert options.base_options.model_asset_path.endswith("pose.task")
            if Path(options.base_options.model_asset_path).read_bytes() != b"model":
                raise RuntimeError("Unable to open zip archive.\n and a stack of its own")
            calls["last_ms"] = -1
            return cls()

        def close(self):
            calls["closed"] = calls.get("closed", 0) + 1

        def __del__(self):
            calls["gone"] = calls.get("gone", 0) + 1

        def detect_for_video(self, picture, timestamp_ms):
            assert isinstance(timestamp_ms, int) and timestamp_ms > calls["last_ms"] and picture.image_format == "srgb"
            calls["last_ms"] = timestamp_ms
            return SimpleNamespace(pose_landmarks=[LANDMARKS] if picture.data.any() else [])

    vision = SimpleNamespace(PoseLandmarker=Landmarker, PoseLandmarkerOptions=SimpleNamespace,
                             RunningMode=SimpleNamespace(VIDEO="video"))
    module = SimpleNamespace(tasks=SimpleNamespace(vision=vision, BaseOptions=SimpleNamespace), Image=SimpleNamespace,
                             ImageFormat=SimpleNamespace(SRGB="srgb"))
    if with_solutions:
        module.solutions = SimpleNamespace(pose=SimpleNamespace(Pose=Pose))
    return module


@pytest.mark.parametrize("name", ["mediapipe", "pose.task"])
def test_mediapipe_answers_in_pixels_with_its_visibility(monkeypatch, tmp_path, name):
    monkeypatch.setitem(sys.modules, "mediapipe", fake_mediapipe({"last_ms": -1}, with_solutions=name == "mediapipe"))
    if name != "mediapipe":
        (tmp_path / name).write_bytes(b"model")
        name = str(tmp_path / name)
    detector = edgepose.open_detector(name)
    image = np.full((50, 200, 3), 9, np.uint8)
    for _ in range(2):
        found = detector(image)
        # x times the width, y times the height.
        np.testing.assert_allclose(found[7], [7 / 100 * 200, 7 / 50 * 50, 7 / 40])
        assert found.shape == (33, 3) and len(ADAPTERS[detector.layout].layout) == 33
    assert detector(np.zeros_like(image)) is None


def test_a_mediapipe_without_a_model_says_to_give_one(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "mediapipe", fake_mediapipe({}, with_solutions=False))
    with pytest.raises(ValueError, match="came without a model: pip install 'mediapipe<0.10.30', which "
                       "has one, or give a pose_landmarker.task"):
        edgepose.open_detector("mediapipe")
    with pytest.raises(FileNotFoundError, match="gone.task"):
        edgepose.open_detector("gone.task")


def test_mediapipe_is_freed_with_its_detector_without_the_garbage_collector(monkeypatch, tmp_path):
    calls = {}
    monkeypatch.setitem(sys.modules, "mediapipe", fake_mediapipe(calls, with_solutions=False))
    (tmp_path / "pose.task").write_bytes(b"model")
    gc.disable()
    try:
        detector = edgepose.open_detector(tmp_path / "pose.task")
        detector(np.full((50, 200, 3), 9, np.uint8))
        del detector
        assert calls["gone"] == 1
    finally:
        gc.enable()


@pytest.mark.parametrize("name", ["mediapipe", "pose.task"])
def test_mediapipe_is_closed_and_another_film_starts_afresh(monkeypatch, tmp_path, name):
    calls = {"last_ms": -1}
    monkeypatch.setitem(sys.modules, "mediapipe", fake_mediapipe(calls, with_solutions=name == "mediapipe"))
    (tmp_path / "pose.task").write_bytes(b"model")
    image = np.full((50, 200, 3), 9, np.uint8)
    with edgepose.open_detector(name if name == "mediapipe" else tmp_path / name) as detector:
        first = detector(image)
        detector.reset()
        assert calls["closed"] == 1
        np.testing.assert_array_equal(detector(image), first)
    assert calls["closed"] == 2
    with pytest.raises(ValueError, match="MediaPipeDetector is closed: open another one"):
        detector(image)
    detector.close()
    assert calls["closed"] == 2


def test_a_task_file_that_mediapipe_cannot_read_is_named_in_a_line(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "mediapipe", fake_mediapipe({}, with_solutions=False))
    (tmp_path / "pose.task").write_bytes(b"half a mod")
    with pytest.raises(ValueError, match="pose.task is no .task file of a pose landmarker that mediapipe "
                       "can read: Unable to open zip archive.$"):
        edgepose.open_detector(tmp_path / "pose.task")


def test_a_closed_hrnet_says_so():
    with edgepose.open_detector("shipped") as detector:
        detector.reset()
    with pytest.raises(ValueError, match="HRNetDetector is closed"):
        detector(np.zeros((64, 64, 3), np.uint8))


def saved_network(path, sides):
    value = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, 3, *sides]) for name in ("x", "y")]
    graph = onnx.helper.make_graph([onnx.helper.make_node("Relu", ["x"], ["y"])], "g", value[:1], value[1:])
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8), path)
    return path


def test_rtmlib_takes_files_and_their_sizes(monkeypatch, tmp_path):
    sizes = {}

    class Network:
        def __init__(self, file, model_input_size, backend, device, **options):
            sizes[file] = model_input_size
            self.is_pose = "to_openpose" in options

        def __call__(self, image, bboxes=None):
            if not self.is_pose:
                return [[1, 2, 3, 4]]
            assert bboxes == [[1, 2, 3, 4]]
            return np.arange(34.0).reshape(1, 17, 2), np.full((1, 17), 0.9)

    monkeypatch.setitem(sys.modules, "rtmlib", SimpleNamespace(YOLOX=Network, RTMPose=Network))
    person, pose = (saved_network(tmp_path / "person.onnx", (416, 320)),
                    saved_network(tmp_path / "pose.onnx", (256, 192)))
    with edgepose.open_detector(f"rtmlib:{person},{pose}") as detector:
        # rtmlib wants (height, width) for the first network, (width, height) for the second.
        assert sizes == {str(person): (416, 320), str(pose): (192, 256)}
        np.testing.assert_array_equal(detector(np.zeros((64, 64, 3), np.uint8))[:, :2], np.arange(34.0).reshape(17, 2))
    with pytest.raises(ValueError, match="RtmlibDetector is closed"):
        detector(np.zeros((64, 64, 3), np.uint8))


def test_files_of_rtmlib_that_do_not_do_are_refused(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "rtmlib", SimpleNamespace())
    with pytest.raises(FileNotFoundError, match="no detector at gone.onnx"):
        edgepose.open_detector("rtmlib:gone.onnx,gone.onnx")
    file = saved_network(tmp_path / "a.onnx", ("height", "width"))
    with pytest.raises(ValueError, match="a.onnx takes .*; wanted pictures of one size"):
        edgepose.open_detector(f"rtmlib:{file},{file}")
    with pytest.raises(ValueError, match='wanted "rtmlib:PERSON.onnx,POSE.onnx"'):
        edgepose.open_detector(f"rtmlib:{file}")


def test_rtmlib_gets_bgr_and_the_person_is_kept(monkeypatch):
    people = np.random.default_rng(0).uniform(10, 50, (2, 17, 2)) + np.array([0, 100])[:, None, None]
    state = {"order": [0, 1], "scores": np.array([0.9, 0.5])}

    class Body:
        def __init__(self, mode, to_openpose, backend, device):
            assert not to_openpose

        def __call__(self, image):
            assert image.flags.c_contiguous and image[0, 0].tolist() == [3, 2, 1]
            order = state["order"]
            scores = np.repeat(state["scores"][order][:, None], 17, 1) if order else np.zeros((0, 17))
            return people[order] if order else np.zeros((0, 17, 2)), scores

    monkeypatch.setitem(sys.modules, "rtmlib", SimpleNamespace(Body=Body))
    detector = edgepose.open_detector("rtmlib")
    image = np.full((200, 200, 3), [1, 2, 3], np.uint8)
    np.testing.assert_array_equal(detector(image)[:, :2], people[0])
    state.update(order=[1, 0], scores=np.array([0.5, 0.9]))  # the second person is clearer now and comes first
    np.testing.assert_array_equal(detector(image)[:, :2], people[0])
    state.update(order=[])
    assert detector(image) is None
    state.update(order=[1, 0], scores=np.array([0.1, 1.4]))
    found = detector(image)
    np.testing.assert_array_equal(found[:, :2], people[1])
    assert found[:, 2].max() == 1 and detector.layout == "coco17"
