"""read() of .epose files, whatever happened to the file since write()."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from models import REQUIRED, WANTED, engine_header, keypoints, tiny_lifter, write_engine
from safetensors.numpy import load_file, save, save_file

import edgepose
from edgepose import EngineError, enginefile
from edgepose.build_engines.lower import lower

MODEL = tiny_lifter()
HEADER = {**engine_header(MODEL), "backend": "onnx"}
TENSORS = {"w": np.arange(12, dtype=np.float32).reshape(3, 4), "h": np.arange(5, dtype=np.float16),
           "raw": np.arange(7, dtype=np.uint8)}


def small_file(path, header=HEADER, tensors=TENSORS):
    enginefile.write(path, header, tensors)
    return path


def sealed(path, text, tensors=TENSORS):
    """A file with the header `text`, whatever it is, and a valid checksum."""
    path.write_bytes(save(tensors, {"edgepose": text, "sha256": enginefile.checksum(text, tensors)}))
    return path


def same(read, header, tensors):
    header_read, arrays = read
    return (header_read == {"format": enginefile.FORMAT, "units": enginefile.UNITS, **header}
            and arrays.keys() == tensors.keys()
            and all(arrays[n].dtype == tensors[n].dtype and np.array_equal(arrays[n], tensors[n]) for n in tensors))


def test_what_was_written_is_read(tmp_path):
    assert same(enginefile.read(small_file(tmp_path / "a.epose")), HEADER, TENSORS)
    plan, tensors = lower(MODEL, "fp16")
    header = {**engine_header(MODEL, "fp16"), "plan": plan}
    assert same(enginefile.read(small_file(tmp_path / "b" / "c.epose", header, tensors)), header, tensors)


def test_tensors_that_are_not_contiguous_are_written_by_their_values(tmp_path):
    tensors = {"w": np.arange(12, dtype=np.float32).reshape(3, 4).T, "every other": np.arange(9, dtype=np.float32)[::2]}
    assert same(enginefile.read(small_file(tmp_path / "a.epose", HEADER, tensors)), HEADER, tensors)


def test_the_same_model_gives_the_same_file(tmp_path):
    first, second = (write_engine(tmp_path / name, MODEL).read_bytes() for name in ("a.epose", "b.epose"))
    assert first == second


def test_a_file_of_format_1_gives_the_poses_it_gave(tmp_path):
    """tests/format1.epose: the tiny lifter in half precision from when files held the places of their buffers."""
    path = Path(__file__).with_name("format1.epose")
    engine, x = edgepose.load(path), keypoints(MODEL, 5)
    assert engine.header["format"] == 1 and "arena" in engine.header["plan"]
    assert len(engine.header["plan"]["buffers"][0]) == 4
    np.testing.assert_array_equal(engine.run(x),
                                  edgepose.load(write_engine(tmp_path / "now.epose", MODEL, "fp16")).run(x))


def test_a_missing_file_says_how_to_build_one(tmp_path):
    with pytest.raises(EngineError, match=r"none.epose: no such file. Build it with: edgepose compile"):
        enginefile.read(tmp_path / "none.epose")
    with pytest.raises(EngineError, match="no such file"):
        edgepose.load(tmp_path / "none.epose")


def test_a_name_that_is_no_file_lists_what_ships():
    with pytest.raises(EngineError, match="'no-such' is neither an engine file nor a shipped engine"):
        edgepose.load("no-such")


@pytest.mark.parametrize("content", [
    b"", b"\0", b"\0" * 7, b"\0" * 8, b"\0" * 4096, b"\xff" * 8, b"\xff" * 64, b"{}", b"no engine at all\n" * 50,
    (2).to_bytes(8, "little") + b"{}", (2).to_bytes(8, "little") + b"[]", (1 << 62).to_bytes(8, "little") + b"{}" * 20,
    (100).to_bytes(8, "little") + b"{" * 100, *[np.random.default_rng(seed).bytes(1000) for seed in range(20)]],
    ids=lambda c: f"{len(c)} bytes {c[:6]!r}")
def test_a_file_that_is_something_else_is_an_engine_error(tmp_path, content):
    path = tmp_path / "other.epose"
    path.write_bytes(content)
    with pytest.raises(
            EngineError, match="other.epose: (not an engine file, or damaged|a safetensors file, but no engine)"):
        enginefile.read(path)
    with pytest.raises(EngineError, match="other.epose"):
        edgepose.load(path)


def test_a_file_cut_off_anywhere_is_an_engine_error(tmp_path):
    whole = small_file(tmp_path / "whole.epose").read_bytes()
    cut = tmp_path / "cut.epose"
    for length in range(len(whole)):
        cut.write_bytes(whole[:length])
        with pytest.raises(EngineError, match="cut.epose"):
            enginefile.read(cut)


def test_a_file_with_more_after_its_end_is_an_engine_error(tmp_path):
    path = small_file(tmp_path / "long.epose")
    path.write_bytes(path.read_bytes() + b"\0")
    with pytest.raises(EngineError, match="long.epose"):
        enginefile.read(path)


def flips(data, start, stop, count, rng):
    for at in range(start, stop) if count is None else rng.integers(start, stop, count):
        damaged = bytearray(data)
        damaged[at] ^= 1 << int(rng.integers(8))
        yield int(at), bytes(damaged)


def test_one_flipped_bit_is_an_engine_error_or_changes_nothing(tmp_path):
    rng = np.random.default_rng(0)
    whole = small_file(tmp_path / "whole.epose").read_bytes()
    begin = 8 + int.from_bytes(whole[:8], "little")
    path, noticed = tmp_path / "flipped.epose", 0
    for at, damaged in [*flips(whole, 0, begin, None, rng), *flips(whole, 0, begin, 300, rng),
                        *flips(whole, begin, len(whole), None, rng)]:
        path.write_bytes(damaged)
        try:
            assert same(enginefile.read(path), HEADER, TENSORS), f"byte {at}: read as something else"
        except EngineError as error:
            assert "flipped.epose" in str(error)
            noticed += 1
    assert noticed >= len(whole)  # all but a few bits, such as those in the padding


def test_flipped_bits_of_a_whole_engine_are_noticed_when_it_is_loaded(tmp_path):
    rng = np.random.default_rng(1)
    whole = write_engine(tmp_path / "whole.epose", MODEL).read_bytes()
    x = rng.uniform(-0.5, 0.5, (1, 1, 17, 2)).astype(np.float32)
    expected = edgepose.load(tmp_path / "whole.epose").run(x)
    path, noticed = tmp_path / "flipped.epose", 0
    for at, damaged in flips(whole, 0, len(whole), 300, rng):
        path.write_bytes(damaged)
        try:
            np.testing.assert_array_equal(edgepose.load(path).run(x), expected, err_msg=f"byte {at}")
        except EngineError:
            noticed += 1
    assert noticed > 290


def test_swapped_tensors_are_noticed(tmp_path):
    a, b = np.zeros(4, np.float32), np.ones(4, np.float32)
    text = json.dumps({"format": 2, "units": "", **HEADER})
    path = tmp_path / "swapped.epose"
    path.write_bytes(save({"a": b, "b": a}, {"edgepose": text, "sha256": enginefile.checksum(text, {"a": a, "b": b})}))
    with pytest.raises(EngineError, match="do not match its checksum"):
        enginefile.read(path)


@pytest.mark.parametrize(
    "metadata", [None, {"format": "pt"}, {"model": "ampose", "frames": "1"}, {"edgepose": "{}"}, {"sha256": "0"}])
def test_another_safetensors_file_is_told_how_it_becomes_an_engine(tmp_path, metadata):
    save_file(TENSORS, tmp_path / "checkpoint.safetensors", metadata)
    with pytest.raises(EngineError, match="a safetensors file, but no engine: .*edgepose compile --model "
                       ".*checkpoint.safetensors"):
        enginefile.read(tmp_path / "checkpoint.safetensors")


@pytest.mark.parametrize("text, message", [
    ("", "the header is not JSON"), ("{", "the header is not JSON"), ("[" * 100000, "the header is not JSON"),
    ("1" * 10000, "the header is not JSON"), ("[]", "the header is not an object"),
    ("null", "the header is not an object"), ('"format"', "the header is not an object"),
    ('{"model": "\\ud800"}', "the header is not JSON .*half a surrogate pair"),
    ("{}", "the header's 'format' is null; it needs a whole number")])
def test_a_header_that_is_no_object_is_an_engine_error(tmp_path, text, message):
    with pytest.raises(EngineError, match=f"odd.epose: {message}"):
        enginefile.read(sealed(tmp_path / "odd.epose", text))


FULL = {"format": enginefile.FORMAT, "units": enginefile.UNITS, **HEADER}


WRONG = [(key, value) for key, kind in REQUIRED.items() for value in (None, True, 1.5, [], "text", 3, {})
         if type(value) is not kind]


@pytest.mark.parametrize("key, value", WRONG, ids=str)
def test_a_required_key_of_the_header_of_another_type_is_named(tmp_path, key, value):
    with pytest.raises(EngineError, match=f"the header's '{key}' is .*; it needs {WANTED[REQUIRED[key]]}"):
        enginefile.read(sealed(tmp_path / "odd.epose", json.dumps({**FULL, key: value})))


@pytest.mark.parametrize("key", REQUIRED)
def test_a_required_key_of_the_header_that_is_missing_is_named(tmp_path, key):
    header = {k: v for k, v in FULL.items() if k != key}
    with pytest.raises(EngineError, match=f"the header's '{key}' is null; it needs {WANTED[REQUIRED[key]]}"):
        enginefile.read(sealed(tmp_path / "odd.epose", json.dumps(header)))


@pytest.mark.parametrize("change, message", [
    ({"format": 4},
     "format 4; this edgepose reads 1 to 3. Build the engine again, or install the edgepose that wrote it: \"0.1.0\""),
    ({"format": 0}, "format 0; this edgepose reads 1 to 3"),
    ({"format": 10**30}, "the header's 'format' is .*; it needs a whole number"),
    ({"skeleton": "coco17"}, "skeleton 'coco17'; there are h36m17, h36m16"),
    ({"frames": 0}, "0 frames; 1 to 4096 are possible"), ({"frames": -3}, "-3 frames"),
    ({"frames": 10**18}, "1 to 4096 are possible")])
def test_a_header_out_of_range_says_what_is_possible(tmp_path, change, message):
    with pytest.raises(EngineError, match=f"odd.epose: .*{message}"):
        enginefile.read(sealed(tmp_path / "odd.epose", json.dumps({**FULL, **change})))


@pytest.mark.parametrize("change, message", [
    ({"backend": "cuda9"}, "backend 'cuda9', or a part of its file, is unknown to this edgepose "
     ".*it has native, cuda, onnx, torchscript, tensorrt"),
    ({"backend": "../native"}, "unknown to this edgepose"),
    ({"backend": "native", "plan": None}, "the engine's plan is not valid: it is no object"),
    ({"backend": "native", "plan": []}, "the engine's plan is not valid: it is no object"),
    ({"backend": "native", "plan": {}}, "the engine's plan is not valid: \"frames\" is missing"),
    ({"backend": "cuda"}, "the header has no plan")])
def test_an_engine_this_edgepose_cannot_run_is_an_engine_error(tmp_path, change, message):
    with pytest.raises(EngineError, match=message):
        edgepose.load(sealed(tmp_path / "odd.epose", json.dumps({**FULL, **change}), {}))


def test_a_native_engine_without_a_plan_is_an_engine_error(tmp_path):
    with pytest.raises(EngineError, match="odd.epose: the header has no plan"):
        edgepose.load(sealed(tmp_path / "odd.epose", json.dumps({**FULL, "backend": "native"}), {}))


WEIGHTS = lower(MODEL, "fp16")


@pytest.mark.parametrize("broken", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("backend", ["native", "cuda"])
def test_a_weight_that_is_no_number_is_named_when_the_engine_is_loaded(tmp_path, backend, broken):
    plan, tensors = WEIGHTS
    kinds = {tensor.dtype.name: name for name, tensor in tensors.items()}
    assert set(kinds) == {"float16", "float32"}
    for name in kinds.values():
        changed = tensors[name].copy()
        changed.flat[-1] = broken
        enginefile.write(tmp_path / "a.epose", {**engine_header(MODEL, "fp16"), "backend": backend, "plan": plan},
                         {**tensors, name: changed})
        with pytest.raises(EngineError, match=f"a.epose: tensor {name} holds NaN or infinity"):
            edgepose.load(tmp_path / "a.epose")
    # It is no weight and may hold anything.
    enginefile.write(tmp_path / "a.epose", HEADER, {"payload": np.full(4, broken, np.float32)})
    enginefile.read(tmp_path / "a.epose")


READ_IN_2_GB = """
import resource, sys
from edgepose import enginefile
resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))
try:
    enginefile.read(sys.argv[1])
except enginefile.EngineError as error:
    print(error)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs a limit on memory and files with holes")
@pytest.mark.parametrize("tensors, message", [
    (None, "not JSON at byte 0"), ({"w": np.zeros(8, np.uint8)}, "bytes follow its tensors"),
    (12 << 30, "there is not enough memory to read it")], ids=["no header", "too long", "as long as it says"])
def test_the_sizes_of_a_file_are_checked_before_it_is_read_whole(tmp_path, tensors, message):
    path = tmp_path / "large.epose"
    if isinstance(tensors, dict):
        path.write_bytes(save(tensors, {"edgepose": "{}", "sha256": ""}))
    elif tensors:
        text = json.dumps({"__metadata__": {"edgepose": "{}", "sha256": ""},
                           "w": {"dtype": "U8", "shape": [tensors], "data_offsets": [0, tensors]}}).encode()
        path.write_bytes(len(text).to_bytes(8, "little") + text)
        os.truncate(path, 8 + len(text) + tensors)
    else:
        path.touch()
    if not tensors or isinstance(tensors, dict):
        os.truncate(path, 12 << 30)
    process = subprocess.run([sys.executable, "-c", READ_IN_2_GB, str(path)], capture_output=True, text=True,
                             timeout=60)
    assert "large.epose: " in process.stdout and message in process.stdout, process.stderr


def test_a_path_that_is_not_utf_8_is_read_and_named(tmp_path):
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.epose"))
    with pytest.raises(EngineError, match="no such file") as error:
        enginefile.read(path)
    assert str(path) in str(error.value)
    assert same(enginefile.read(small_file(path)), HEADER, TENSORS)


def test_a_path_with_a_zero_byte_is_no_file():
    with pytest.raises(EngineError, match="no such file"):
        enginefile.read("a\0b.epose")


def test_a_tensor_of_a_type_that_no_engine_has_is_not_written(tmp_path):
    with pytest.raises(ValueError, match="tensor w is float64; an engine file has float32, float16, int8 and uint8"):
        enginefile.write(tmp_path / "a.epose", HEADER, {"w": np.zeros(3)})
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_as_safetensors_reads_it(tmp_path):
    tensors = {"é": np.zeros((3, 0), np.float16), "i": np.arange(5, dtype=np.int8), **TENSORS}
    read = load_file(small_file(tmp_path / "a.epose", HEADER, tensors))
    assert read.keys() == tensors.keys()
    assert all((read[name] == tensors[name]).all() and read[name].dtype == tensors[name].dtype for name in tensors)


@pytest.mark.parametrize("change", [{"frames": 9}, {"skeleton": "h36m16"}], ids=str)
def test_a_header_that_contradicts_its_plan_is_refused_when_it_is_loaded(tmp_path, change):
    plan, tensors = lower(MODEL, "fp32")
    enginefile.write(tmp_path / "odd.epose", {**engine_header(MODEL), **change, "plan": plan}, tensors)
    with pytest.raises(EngineError, match="the plan is for 1 frames of 17 joints, the header says (9 of 17|1 of 16)"):
        edgepose.load(tmp_path / "odd.epose", trust=True)


def test_a_payload_engine_without_its_payload_is_an_engine_error(tmp_path):
    for backend in ("onnx", "torchscript"):
        enginefile.write(tmp_path / "odd.epose", {**engine_header(MODEL), "backend": backend}, {})
        with pytest.raises(EngineError, match="'payload'"):
            edgepose.load(tmp_path / "odd.epose", trust=True)
        enginefile.write(tmp_path / "odd.epose", {**engine_header(MODEL), "backend": backend},
                         {"payload": np.arange(99, dtype=np.uint8)})
        with pytest.raises(EngineError, match=f"the {backend} backend does not take it"):
            edgepose.load(tmp_path / "odd.epose", trust=True)


@pytest.mark.parametrize("change", ['"model": "\\ud800"', '"built_with": {"\\udfff": 1}', '"frames": ' + 400 * "9",
                                    '"x": ' + 100_000 * "[", '"frames": 1e999'])
def test_a_header_of_text_that_is_no_unicode_or_of_numbers_beyond_all_is_refused(tmp_path, change):
    text = json.dumps(FULL)[:-1] + ", " + change + "}"
    with pytest.raises(EngineError, match="odd.epose: "):
        edgepose.load(sealed(tmp_path / "odd.epose", text, {}))


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="needs a user whom permissions stop")
def test_a_file_that_may_not_be_read_is_an_engine_error(tmp_path):
    path = small_file(tmp_path / "a.epose")
    path.chmod(0)
    with pytest.raises(EngineError, match="a.epose: not an engine file, or damaged"):
        enginefile.read(path)


def test_a_loop_of_links_is_an_engine_error(tmp_path):
    (tmp_path / "a.epose").symlink_to("b.epose")
    (tmp_path / "b.epose").symlink_to("a.epose")
    with pytest.raises(EngineError, match="a.epose: no such file"):
        enginefile.read(tmp_path / "a.epose")
