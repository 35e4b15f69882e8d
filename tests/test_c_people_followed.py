"""People of the C library: the ids and poses that Python gives, and what is refused."""

import ctypes

import c_package as c
import numpy as np
import pytest
from c_package import BAD_ARGUMENT, NO_POSE, PeopleOptions, Pose, Refused, StreamOptions, sized
from people import DT, SIZE, person_of
from test_c_people import ALLOWED_M, engine, path  # noqa: F401

import edgepose

pytestmark = pytest.mark.slow

EVERYBODY = np.stack([person_of("coco17"), person_of("coco17", seed=4)], axis=1).astype(np.float32)


@pytest.mark.parametrize("with_ids", [False, True])
def test_people_get_the_ids_and_poses_that_python_gives_them(engine, path, with_ids):  # noqa: F811
    mine = c.People(engine, "coco17", SIZE, delay_frames=2)
    theirs = edgepose.People(edgepose.load(path), "coco17", SIZE, delay_frames=2)
    rng, poses = np.random.default_rng(0), 0
    for n, frame in enumerate(EVERYBODY):
        order = rng.permutation(2)
        ids = [int(30 + person) for person in order] if with_ids else None
        found, expected = mine.push(frame[order], n * DT, ids), theirs.push(frame[order], n * DT, ids)
        assert mine.ids(3) == [*theirs.ids.tolist(), -1]
        poses += len(found)
        assert_same(found, expected)
    assert poses > 20
    assert_same(mine.flush(), theirs.flush())
    assert mine.flush() == []


def assert_same(found, expected):
    assert [identity for identity, _ in found] == [identity for identity, _ in expected]
    for (_, a), (_, b) in zip(found, expected):
        np.testing.assert_array_equal(a.keypoints_norm, b.keypoints_norm)
        np.testing.assert_allclose(a.joints_m, b.joints_m, rtol=0, atol=ALLOWED_M)
        assert (a.timestamp_s, a.was_reset) == (b.timestamp_s, b.was_reset)


def test_bad_input_is_refused_and_changes_nobody(engine):  # noqa: F811
    people, twins = c.People(engine, "coco17", SIZE), c.People(engine, "coco17", SIZE)
    for both in (people, twins):
        both.push(EVERYBODY[0], 0.0, [5, 6])
    broken = EVERYBODY[1].copy()
    broken[1, 3] = [np.nan, 4, 1]
    for frame, time_s, ids, message in (
            (EVERYBODY[1], 0.0, [5, 6], "timestamp_s is 0 after 0"), (broken, DT, [5, 6], "person 1: keypoint 3"),
            (EVERYBODY[1], DT, [5, 5], "ids has 5 twice"), (EVERYBODY[1], DT, [5, -6], r"ids\[1\] is -6"),
            (EVERYBODY[1], DT, None, "ids is missing"),
            (EVERYBODY[1, :, :4], DT, [5, 6], r"person 0: keypoints_px has shape \(4, 3\)")):
        with pytest.raises(Refused, match=message) as error:
            people.push(frame, time_s, ids)
        assert error.value.status == BAD_ARGUMENT
    assert_same(people.push(EVERYBODY[1], DT, [5, 6]), twins.push(EVERYBODY[1], DT, [5, 6]))


def test_most_people_are_counted(engine):  # noqa: F811
    lib, people = engine.lib, c.People(engine, "coco17", SIZE, most_people=1)
    people.push(EVERYBODY[0], 0.0)
    assert people.ids(2) == [0, -1]
    assert lib.edgepose_people_notice_count(people.handle, b"most_people") == 1
    assert b"1 people are followed already" in lib.edgepose_people_notice_text(people.handle, b"most_people")
    assert lib.edgepose_people_reset(people.handle) == 0 and people.flush() == [] and people.ids(2) == [-1, -1]


def refused(status, message):
    assert status == BAD_ARGUMENT and message in c.error()


def test_null_and_options_out_of_range_are_refused(engine):  # noqa: F811
    lib, people = engine.lib, c.People(engine, "coco17", SIZE)
    opened, count, name, floats = ctypes.c_void_p(), ctypes.c_size_t(7), ctypes.c_int64(), np.zeros((17, 3), np.float32)
    whom = (b"coco17", 640, 480)
    refused(lib.edgepose_people_open(None, *whom, None, None, opened), "engine is null")
    refused(lib.edgepose_people_open(engine.handle, *whom, None, None, None), "people is null")
    for person, options, message in ((StreamOptions(size=3), None, "options->size is 3"),
                                     (None, PeopleOptions(size=3), "options->size is 3"),
                                     (None, sized(PeopleOptions, most_people=0), "most_people is 0"),
                                     (None, sized(PeopleOptions, most_people=1, return_s=-1), "return_s is -1")):
        refused(lib.edgepose_people_open(engine.handle, *whom, person, options, opened), message)
        assert opened.value is None
    refused(lib.edgepose_people_push(None, c.pointer(floats), 1, 17, 3, 1.0, None, count), "people is null")
    refused(lib.edgepose_people_push(people.handle, None, 1, 17, 3, 1.0, None, count), "keypoints_px is null")
    refused(lib.edgepose_people_push(people.handle, c.pointer(floats), 1, 17, 3, 1.0, None, None), "poses is null")
    people.push(EVERYBODY[0, :1], 0.0)
    refused(lib.edgepose_people_pose(people.handle, 0, None, sized(Pose)), "id is null")
    refused(lib.edgepose_people_pose(people.handle, 9, name, sized(Pose)), "there is no pose 9; there are 1")
    assert lib.edgepose_people_push(people.handle, None, 0, 0, 0, 9.0, None, count) == NO_POSE and count.value == 0
    assert lib.edgepose_people_id(None, 0) == -1 and lib.edgepose_people_notice_text(None, b"lying") == b""
    lib.edgepose_people_close(None)
