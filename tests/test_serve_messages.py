"""The messages of edgepose serve: both forms, and whatever comes instead."""

import json
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_drawing import pose_at

from edgepose.serve import messages as m

OPEN = {"type": "open", "layout": "coco17", "image_size": [640, 480]}
FRAME = {"type": "frame", "timestamp_s": 0.5, "people": [[[1.0, 2.0, 0.5]]], "number": 3}


def text(value, **changes):
    return json.dumps({**value, **changes})


def test_an_opening_is_read_with_its_options():
    opening = m.read_first(text(OPEN, name="door", form="binary", answer=False, delay_frames=2, camera=[1, 2, 3, 4]))
    assert opening == m.Opening("coco17", (640, 480), "door", "binary", False,
                                {"delay_frames": 2, "camera": [1, 2, 3, 4]})
    assert m.read_first('{"type": "open", "image_size": [1, 2]}').layout is None
    assert m.read_first('{"type": "watch"}') == m.Watching("json", None)


@pytest.mark.parametrize("message, said", [
    ("", "is no JSON"), ("[" * 100000, "nested too deeply"), (b"\x01", "a binary message came"),
    ("3", "a message is 3"),
    ('{"type": "fly"}', 'wanted an object whose "type" is open or watch'), (text(OPEN, form="xml"), "form is 'xml'"),
    (text(OPEN, layot="coco17"), "open has no 'layot'; did you mean layout"), (text(OPEN, name="a\n"), "name is"),
    (text(OPEN, image_size=[1]), "image_size is a list of 1; wanted"), (text(OPEN, layout=7), "layout is 7; wanted"),
    (text(OPEN, image_size=[True, 2]), "image_size is"), (text(OPEN, answer=1), "answer is 1; wanted true or false"),
    ('{"type": "watch", "feed": -1}', "feed is -1; wanted a whole number from 0"),
])
def test_a_first_message_that_does_not_fit_is_refused(message, said):
    with pytest.raises(ValueError, match=said):
        m.read_first(message)


@pytest.mark.parametrize("message, said", [
    (text(FRAME, people=None), "people is None; wanted a list"), (text(FRAME, ids=3), "ids is 3; wanted a list"),
    (text(FRAME, timestamp_s=None), "timestamp_s is None"), (text(FRAME, number=2**40), "number is a huge number"),
    (text(FRAME, timestamp_s=10**400), "timestamp_s is a huge number"), (text(FRAME, extra=1), "frame has no 'extra'"),
    ('{"type": "frame", "timestamp_s": NaN, "people": []}', "timestamp_s is nan"), (text(OPEN), "frame or reset"),
    (b"", "has 0 bytes; wanted 16 or more"), (bytes(16), "begins with 0, 0; wanted 1 or 2, then 1"),
    (bytes([1, 1]) + bytes(14), "a binary frame has 16 bytes; wanted 24"),
    (bytes([1, 1, 5]) + bytes(21), "has 5 columns and the flags 0; wanted 2 to 4 columns"),
    (bytes([1, 1, 3, 2]) + bytes(20), "the flags 2; wanted"),
    (m.FRAME_HEAD.pack(1, 1, 3, 1, 0, 0.0, 2, 17, 0),
     "2 people with 17 keypoints of 3 columns has 24 bytes; wanted 448"),
])
def test_a_later_message_that_does_not_fit_is_refused(message, said):
    with pytest.raises(ValueError, match=said):
        m.read_next(message)


@pytest.mark.parametrize("ids", [None, [7, 2**40]])
def test_a_frame_is_the_same_in_both_forms(ids):
    keypoints = np.random.default_rng(0).uniform(0, 640, (2, 17, 3)).astype(np.float32)
    binary = m.read_next(m.frame_bytes(m.Frame(9, 1.25, keypoints, ids)))
    as_json = m.read_next(json.dumps({"type": "frame", "number": 9, "timestamp_s": 1.25,
                                      "people": keypoints.tolist(), "ids": ids}))
    for frame in (binary, as_json):
        assert (frame.number, frame.timestamp_s) == (9, 1.25)
        np.testing.assert_array_equal(np.array(frame.keypoints_px, np.float32), keypoints)
        assert (None if frame.ids is None else list(frame.ids)) == ids


def test_a_picture_comes_as_it_was_sent():
    assert m.read_next(m.picture_bytes(m.Picture(4, 0.5, b"JPEG"))) == m.Picture(4, 0.5, b"JPEG")


def test_an_answer_is_the_same_in_both_forms():
    poses = [pose_at(0.5, 0.1), pose_at(0.48, 0.3)]
    answer = m.Answer(2, 9, 0.5, 1.5, 7, [(3, poses[0]), (11, poses[1])])
    kind, version, zero, feed, number, dropped, time_s, latency_ms, people, joints = m.POSES_HEAD.unpack_from(
        answer.binary)
    assert (kind, version, zero, feed, number, dropped, time_s, latency_ms) == (17, 1, 0, 2, 9, 7, 0.5, 1.5)
    assert (people, joints) == (2, 17)
    # By the table of docs/serve.md.
    at, arrays = m.POSES_HEAD.size, {}
    for name, dtype, shape in (("id", "<i8", (2,)), ("timestamp_s", "<f8", (2,)), ("predicted_s", "<f4", (2,)),
                               ("root_m", "<f4", (2, 3)), ("joints_m", "<f4", (2, 17, 3)),
                               ("confidence", "<f4", (2, 17)), ("is_seen", "u1", (2, 17)), ("was_reset", "u1", (2,))):
        count = int(np.prod(shape))
        arrays[name] = np.frombuffer(answer.binary, dtype, count, at).reshape(shape)
        at += arrays[name].nbytes
    assert at == len(answer.binary) and m.POSES_HEAD.size == 32
    said = json.loads(answer.json)
    assert {name: said[name] for name in ("type", "feed", "number", "timestamp_s", "latency_ms", "dropped")} == {
        "type": "poses", "feed": 2, "number": 9, "timestamp_s": 0.5, "latency_ms": 1.5, "dropped": 7}
    for i, (pose, person) in enumerate(zip(poses, said["people"])):
        np.testing.assert_array_equal(arrays["joints_m"][i], pose.joints_m)
        np.testing.assert_array_equal(arrays["is_seen"][i], pose.is_seen)
        for name, values in arrays.items():
            np.testing.assert_allclose(np.asarray(person[name], float), values[i].astype(float), atol=1e-6)
    assert said["people"][1]["id"] == 11


def test_an_answer_without_people_has_a_head_alone():
    answer = m.Answer(1, 2, 0.5, 1.0, 0, [])
    assert len(answer.binary) == 32 and json.loads(answer.json)["people"] == []


def test_a_place_that_the_joints_do_not_determine_is_said_to_be_unknown():
    pose = pose_at(0.0)
    nowhere = type(pose)(**{**vars(pose), "confidence": np.zeros(17)})
    answer = m.Answer(1, 2, 0.5, 1.0, 0, [(0, nowhere)])
    assert json.loads(answer.json)["people"][0]["root_m"] is None
    assert np.isnan(np.frombuffer(answer.binary, "<f4", 3, 32 + 8 + 8 + 4)).all()


JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
                    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(
                        ["type", "layout", "image_size", "people", "ids", "number", "timestamp_s", "form"]), inner,
                        max_size=4), max_leaves=8)
BINARY = st.binary(max_size=80) | st.builds(
    lambda head, rest: m.FRAME_HEAD.pack(*head) + rest,
    st.tuples(st.sampled_from([1, 2, 17]), st.sampled_from([0, 1]), st.integers(0, 5), st.integers(0, 2),
              st.integers(0, 2**32 - 1), st.floats(), st.integers(0, 3), st.integers(0, 3), st.just(0)),
    st.binary(max_size=120))


@settings(deadline=None)
@given(st.one_of(JSON.map(json.dumps), st.text(max_size=50), BINARY,
                 JSON.map(lambda value: json.dumps({**OPEN, "camera": value, "delay_frames": value})),
                 JSON.map(lambda value: json.dumps({**FRAME, "people": value})),
                 JSON.map(lambda value: json.dumps({**FRAME, "people": [value], "ids": [value]}))))
def test_whatever_comes_is_read_or_refused_with_a_value_error(message):
    for read in (m.read_first, m.read_next):
        try:
            read(message)
        except ValueError as error:
            assert 0 < len(str(error)) < 1000


def test_sizes_that_do_not_fit_into_a_message_are_refused():
    with pytest.raises(struct.error):
        m.frame_bytes(m.Frame(2**32, 0.0, np.zeros((1, 17, 3))))
