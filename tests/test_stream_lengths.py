"""A person's own lengths, from the caller to the columns that a model takes."""

import re
from pathlib import Path

import numpy as np
import pytest

import edgepose
from edgepose.columns import HEIGHT_PARTS, INPUTS, LENGTHS, lengths_of_height
from edgepose.skeleton import H36M17


PERSON_PX = np.random.default_rng(0).uniform(100, 400, (17, 2))


class Recorder:
    """A lifter that keeps its last window and answers with zeros."""

    def __init__(self, inputs=INPUTS, frames=1):
        self.frames, self.skeleton, self.inputs, self.rate_hz, self.window = frames, H36M17, inputs, 50.0, None

    def run(self, windows, out=None):
        self.window = windows.copy()
        return np.zeros((len(windows), 17, 3), np.float32)


def columns_after(engine, **options):
    """{column: (T, J)} of the window after a push."""
    stream = edgepose.Stream(engine, "coco17", (640, 480), **options)
    assert stream.push(PERSON_PX, 0.0) is not None
    return {name: engine.window[0, :, :, i] for i, name in enumerate(engine.inputs)}


@pytest.mark.parametrize("frames", [1, 9])
def test_lengths_stand_at_their_joints_and_the_others_are_not_known(frames):
    columns = columns_after(Recorder(frames=frames), lengths_m={"thigh": 0.41, "trunk": 0.5})
    for j, joint in enumerate(H36M17.joints):
        wanted = 0.41 if joint.endswith("_knee") else 0.5 if joint == "thorax" else 0.0
        np.testing.assert_array_equal(columns["length"][:, j], np.float32(wanted))
        np.testing.assert_array_equal(columns["length_known"][:, j], float(wanted > 0))


def test_every_length_stands_where_the_columns_say():
    lengths = {name: 0.1 + 0.05 * i for i, name in enumerate(LENGTHS)}
    length = columns_after(Recorder(), lengths_m=lengths)["length"][0]
    for name, joints in LENGTHS.items():
        for joint in joints:
            assert length[H36M17.index(joint)] == np.float32(lengths[name])
    assert np.count_nonzero(length) == sum(map(len, LENGTHS.values()))


def test_without_lengths_none_is_known():
    columns = columns_after(Recorder())
    assert not columns["length"].any() and not columns["length_known"].any()


@pytest.mark.parametrize("lengths_m, message", [
    ({"tail": 0.3}, "lengths_m has 'tail'; there are upper_arm, forearm, thigh"),
    ({"thigh": 41.0}, "the length thigh is 41; wanted metres, 0.02 to 1"),
    ({"thigh": -1.0}, "the length thigh is -1.0; wanted a number above 0"),
    ({"thigh": float("nan")}, "the length thigh is nan")])
def test_lengths_that_no_person_has_are_refused(lengths_m, message):
    with pytest.raises(ValueError, match=message):
        edgepose.Stream(Recorder(), "coco17", (640, 480), lengths_m=lengths_m)
    with pytest.raises(TypeError, match="wanted {name: metres}"):
        edgepose.Stream(Recorder(), "coco17", (640, 480), lengths_m=[0.4])


def test_an_engine_that_takes_no_lengths_says_so():
    with pytest.raises(ValueError, match="the model takes no lengths of a person; wanted none, a model that does, or"):
        edgepose.Stream(Recorder(("x", "y")), "coco17", (640, 480), lengths_m={"thigh": 0.4})


def test_the_c_interface_has_the_same_lengths_in_the_same_order():
    import ctypes

    import c_package as c

    assert ctypes.sizeof(dict(c.StreamOptions._fields_)["lengths_m"]) == 8 * len(LENGTHS)
    header = (Path(__file__).parents[1] / "csrc/include/edgepose.h").read_text()
    listed = re.search(r"In this order: (.*?) \(from", " ".join(header.replace("*", " ").split()))[1]
    assert listed.split(", ") == ["upper arm", "forearm", "thigh", "shank", "width of the shoulders",
                                  "width of the hips", "trunk"]


def test_a_height_gives_all_lengths():
    lengths = lengths_of_height(1.8)
    assert set(lengths) == set(LENGTHS) == set(HEIGHT_PARTS) and lengths["thigh"] == pytest.approx(0.233 * 1.8)
    assert columns_after(Recorder(), lengths_m=lengths)["length_known"].sum() == sum(map(len, LENGTHS.values()))
    for height_m in (175, 0.1, float("nan")):
        with pytest.raises(ValueError, match="height_m is"):
            lengths_of_height(height_m)
