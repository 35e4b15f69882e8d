"""Engine files that an earlier edgepose wrote: they load for ever, and answer as they did.

engine_formats.json has a fixed input and its answer for each file. A new format adds a file here; none is written anew.
"""

import json
from pathlib import Path

import numpy as np
import pytest
from guarded import WIDENING_ISAS

import edgepose

FOLDER = Path(__file__).parent
RECORDED = json.loads((FOLDER / "engine_formats.json").read_text())
CONTENTS = {  # file -> its format, its input and output columns, the types of its tensors
    "format1.epose": (1, 2, 3, {"float16", "float32"}),
    "format2.epose": (2, 3, 4, {"float16", "float32"}),
    "format2_int8.epose": (2, 2, 3, {"int8", "float16", "float32"}),  # products in int8, int16, w8
    "format3.epose": (3, 2, 3, {"float16", "float32"}),  # concat and multiply
}
CLOSE_M = 1e-5  # what FP32 engines promise of torch: a hundredth of a millimetre
NOISE = 1e-6  # in the input; more than what another order of sums changes in these poses
each_file = pytest.mark.parametrize("name", CONTENTS)


def recorded(name):
    """The keypoints_norm (1, T, 17, C) and poses_m (1, 17, D) of a file."""
    return (np.array(RECORDED[name][key], np.float32) for key in ("keypoints_norm", "poses_m"))


@each_file
@pytest.mark.parametrize("isa", WIDENING_ISAS)
def test_a_file_of_an_earlier_version_answers_as_it_did(name, isa):
    keypoints_norm, poses_m = recorded(name)
    assert 0.1 < np.sqrt((poses_m[..., :3]**2).mean()) < 1  # metres, like poses
    np.testing.assert_allclose(edgepose.load(FOLDER / name, isa=isa).run(keypoints_norm), poses_m, rtol=0, atol=CLOSE_M)


@each_file
def test_the_recorded_inputs_are_not_near_a_tie_that_another_cpu_rounds_otherwise(name):
    keypoints_norm, poses_m = recorded(name)
    shape = (200, *keypoints_norm.shape)
    noisy = keypoints_norm + np.random.default_rng(0).uniform(-NOISE, NOISE, shape).astype(np.float32)
    poses = edgepose.load(FOLDER / name).run(noisy.reshape(-1, *keypoints_norm.shape[1:]))
    assert np.abs(poses.reshape(200, *poses_m.shape) - poses_m).max() < CLOSE_M


@each_file
def test_the_files_hold_what_they_are_there_for(name):
    header, tensors = edgepose.enginefile.read(FOLDER / name)
    inputs, outputs = RECORDED[name]["keypoints_norm"][0][0][0], RECORDED[name]["poses_m"][0][0]
    assert CONTENTS[name] == (header["format"], len(inputs), len(outputs), {str(t.dtype) for t in tensors.values()})


def test_the_current_format_has_a_file_here():
    assert edgepose.enginefile.FORMAT in {format for format, *_ in CONTENTS.values()}
    assert CONTENTS.keys() == RECORDED.keys() == {path.name for path in FOLDER.glob("*.epose")}
