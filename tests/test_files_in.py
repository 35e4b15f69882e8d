"""The files of other programs, each as its producer writes it: read to the same keypoints."""

import io
import json
import re

import numpy as np
import pytest

from edgepose.adapters import ADAPTERS
from edgepose.cli import main
from edgepose.clip import load_clip, read_people

CLIP = load_clip("balance_cam1")
FOUND = CLIP.keypoints_px[:30]  # COCO's 17
WIDTH, HEIGHT = map(int, CLIP.image_size)
SAYS = {"image_size": CLIP.image_size, "fps": 60.0}


def passer_by(i):
    """Somebody else, far from the man of the clip."""
    return FOUND[29 - i] + (300, 0, 0)


def as_body25(coco):
    names, body25 = ADAPTERS["coco17"].layout, ADAPTERS["body25"].layout
    keypoints = np.zeros((25, 3))
    for i, joint in enumerate(body25.joints):
        if joint in names.joints:
            keypoints[i] = coco[names.index(joint)]
    for middle, pair in (("neck", ("left_shoulder", "right_shoulder")), ("mid_hip", ("left_hip", "right_hip"))):
        keypoints[body25.index(middle)] = np.mean([coco[names.index(joint)] for joint in pair], axis=0)
    return keypoints


def openpose(*people):
    return json.dumps({"version": 1.3, "people": [{
        "person_id": [-1], "pose_keypoints_2d": [float(x) for x in as_body25(person).ravel()], "face_keypoints_2d": [],
        "hand_left_keypoints_2d": []} for person in people]})


def openpose_folder(folder, frames=range(30), people=lambda i: [FOUND[i]], film="walk"):
    folder.mkdir(exist_ok=True)
    for i in frames:
        (folder / f"{film}_{i:012d}_keypoints.json").write_text(openpose(*people(i)))
    return folder


def results(path, entries):
    path.write_text(json.dumps(entries))
    return path


def coco_entry(i, keypoints, image_id=None, **more):
    return {"image_id": i if image_id is None else image_id, "category_id": 1, "score": 0.9,
            "keypoints": keypoints.ravel().tolist(), **more}


def instance(keypoints, **more):
    return {"keypoints": keypoints[:, :2].tolist(), "keypoint_scores": keypoints[:, 2].tolist(),
            "bbox": [[1, 2, 3, 4]], **more}


def detectron(path, people, image_size=(WIDTH, HEIGHT)):
    """As VideoPose3D's infer_video_d2.py: per frame and class (people, 4, 17): x, y, logit, probability."""
    keypoints = np.empty((len(people), 2), object)
    for i, some in enumerate(people):
        keypoints[i, 0], keypoints[i, 1] = np.zeros((0, 4, 17)), np.zeros((0, 4, 17))
        if some:
            keypoints[i, 1] = np.stack([[*person[:, :2].T, 9 * person[:, 2], person[:, 2]] for person in some])
    np.savez_compressed(path, boxes=keypoints, segments=np.array([None] * len(people)), keypoints=keypoints,
                        metadata={"w": image_size[0], "h": image_size[1]})
    return path


def custom(path, keypoints, films=("walk.mp4",), layout_name="coco"):
    np.savez_compressed(path, positions_2d={film: {"custom": [keypoints]} for film in films},
                        metadata={"layout_name": layout_name, "num_joints": 17,
                                  "video_metadata": {film: {"w": WIDTH, "h": HEIGHT} for film in films}})
    return path


def saved(path, **arrays):
    np.savez(path, **arrays)
    return path


def npy(path, array):
    np.save(path, array)
    return path


def table(path, keypoints, heading=None):
    np.savetxt(path, keypoints.reshape(len(keypoints), -1), delimiter=",", header=heading or "", comments="")
    return path


def heading(columns=("x", "y", "confidence")):
    return ",".join(f"{joint}_{column}" for joint in ADAPTERS["coco17"].layout.joints for column in columns)


FILES = {  # the file of a man in every frame; the layout that --layout must say, if any
    "COCO": (lambda d: results(d / "a.json", [coco_entry(i, FOUND[i]) for i in range(30)]), None),
    "AlphaPose": (lambda d: results(d / "a.json", [coco_entry(i, FOUND[i], f"{i}.jpg", idx=1, box=[1, 2, 3, 4])
                                                   for i in range(30)]), None),
    "AlphaPose without a tracker": (lambda d: results(d / "a.json", [coco_entry(i, FOUND[i], f"{i}.jpg", idx=[0.0])
                                                                     for i in range(30)]), None),
    "MMPose": (lambda d: results(d / "a.json", [{"frame_id": i, "instances": [instance(FOUND[i])]}
                                                for i in range(30)]), None),
    "MMPose's demo": (lambda d: results(d / "a.json", {
        "meta_info": {"dataset_name": "coco"},
        "instance_info": [{"frame_id": i + 1, "instances": [instance(FOUND[i])]} for i in range(30)]}), None),
    "Detectron2": (lambda d: detectron(d / "walk.mp4.npz", [[man] for man in FOUND]), None),
    "npy": (lambda d: npy(d / "a.npy", FOUND), "coco17"),
    "npy of people": (lambda d: npy(d / "a.npy", FOUND[:, None]), "coco17"),
    "csv": (lambda d: table(d / "a.csv", FOUND), "coco17"),
    "csv with a heading": (lambda d: table(d / "a.csv", FOUND, heading()), "coco17"),
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_is_read_to_the_keypoints_in_it(tmp_path, name):
    write, layout = FILES[name]
    people = read_people(write(tmp_path), layout, **SAYS)
    assert len(people) == 1 and people[0].layout == "coco17" and people[0].fps == 60
    np.testing.assert_allclose(people[0].keypoints_px, FOUND, atol=1e-9)


@pytest.mark.parametrize("name", FILES)
def test_a_file_streams_as_it_is(tmp_path, name, capsys):
    write, layout = FILES[name]
    arguments = ["--layout", layout] if layout else []
    assert main(["stream", "--clip", str(write(tmp_path)), "--fps", "60", "--image-size", str(WIDTH), str(HEIGHT),
                 *arguments]) == 0
    assert "30 frames at 60 Hz -> 30 poses" in capsys.readouterr().out


def test_openpose_writes_a_folder_in_which_frames_and_people_may_be_missing(tmp_path):
    folder = openpose_folder(tmp_path / "walk", [i for i in range(5, 30) if i != 20], lambda i: [FOUND[i]] * (i != 12))
    clip, = read_people(folder, **SAYS)
    assert clip.layout == "body25" and len(clip.keypoints_px) == 25 and clip.name == "walk"
    assert [i + 5 for i in range(25) if clip.seen_in(i) is None] == [12, 20]
    np.testing.assert_allclose(clip.keypoints_px[3], as_body25(FOUND[8]))


def test_a_broken_frame_of_a_folder_loses_no_other(tmp_path):
    folder = openpose_folder(tmp_path / "walk")
    for i, text in ((3, '{"people": [{"pose_keypoi'), (4, "[]"), (5, '{"people": [{"pose_keypoints_2d": [1, 2]}]}')):
        (folder / f"walk_{i:012d}_keypoints.json").write_text(text)
    with pytest.warns(UserWarning, match=r"walk: 3 of 30 files are broken, .*walk_000000000003_keypoints.json: "):
        clip, = read_people(folder, **SAYS)
    assert [i for i in range(30) if clip.seen_in(i) is None] == [3, 4, 5]


def test_body_25b_is_not_taken_for_body_25(tmp_path):
    for i, man in enumerate(FOUND):
        flat = np.vstack([man, np.full((8, 3), 500.0)]).ravel().tolist()
        (tmp_path / f"cam01.{i:04d}.json").write_text(json.dumps({"people": [{"pose_keypoints_2d": flat}]}))
    with pytest.raises(ValueError, match="say the layout of its 25 keypoints: --layout, one of .*body25b"):
        read_people(tmp_path, **SAYS)
    clip, = read_people(tmp_path, "body25b", **SAYS)
    np.testing.assert_allclose(clip.keypoints_px[:, :17], FOUND)


def test_a_frame_by_itself_is_a_film_of_one(tmp_path):
    clip, = read_people(openpose_folder(tmp_path / "walk") / "walk_000000000007_keypoints.json", **SAYS)
    np.testing.assert_allclose(clip.keypoints_px, [as_body25(FOUND[7])])


def test_a_list_of_openpose_frames_says_its_size(tmp_path):
    frames = [{**json.loads(openpose(man)), "canvas_width": WIDTH, "canvas_height": HEIGHT} for man in FOUND]
    clip, = read_people(results(tmp_path / "a.json", frames), fps=60)
    assert clip.image_size == (WIDTH, HEIGHT) and len(clip.keypoints_px) == 30


def test_people_without_ids_are_clips_of_their_places(tmp_path):
    folder = openpose_folder(tmp_path / "walk", people=lambda i: [passer_by(i)] * (10 <= i < 20) + [FOUND[i]])
    first, second = read_people(folder, **SAYS)
    assert first.person_id is None and len(first.keypoints_px) == len(second.keypoints_px) == 30
    np.testing.assert_allclose(first.keypoints_px[15], as_body25(passer_by(15)))
    assert [i for i in range(30) if second.seen_in(i) is not None] == list(range(10, 20))


TRACKED = {
    "AlphaPose": lambda i, man, other: [coco_entry(i, man, f"{i}.jpg", idx=7)] + [
        coco_entry(i, other, f"{i}.jpg", idx=3)] * (i >= 10),
    "COCO": lambda i, man, other: [coco_entry(i, other, track_id=3)] * (i >= 10) + [coco_entry(i, man, track_id=7)],
    "MMPose": lambda i, man, other: [{"frame_id": i, "instances": [
        instance(man, track_id=7)] + [instance(other, track_id=3)] * (i >= 10)}]}


@pytest.mark.parametrize("producer", TRACKED)
def test_people_with_ids_are_clips_by_their_ids(tmp_path, producer):
    entries = [entry for i in range(30) for entry in TRACKED[producer](i, FOUND[i], passer_by(i))]
    path = results(tmp_path / "a.json", entries)
    other, man = read_people(path, **SAYS)  # ids 3 and 7
    assert (man.person_id, other.person_id) == (7, 3) and (man.first_frame, other.first_frame) == (0, 10)
    np.testing.assert_allclose(man.keypoints_px, FOUND)
    np.testing.assert_allclose(other.keypoints_px, [passer_by(i) for i in range(10, 30)])
    assert other.time_of(0) == pytest.approx(10 / 60) and man.time_of(10) == pytest.approx(10 / 60)


def test_two_people_under_one_id_are_warned_of_and_lose_nobody_else(tmp_path):
    entries = [coco_entry(i, FOUND[i], idx=7) for i in range(30)]
    entries += [coco_entry(4, passer_by(4), idx=idx) for idx in (7, 9)]
    with pytest.warns(UserWarning, match="a.json: 1 times two people of one frame have one id"):
        man, other = read_people(results(tmp_path / "a.json", entries), **SAYS)
    np.testing.assert_allclose(man.keypoints_px, FOUND)
    np.testing.assert_allclose(other.keypoints_px, [passer_by(4)])


def test_frames_without_an_entry_have_nobody(tmp_path):
    entries = [coco_entry(i, FOUND[i], f"frame_{i:06d}.png") for i in (3, 5)]
    clip, = read_people(results(tmp_path / "a.json", entries), **SAYS)
    assert [i for i in range(6) if clip.seen_in(i) is not None] == [3, 5] and len(clip.keypoints_px) == 6


def test_halpe_136_is_read_as_its_body(tmp_path):
    person = np.vstack([FOUND[0], np.full((119, 3), 500.0)])
    clip, = read_people(results(tmp_path / "a.json", [coco_entry(0, person)]), **SAYS)
    assert clip.layout == "halpe26" and clip.keypoints_px.shape == (1, 26, 3)


def test_detectron_says_the_size_and_finds_nobody_at_times(tmp_path):
    path = detectron(tmp_path / "walk.mp4.npz", [[man] * (i % 7 > 0) for i, man in enumerate(FOUND)])
    clip, = read_people(path, fps=60)
    assert clip.image_size == (WIDTH, HEIGHT)
    assert [i for i in range(30) if clip.seen_in(i) is None] == [0, 7, 14, 21, 28]


def test_a_custom_data_set_of_videopose3d_is_read(tmp_path):
    clip, = read_people(custom(tmp_path / "data_2d_custom.npz", FOUND[..., :2]), fps=60)
    np.testing.assert_allclose(clip.keypoints_px, FOUND[..., :2])
    assert clip.image_size == (WIDTH, HEIGHT) and clip.layout == "coco17"


def test_a_file_of_videopose3d_cannot_run_code(tmp_path):
    class Harmful:
        def __reduce__(self):
            return pytest.fail, ("run",)

    np.savez(tmp_path / "a.npz", positions_2d=np.array(Harmful(), object), metadata={})
    with pytest.raises(ValueError, match="a.npz is no .npz file of arrays .*wanted arrays, dicts and lists"):
        read_people(tmp_path / "a.npz", fps=60)


def test_a_table_may_name_its_columns_in_any_order_and_its_people(tmp_path):
    joints = ADAPTERS["coco17"].layout.joints
    names = [f"{joint}_{column}" for joint in reversed(joints) for column in ("score", "y", "x")]
    lines = [",".join(["person", "frame", "time_s", *names])]
    for i in range(30):
        for person, keypoints in ((1, FOUND[i]), (0, passer_by(i))):
            lines.append(",".join(map(repr, [person, i, i / 50, *keypoints[::-1, ::-1].ravel().tolist()])))
    (tmp_path / "a.csv").write_text("\n".join(lines))
    other, man = read_people(tmp_path / "a.csv", "coco17", CLIP.image_size)
    np.testing.assert_allclose(man.keypoints_px, FOUND)
    np.testing.assert_allclose(other.keypoints_px[9], passer_by(9))
    assert man.time_of(10) == 0.2 and man.person_id == 1


def test_an_empty_cell_is_no_keypoint(tmp_path):
    text = heading() + "\n" + ",".join("" if 9 <= i < 12 else repr(x) for i, x in enumerate(FOUND[0].ravel().tolist()))
    (tmp_path / "a.csv").write_text(text)
    clip, = read_people(tmp_path / "a.csv", "coco17", **SAYS)
    assert np.isnan(clip.keypoints_px[0, 3]).all() and not np.isnan(clip.keypoints_px[0, 4]).any()


def test_a_table_of_deeplabcut_is_read(tmp_path):
    joints = ADAPTERS["coco17"].layout.joints
    rows = [["scorer"] + ["net"] * 51, ["bodyparts"] + [joint for joint in joints for _ in range(3)],
            ["coords"] + ["x", "y", "likelihood"] * 17, *([i, *FOUND[i].ravel().tolist()] for i in range(30))]
    (tmp_path / "a.csv").write_text("\n".join(",".join(map(str, row)) for row in rows))
    clip, = read_people(tmp_path / "a.csv", "coco17", **SAYS)
    np.testing.assert_allclose(clip.keypoints_px, FOUND)


def broken(name, content):
    def write(folder):
        (folder / name).write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
        return folder / name
    return write


def npy_header(shape):
    """The head of an .npy file, without the numbers."""
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "<f8", "fortran_order": False, "shape": shape})
    return file.getvalue()


BROKEN = [
    (broken("a.json", b'[{"image_id": 1, "keyp'), "a.json is no JSON file"), (broken(
        "a.json", b"\xff\xfe\x00"), "a.json is no JSON file"),
    (broken("a.json", {"images": [], "annotations": []}),
     "a.json holds a dict of 2 with images, annotations; wanted the keypoints of OpenPose, AlphaPose"),
    (broken("a.json", []), "a.json holds a list of 0; wanted"), (broken("a.json", 7), "a.json holds 7; wanted"),
    (broken("a.json", [coco_entry(0, FOUND[0]), {"image_id": 3}]), 'a.json, entry 1 has no "image_id" and "keypoints"'),
    (broken("a.json", [coco_entry(0, FOUND[0]), coco_entry(1, FOUND[0, :5])]),
     "a.json: somebody has 17 keypoints in frame 0, and 5 in frame 1"),
    (broken("a.json", [coco_entry(0, FOUND[0], "cat.jpg")]),
     "a.json, entry 0: image_id is 'cat.jpg'; wanted the number of a frame"),
    (broken("a.json", [coco_entry(0, FOUND[0], idx="me")]), "a.json, entry 0: idx is 'me'; wanted a whole number"),
    (broken("a.json", [coco_entry(0, FOUND[0], idx=np.inf)]), "a.json, entry 0: idx is inf; wanted a whole number"),
    (broken("a.json", [{"image_id": 0, "keypoints": [10**400, 0, 0]}]), "entry 0: keypoints is .* wanted numbers"),
    (broken("a.json", {"meta_info": 3, "instance_info": [{"frame_id": 0, "instances": [instance(FOUND[0, :5])]}]}),
     "a.json: say the layout of its 5 keypoints"),
    (broken("a.json", [coco_entry(0, FOUND[0]), coco_entry(9_000_000, FOUND[0])]),  # 3.7 GB from 2 KB
     "frames are numbered from 0 to 9000000; wanted"),
    (broken("a.json", [coco_entry(0, FOUND[0]), coco_entry(10**12, FOUND[0])]),
     "frames are numbered from 0 to 1000000000000; wanted"),
    (broken("a.json", [{"image_id": 0, "keypoints": ["x"] * 51}]), "entry 0: keypoints is .* wanted numbers"),
    (broken("a.json", [{"image_id": 0, "keypoints": [1.0] * 50}]),
     "entry 0: keypoints has 50 numbers; wanted 3 for each keypoint"),
    (broken("a.json", [coco_entry(0, FOUND[0, :5])]), "a.json: say the layout of its 5 keypoints: --layout"),
    (broken("a.json", {"people": []}), "a.json: nobody was found in any of its 1 frames"),
    (broken("a.json", {"people": [{}]}), 'person 0 has no "pose_keypoints_2d"'),
    (broken("a.json", [{"frame_id": 0, "instances": [{"keypoints": [[1, 2]], "keypoint_scores": [1, 1]}]}]),
     "1 keypoints and 2 keypoint_scores"),
    (broken("a.json", {"meta_info": [], "instance_info": [{"frame_id": 0, "instances": [instance(FOUND[0, :5])]}]}),
     "a.json: say the layout of its 5 keypoints"),
    (broken("a.json", {"meta_info": {"dataset_name": []}, "instance_info": [{"instances": [instance(FOUND[0])]}]}),
     "a.json: say the layout of its 17 keypoints"),
    (broken("a.json", [{"frame_id": 0, "instances": 3}]), 'frame 0 has no "instances"'),
    (broken("a.npy", b"\x93NUMPY\x01"), "a.npy is no .npy file of numbers"),
    (broken("a.npy", b"\x93NUMPY\x01\x00\x06\x00{(    "), "a.npy is no .npy file of numbers"),
    (broken("a.npy", npy_header((10**10, 17, 2))), "a.npy is no .npy file of numbers"),
    (lambda d: npy(d / "a.npy", np.array([{}], object)), "a.npy is no .npy file of numbers"),
    (lambda d: npy(d / "a.npy", FOUND[0]),
     r"a.npy: the keypoints are float32 of shape \(17, 3\); wanted numbers, \(frames, K, 2 or 3\)"),
    (broken("a.csv", b""), "a.csv has no rows"),
    (broken("a.csv", b"nose_x,nose_y\n"), "a.csv has a heading and no rows"),
    (broken("a.csv", b"1,2\n3\n"), "a.csv has 2 columns and no heading: say what they are with --layout"),
    (broken("a.csv", b"frame,speed\n1,2\n"), "a.csv has the columns frame, speed; wanted x and y of keypoints"),
    (broken("a.csv", b"a_x,a_y\n1,2\n3\n"), "a.csv, row 3 has 1 cells; wanted 2"),
    (broken("a.csv", b"a_x,a_y\n1,two\n"), "a.csv, row 2 has 'two'; wanted numbers"),
    (broken("a.csv", b"frame,a_x,a_y\n1,2,3\n,2,3\n"), "a.csv: a cell of the column 'frame' is empty"),
    (broken("a.mot", b"x"), "a.mot: wanted a file of keypoints, .npz, .json, .npy, .csv, or a folder"),
    (lambda d: custom(d / "a.npz", FOUND[..., :2], ("walk.mp4", "run.mp4")),
     "a.npz has 2 films, walk.mp4/custom, run.mp4/custom; wanted a file for each"),
    (lambda d: custom(d / "a.npz", FOUND[..., 0]),
     r"a.npz: walk.mp4/custom is float32 of shape \(30, 17\); wanted \(frames, K, 2 or 3\)"),
    (lambda d: saved(d / "a.npz", positions_2d=np.array([1, 2], object), metadata={}), "a.npz is built otherwise than"),
    (lambda d: saved(d / "a.npz", boxes=3, keypoints=np.array([1, 2], object), metadata={}), "is built otherwise than"),
    (lambda d: detectron(d / "a.npz", [[]] * 4), "a.npz: nobody was found in any of its 4 frames"),
    (lambda d: d, "has no file named as OpenPose's are"),
]


@pytest.mark.parametrize("write, message", BROKEN, ids=range(len(BROKEN)))
def test_a_broken_or_foreign_file_is_named(tmp_path, write, message):
    with pytest.raises(ValueError, match=message) as raised:
        read_people(write(tmp_path), **SAYS)
    assert str(tmp_path) in str(raised.value)


def test_two_films_in_one_folder_are_told_apart(tmp_path):
    openpose_folder(tmp_path / "both", film="run")
    with pytest.raises(ValueError, match="both has the frames of several films, run, walk; wanted a folder for each"):
        read_people(openpose_folder(tmp_path / "both"), **SAYS)


def test_a_layout_of_another_number_of_keypoints_is_refused(tmp_path):
    path = results(tmp_path / "a.json", [coco_entry(i, FOUND[i]) for i in range(3)])
    with pytest.raises(ValueError, match="a.json: --layout says 'body25', of 25 keypoints; the file has 17"):
        read_people(path, "body25", **SAYS)
    assert read_people(path, "coco17-demo", **SAYS)[0].layout == "coco17-demo"
    with pytest.raises(ValueError, match="a.csv has 51 columns; layout 'body25' wants 50, x and y of each .*, or 75"):
        read_people(table(tmp_path / "a.csv", FOUND), "body25", **SAYS)


def test_a_file_that_does_not_say_its_rate_and_size_asks_for_them(tmp_path):
    path = results(tmp_path / "a.json", [coco_entry(i, FOUND[i]) for i in range(3)])
    with pytest.raises(ValueError, match=re.escape("a.json: say --fps HZ and --image-size WIDTH HEIGHT, which")):
        read_people(path)
