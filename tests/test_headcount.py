"""The number of people that a detector is asked for, and MediaPipe with as many."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest

import edgepose
from edgepose.pictures.headcount import LOOK_EVERY, MOST_PEOPLE, Headcount, distinct

PICTURE = np.zeros((100, 400, 3), np.uint8)


def person_at(x, keypoints=33):
    """(K, 3): a person of 100 px."""
    rng = np.random.default_rng(0)
    return np.column_stack([x + rng.uniform(0, 40, keypoints), rng.uniform(0, 100, keypoints), np.ones(keypoints)])


def looks_until(count, people):
    """The looks that a Headcount takes which is shown `people` again and again."""
    looks = 0
    while count.count != len(people) and looks < 10:
        assert count.wants_look()
        count.look(np.stack(people))
        looks += 1
    return looks


def test_two_looks_that_agree_change_the_count():
    count = Headcount()
    assert looks_until(count, [person_at(0), person_at(200)]) == 2 and count.count == 2
    for _ in range(LOOK_EVERY):
        assert not count.wants_look()
        count.see(2)
    assert count.wants_look()


def test_one_odd_look_changes_nothing():
    count = Headcount()
    looks_until(count, [person_at(0), person_at(200)])
    count.look(np.stack([person_at(0)]))
    assert count.count == 2 and count.wants_look()
    count.look(np.stack([person_at(0), person_at(200)]))
    assert count.count == 2 and not count.wants_look()


def test_who_is_missing_is_looked_for_soon():
    count = Headcount()
    looks_until(count, [person_at(0), person_at(200)])
    for found in (2, 1, 1):
        count.see(found)
        assert not count.wants_look()
    count.see(1)
    assert count.wants_look()


def test_a_second_pose_of_somebody_is_not_another_person():
    assert len(distinct(np.stack([person_at(0), person_at(5), person_at(200)]))) == 2


class Film:
    """MediaPipe's landmarker on a film: it finds those that it is asked for, but asked for more than there are it loses
    people and changes their places, as recordings show."""

    def __init__(self):
        self.there, self.asked = [0.1], []

    def module(self):
        film = self

        class Landmarker:
            def __init__(self, options):
                self.most, self.pictures = options.num_poses, 0
                film.asked.append((options.running_mode, options.num_poses))

            @classmethod
            def create_from_options(cls, options):
                return cls(options)

            def close(self):
                pass

            def detect(self, picture):
                return SimpleNamespace(pose_landmarks=[self.pose(x) for x in film.there[:self.most]])

            def detect_for_video(self, picture, timestamp_ms):
                self.pictures += 1
                found = film.there[:self.most]
                if self.most > len(film.there) and self.pictures % 4 == 0:
                    found = found[1:]
                if self.most > len(film.there) and self.pictures % 2:
                    found = found[::-1]
                return SimpleNamespace(pose_landmarks=[self.pose(x) for x in found])

            @staticmethod
            def pose(x):
                return [SimpleNamespace(x=x + mark[0] / 400, y=mark[1] / 100, z=0, visibility=0.9)
                        for mark in person_at(0)]

        vision = SimpleNamespace(PoseLandmarker=Landmarker, PoseLandmarkerOptions=SimpleNamespace,
                                 RunningMode=SimpleNamespace(VIDEO="video", IMAGE="image"))
        return SimpleNamespace(tasks=SimpleNamespace(vision=vision, BaseOptions=SimpleNamespace),
                               Image=SimpleNamespace, ImageFormat=SimpleNamespace(SRGB="srgb"))


@pytest.fixture
def film(monkeypatch):
    film = Film()
    monkeypatch.setitem(sys.modules, "mediapipe", film.module())
    return film


def test_mediapipe_is_asked_for_as_many_as_there_are(tmp_path, film):
    (tmp_path / "pose.task").write_bytes(b"model")
    with edgepose.open_detector(tmp_path / "pose.task") as detector:
        counts = {}
        for people in ([0.1], [0.1, 0.5], [0.1, 0.5, 0.8], [0.5]):
            film.there = people
            counts[len(people)] = [len(detector.people(PICTURE)) for _ in range(3 * LOOK_EVERY)]
    for there, found in counts.items():
        assert set(found[LOOK_EVERY + 3:]) == {there}, found  # and so none is ever lost or changes places
    assert ("image", MOST_PEOPLE) in film.asked and ("video", 3) in film.asked


def test_a_detector_of_one_person_finds_one_or_nobody(tmp_path, film):
    (tmp_path / "pose.task").write_bytes(b"model")
    with edgepose.open_detector(tmp_path / "pose.task") as detector:
        assert detector(PICTURE).shape == (33, 3) and film.asked == [("video", 1)]

    class Single(edgepose.pictures.detector.Detector):
        layout = "coco17"

        def __call__(self, image):
            return np.ones((17, 3)) if image.any() else None

    assert Single().people(PICTURE).shape == (0, 17, 3) and Single().people(PICTURE + 1).shape == (1, 17, 3)
