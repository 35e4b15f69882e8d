"""The C functions on engines: answers, refusals with their texts, and calls from several threads."""

import ctypes
import io
import json
import random
import threading

import c_package as c
import fuzz_engine
import numpy as np
import pytest
import torch
from c_package import BAD_ARGUMENT, BAD_ENGINE, EngineOptions, Pose, Refused, StreamOptions, library, sized
from fuzz_seeds import write_seeds
from models import REQUIRED, WANTED, engine_header, keypoints, tiny_lifter, write_engine
from safetensors.numpy import save
from safetensors.torch import save as save_torch

import edgepose
from edgepose import _native, enginefile
from edgepose.build_engines.lower import lower
from edgepose.shipped import WEIGHTS
from edgepose.skeleton import H36M17

pytestmark = pytest.mark.slow

MODEL = tiny_lifter()
PLAN, TENSORS = lower(MODEL, "fp16")
FULL = {"format": enginefile.FORMAT, "units": enginefile.UNITS, **engine_header(MODEL, "fp16"), "plan": PLAN}


@pytest.fixture(scope="module")
def engine_path(tmp_path_factory):
    return write_engine(tmp_path_factory.mktemp("engine") / "tiny.epose", MODEL, "fp16")


@pytest.fixture(scope="module")
def engine(engine_path):
    return c.Engine(engine_path)


def sealed(path, text, tensors=TENSORS):
    """A file with the header `text`, whatever it is, and a valid checksum."""
    path.write_bytes(save(tensors, {"edgepose": text, "sha256": enginefile.checksum(text, tensors)}))
    return path


def refused(path, match, status=BAD_ENGINE, **options):
    """Assert that the file is refused with a text that names it."""
    with pytest.raises(Refused, match=match) as error:
        c.Engine(path, **options)
    assert error.value.status == status and (status != BAD_ENGINE or str(path) in str(error.value))


def test_the_library_says_which_it_is():
    assert library().edgepose_abi_version() == 1 and library().edgepose_version().decode() == edgepose.__version__


def test_an_engine_says_what_it_is(engine, engine_path):
    lib, handle = engine.lib, engine.handle
    assert (engine.frames, engine.joints, lib.edgepose_engine_is_causal(handle)) == (1, 17, 0)
    assert [getattr(lib, f"edgepose_engine_{name}")(handle).decode()
            for name in ("model", "precision", "skeleton", "isa")] == [
        "tiny", "fp16", "h36m17", edgepose.load(engine_path).isa]
    assert [lib.edgepose_engine_joint(handle, j).decode() for j in range(17)] == list(H36M17.joints)
    assert [lib.edgepose_engine_parent(handle, j) for j in range(17)] == list(H36M17.parents)
    assert all(lib.edgepose_engine_joint(handle, j) is None and lib.edgepose_engine_parent(handle, j) == -1
               for j in (-1, 17, 2**31 - 1))


@pytest.mark.parametrize("threads", [1, 3])
def test_an_engine_gives_the_poses_of_python(engine_path, threads):
    x = keypoints(MODEL, 13)
    expected = edgepose.load(engine_path).run(x)
    engine = c.Engine(engine_path, threads=threads)
    np.testing.assert_allclose(engine.run(x), expected, rtol=0, atol=1e-5)
    np.testing.assert_array_equal(np.concatenate([engine.run(x[i:i + 1]) for i in range(13)]), engine.run(x))
    assert engine.run(x[:0]).shape == (0, 17, 3)


@pytest.mark.parametrize("isa", _native.isas())
def test_the_instruction_set_is_the_one_asked_for(engine_path, monkeypatch, isa):
    engine = c.Engine(engine_path, isa=isa.encode())
    assert engine.lib.edgepose_engine_isa(engine.handle).decode() == isa
    np.testing.assert_allclose(engine.run(keypoints(MODEL, 2)),
                               edgepose.load(engine_path, isa=isa).run(keypoints(MODEL, 2)), rtol=0, atol=1e-5)
    monkeypatch.setenv("EDGEPOSE_ISA", isa)
    assert edgepose_isa(engine_path) == isa
    monkeypatch.setenv("EDGEPOSE_ISA", "sse9")
    refused(engine_path, f'"sse9" is not one this CPU runs; it runs {", ".join(_native.isas())}')
    assert edgepose_isa(engine_path, isa=b"") == _native.isas()[0]


def edgepose_isa(path, **options):
    engine = c.Engine(path, **options)
    return engine.lib.edgepose_engine_isa(engine.handle).decode()


def test_the_shipped_engines_give_the_poses_of_python():
    for name in ("ampose", "dln-s", "martinez-s", "posegate-s", "strided27-s"):
        theirs = edgepose.load(name)
        x = np.random.default_rng(0).uniform(-0.5, 0.5, (2, theirs.frames, 17, 2)).astype(np.float32)
        np.testing.assert_allclose(c.Engine(theirs.path).run(x), theirs.run(x), rtol=0, atol=1e-5)


@pytest.mark.parametrize("threads", [1, 2])
def test_many_threads_on_one_engine_each_get_their_own_answer(engine_path, threads):
    engine, callers, calls = c.Engine(engine_path, threads=threads), 4, 60
    windows = [keypoints(MODEL, 1 + caller, seed=caller) for caller in range(callers)]
    expected = [engine.run(x) for x in windows]
    start, wrong = threading.Barrier(callers), []

    def call(caller):
        start.wait()
        for _ in range(calls):
            if not np.array_equal(engine.run(windows[caller]), expected[caller]):
                wrong.append(caller)

    members = [threading.Thread(target=call, args=(caller,)) for caller in range(callers)]
    for member in members:
        member.start()
    for member in members:
        member.join()
    assert wrong == []


def test_a_stream_outlives_its_engine(engine_path):
    engine = c.Engine(engine_path)
    stream, twin = (c.Stream(engine, "h36m17", (640, 480)) for _ in range(2))
    frame = np.random.default_rng(0).uniform(100, 400, (17, 2))
    first = stream.push(frame, 0.0)
    del engine
    np.testing.assert_array_equal(twin.push(frame, 0.0).joints_m, first.joints_m)


# ---- files ----

def test_a_missing_file_says_how_to_build_one(tmp_path):
    refused(tmp_path / "none.epose", "none.epose: no such file. Build it with: edgepose compile --model NAME --out")
    refused(tmp_path, "no such file")


OTHER = [b"", b"\0", b"\0" * 8, b"\0" * 4096, b"\xff" * 64, b"no engine at all\n" * 50,
         (2).to_bytes(8, "little") + b"[]", (1 << 62).to_bytes(8, "little") + b"{}" * 20,
         (100).to_bytes(8, "little") + b"{" * 100]


@pytest.mark.parametrize("content", OTHER, ids=lambda content: f"{len(content)} bytes {content[:6]!r}")
def test_a_file_that_is_something_else_is_refused(tmp_path, content):
    (tmp_path / "other.epose").write_bytes(content)
    refused(tmp_path / "other.epose", r"not an engine file, or damaged \(")


def torch_bytes(**options):
    file = io.BytesIO()
    torch.save({"weight": torch.zeros(3)}, file, **options)
    return file.getvalue()


COMPILE = "edgepose compile --model"
OTHER_KINDS = {  # name -> a file, the message
    "mine.pth": (torch_bytes, f"no engine but a zip archive, as torch.save .*{COMPILE} NAME --published FILE.pth"),
    "old.pth": (lambda: torch_bytes(_use_new_zipfile_serialization=False),
                f"no engine but a pickle.*{COMPILE} NAME --published FILE.pth"),
    "clip.npz": ((WEIGHTS.parent / "clips/balance_cam1.npz").read_bytes,
                 "no engine but a zip archive, .*numpy .*edgepose lift"),
    "mine.onnx": ((WEIGHTS / "hrnet-w8.onnx").read_bytes, f"perhaps an ONNX graph.*--detector.*{COMPILE} NAME"),
    "mine.tflite": (lambda: b"\x1c\0\0\0TFL3" + bytes(99), f"no engine but a TensorFlow Lite model.*{COMPILE} NAME"),
    "mine.engine": (lambda: b"ftrt" + bytes(99), "a bare TensorRT plan.*--backend tensorrt"),
    "mine.xml": (lambda: b'<?xml version="1.0"?><net name="a"></net>', "no engine but XML or a web page"),
    "pointer.epose": (lambda: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n",
                      "a pointer of Git LFS.*git lfs pull"),
    # This one's counters are int64, which no engine has.
    "martinez-s.safetensors": ((WEIGHTS / "martinez-s.safetensors").read_bytes,
                               f"{COMPILE} .*martinez-s.safetensors"),
    "half.safetensors": (lambda: save_torch({"a": torch.zeros(2, dtype=torch.bfloat16)}),
                         f"{COMPILE} .*half.safetensors")}


@pytest.mark.parametrize("name", OTHER_KINDS)
def test_a_file_of_a_known_kind_says_what_to_do_with_it(tmp_path, name):
    content, message = OTHER_KINDS[name]
    (tmp_path / name).write_bytes(content())
    refused(tmp_path / name, f"{name}: .*{message}")
    with pytest.raises(edgepose.EngineError, match=f"{name}: .*{message}"):
        edgepose.load(tmp_path / name)


def test_an_engine_whose_length_begins_as_an_onnx_graph_does_is_an_engine(tmp_path):
    for padding in range(256):
        data = sealed(tmp_path / "odd.epose", "[]" + " " * padding).read_bytes()
        if data[0] == 0x08:
            break
    assert data[0] == 0x08
    refused(tmp_path / "odd.epose", "the header is not an object")


def raw(header, data=b""):
    if not isinstance(header, bytes):
        header = json.dumps({"__metadata__": {"edgepose": "", "sha256": ""}, **header}).encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + data


def entry(begin, end, dtype="F32", shape=(1,)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}


LAYOUT = {  # fault -> header, bytes after it, message
    "a hole": ({"a": entry(0, 4), "b": entry(8, 12)}, 12, "tensor b does not begin where"),
    "an overlap": ({"a": entry(0, 4), "b": entry(0, 4)}, 4, "does not begin where"),
    "bytes left": ({"a": entry(0, 4)}, 5, "bytes follow its tensors"),
    "too few bytes": ({"a": entry(0, 4)}, 3, "tensor a lies past its end"),
    "a shape too small": ({"a": entry(0, 8)}, 8, "the shape of tensor a does not fit its bytes"),
    "offsets reversed": ({"a": entry(4, 0)}, 4, "does not fit its bytes"),
    "a shape that wraps around": ({"a": entry(0, 4, shape=(2**62, 4))}, 4, "is too large"),
    "a negative size": ({"a": entry(0, 4, shape=(-1,))}, 4, "no whole number"),
    "half a size": ({"a": entry(0, 4, shape=(1.5,))}, 4, "no whole number"),
    "an unknown type": ({"a": entry(0, 8, "F64")}, 8, "dtype F64, which no engine has"),
    "no offsets": ({"a": {"dtype": "F32", "shape": [1]}}, 4, "lacks its dtype, shape or data_offsets"),
    "no object": ({"a": 3}, 4, "lacks its dtype"),
    "a name twice": (b'{"a":1,"a":2}', 0, "not JSON at byte 13: an object has a key twice")}


@pytest.mark.parametrize("header, bytes_after, message", LAYOUT.values(), ids=LAYOUT)
def test_a_layout_that_does_not_hold_together_is_refused(tmp_path, header, bytes_after, message):
    (tmp_path / "odd.epose").write_bytes(raw(header, b"\0" * bytes_after))
    refused(tmp_path / "odd.epose", rf"not an engine file, or damaged \(.*{message}")


def test_a_tensor_that_is_not_aligned_is_refused(tmp_path):
    header = raw({"a": entry(0, 1, "U8"), "b": entry(1, 5)}, b"\0" * 5)
    (tmp_path / "odd.epose").write_bytes(header)
    refused(tmp_path / "odd.epose", "tensor b is not aligned")


def test_a_file_cut_off_anywhere_or_with_more_after_its_end_is_refused(tmp_path, engine_path):
    whole = engine_path.read_bytes()
    for length in [*range(0, 400), *np.random.default_rng(0).integers(400, len(whole), 200).tolist(), len(whole) - 1]:
        (tmp_path / "cut.epose").write_bytes(whole[:length])
        refused(tmp_path / "cut.epose", "not an engine file, or damaged")
    (tmp_path / "cut.epose").write_bytes(whole + b"\0")
    refused(tmp_path / "cut.epose", "bytes follow its tensors")


def test_flipped_bits_are_noticed_or_change_nothing(tmp_path, engine_path, engine):
    rng, whole = np.random.default_rng(1), engine_path.read_bytes()
    x, noticed = keypoints(MODEL, 1), 0
    expected = engine.run(x)
    for at in rng.integers(0, len(whole), 400):
        damaged = bytearray(whole)
        damaged[at] ^= 1 << int(rng.integers(8))
        (tmp_path / "flipped.epose").write_bytes(damaged)
        try:
            np.testing.assert_array_equal(c.Engine(tmp_path / "flipped.epose").run(x), expected, err_msg=f"byte {at}")
        except Refused as error:
            assert error.status == BAD_ENGINE
            noticed += 1
    assert noticed > 390


def test_a_safetensors_file_that_is_no_engine_is_refused(tmp_path):
    for metadata in (None, {"sha256": "0"}, {"edgepose": "{}"}):
        (tmp_path / "weights.epose").write_bytes(save(TENSORS, metadata))
        refused(tmp_path / "weights.epose",
                "a safetensors file, but no engine: it has no edgepose header. A checkpoint becomes an engine with")


@pytest.mark.parametrize("tensors", [
    {}, {"a": np.zeros((), np.float32)}, {"é": np.zeros((3, 0), np.float16), "z": np.arange(5, dtype=np.int8)},
    {"b": np.ones((2, 3, 4), np.float32), "a": np.arange(7, dtype=np.uint8)}],
    ids=["none", "of no axis", "empty and int8", "three axes"])
def test_the_checksum_is_that_of_python_for_every_type_and_shape(tmp_path, tensors):
    # The header is read only after the checksum.
    refused(sealed(tmp_path / "odd.epose", "[]", tensors), "the header is not an object")


@pytest.mark.parametrize("text, message", [("", "the header is not JSON"), ("[" * 100000, "the header is not JSON"),
                                           ("null", "the header is not an object"),
                                           ("{}", "the header's 'format' is null; it needs a whole number")])
def test_a_header_that_is_no_object_is_refused(tmp_path, text, message):
    refused(sealed(tmp_path / "odd.epose", text), message)


@pytest.mark.parametrize("key", REQUIRED)
def test_a_required_key_of_the_header_that_is_missing_or_of_another_type_is_named(tmp_path, key):
    for value in (None, True, 1.5, [], "text", 3, {}):
        if type(value) is not REQUIRED[key]:
            refused(sealed(tmp_path / "odd.epose", json.dumps({**FULL, key: value})),
                    f"the header's '{key}' is .*; it needs {WANTED[REQUIRED[key]]}")
    refused(sealed(tmp_path / "odd.epose", json.dumps({k: v for k, v in FULL.items() if k != key})),
            f"the header's '{key}' is null")


@pytest.mark.parametrize("change, message", [
    ({"format": 4},
     'format 4; this edgepose reads 1 to 3. Build the engine again, or install the edgepose that wrote it: "0.1.0"'),
    ({"skeleton": "coco17"}, "skeleton 'coco17'; there are h36m17, h36m16"),
    ({"frames": 0}, "0 frames; 1 to 4096 are possible"),
    ({"frames": -3}, "-3 frames"), ({"frames": 10**30}, "'frames' is .*; it needs a whole number"),
    ({"is_causal": 1}, "'is_causal' is 1; it needs true or false"),
    ({"plan": None}, "the engine's plan is not valid: it is no object"),
    ({"plan": {}}, 'the engine\'s plan is not valid: "frames" is missing'),
    ({"frames": 9}, "the plan is for 1 frames of 17 joints, the header says 9 of 17"),
    ({"skeleton": "h36m16"}, "the header says 1 of 16")], ids=str)
def test_a_header_that_cannot_be_run_says_why(tmp_path, change, message):
    refused(sealed(tmp_path / "odd.epose", json.dumps({**FULL, **change})), message)


def test_a_header_without_a_plan_says_so(tmp_path):
    refused(sealed(tmp_path / "odd.epose", json.dumps({k: v for k, v in FULL.items() if k != "plan"})),
            "the header has no plan")


@pytest.mark.parametrize("backend", ["onnx", "torchscript", "tensorrt"])
def test_an_engine_of_another_backend_says_what_to_build(tmp_path, backend):
    header = {k: v for k, v in FULL.items() if k != "plan"}
    header |= {"backend": backend} | ({"batch": 1, "machine": {}, "rung": "strong-fp16"}
                                      if backend == "tensorrt" else {})
    path = sealed(tmp_path / "odd.epose", json.dumps(header), {"payload": np.arange(99, dtype=np.uint8)})
    refused(path,
            f"it is for the {backend} backend, which needs Python; .* edgepose compile --model tiny --backend native")


def test_a_plan_that_is_not_valid_is_refused_with_its_step(tmp_path):
    plan = json.loads(json.dumps(PLAN))
    plan["steps"][3]["x"] = 10**6
    refused(sealed(tmp_path / "odd.epose", json.dumps({**FULL, "plan": plan})),
            "odd.epose: the engine's plan is not valid: step 3: x is not one of its buffers")
    plan["steps"][3]["x"] = "0"
    refused(sealed(tmp_path / "odd.epose", json.dumps({**FULL, "plan": plan})),
            'step 3: a value has the wrong type, or is out of range: "x"')
    refused(sealed(tmp_path / "odd.epose", json.dumps(FULL), {**TENSORS, "more": np.zeros(3, np.uint8)}),
            "tensor more is neither float32 nor float16 nor int8")


def changes(whole, rng, cases):
    """An engine file with changed contents and a valid checksum, and one with a flipped bit in its header."""
    yield from fuzz_engine.changed(whole, rng, cases)
    begin = 8 + int.from_bytes(whole.read_bytes()[:8], "little")
    for _ in range(cases):
        damaged = bytearray(whole.read_bytes())
        damaged[rng.randrange(begin)] ^= 1 << rng.randrange(8)
        yield bytes(damaged)


def test_a_changed_engine_is_taken_by_both_or_by_neither(tmp_path):
    rng, path, loaded_count, refused_count = random.Random(0), tmp_path / "changed.epose", 0, 0
    for whole in (seed for seed in write_seeds(tmp_path / "seeds") if seed.suffix == ".epose"):
        for data in changes(whole, rng, 30):
            path.write_bytes(data)
            try:
                theirs = edgepose.load(path)
            except edgepose.EngineError:
                with pytest.raises(Refused):
                    c.Engine(path)
                refused_count += 1
                continue
            x = np.linspace(-1, 1, theirs.frames * len(theirs.skeleton) * 2,
                            dtype=np.float32).reshape(1, theirs.frames, -1, 2)
            np.testing.assert_allclose(c.Engine(path).run(x), theirs.run(x), rtol=1e-5, atol=1e-5)
            loaded_count += 1
    assert loaded_count > 30 and refused_count > 300


# ---- arguments ----

def status_of(status, message):
    assert status == BAD_ARGUMENT and message in c.error(), c.error()


def test_null_is_refused_and_closing_it_does_nothing(engine, engine_path):
    lib, handle, floats = engine.lib, ctypes.c_void_p(1), np.zeros(34, np.float32)
    stream = c.Stream(engine, "coco17", (640, 480)).handle
    status_of(lib.edgepose_engine_open(None, None, handle), "path is null")
    assert handle.value is None
    status_of(lib.edgepose_engine_open(str(engine_path).encode(), None, None), "engine is null")
    status_of(lib.edgepose_engine_run(None, 1, c.pointer(floats), 34, c.pointer(floats), 51), "engine is null")
    status_of(lib.edgepose_engine_run(engine.handle, 1, None, 34, c.pointer(floats), 51), "keypoints_norm is null")
    status_of(lib.edgepose_engine_run(engine.handle, 1, c.pointer(floats), 34, None, 51), "pose_m is null")
    status_of(lib.edgepose_stream_open(None, b"coco17", 640, 480, None, handle), "engine is null")
    status_of(lib.edgepose_stream_open(engine.handle, None, 640, 480, None, handle), "layout is null")
    status_of(lib.edgepose_stream_open(engine.handle, b"coco17", 640, 480, None, None), "stream is null")
    status_of(lib.edgepose_stream_push(None, None, 0, 0, 0.0, sized(Pose)), "stream is null")
    status_of(lib.edgepose_stream_push(stream, None, 0, 0, 0.0, None), "pose is null")
    status_of(lib.edgepose_stream_reset(None), "stream is null")
    lib.edgepose_engine_close(None)
    lib.edgepose_stream_close(None)
    assert [getattr(lib, f"edgepose_engine_{name}")(None)
            for name in ("frames", "joints", "is_causal", "model", "precision", "isa", "skeleton")] == [
        0, 0, 0, None, None, None, None]
    assert lib.edgepose_engine_joint(None, 0) is None and lib.edgepose_engine_parent(None, 0) == -1


def test_lengths_that_do_not_fit_are_refused(engine):
    floats = np.zeros(200, np.float32)
    for people, floats_in, floats_out, message in (
            (1, 33, 51, "keypoints_norm has 33 floats; it needs 34"), (1, 34, 50, "pose_m has 50 floats; it needs 51"),
            (2, 34, 102, "it needs 68"), (0, 34, 0, "it needs 0"), (2**63, 34, 51, "people is more than 1048576")):
        status_of(engine.lib.edgepose_engine_run(engine.handle, people, c.pointer(floats), floats_in,
                                                 c.pointer(floats), floats_out), message)


@pytest.mark.parametrize("threads", [0, -1, 257])
def test_threads_out_of_range_are_refused(engine_path, threads):
    refused(engine_path, f"threads is {threads}; it needs 1 to 256", BAD_ARGUMENT, threads=threads)


@pytest.mark.parametrize("struct", [EngineOptions, StreamOptions, Pose])
def test_no_struct_ends_in_padding(struct):
    last = struct._fields_[-1]
    assert getattr(struct, last[0]).offset + ctypes.sizeof(last[1]) == ctypes.sizeof(struct)


def test_structs_of_another_size_are_refused(engine, engine_path):
    for size in (0, 4, 1000):
        with pytest.raises(
                Refused, match=f"options->size is {size}; this library takes .*: begin with the header's _INIT macro"):
            c.checked(engine.lib.edgepose_engine_open(str(engine_path).encode(), EngineOptions(size=size, threads=1),
                                                      ctypes.c_void_p()))
        status_of(engine.lib.edgepose_stream_open(engine.handle, b"coco17", 640, 480, StreamOptions(size=size),
                                                  ctypes.c_void_p()), f"options->size is {size}")
        stream = c.Stream(engine, "coco17", (640, 480))
        status_of(engine.lib.edgepose_stream_push(stream.handle, None, 0, 0, 0.0, Pose(size=size)),
                  f"pose->size is {size}")


@pytest.mark.parametrize("layout, image_size, options, message", [
    ("coco-17", (640, 480), {}, 'there is no layout "coco-17"; wanted one of coco17, coco17-demo, halpe26, '),
    ("coco17-demo, face hidden", (640, 480), {}, "there is no layout"),
    ("coco17", (0, 480), {}, r"image_size is \(0, 480\); wanted two numbers of pixels from 1 to 1000000"),
    ("coco17", (640, float("nan")), {}, "image_size is"), ("coco17", (640, float("inf")), {}, "image_size is"),
    ("coco17", (640, 480), {"delay_frames": 1},
     "delay_frames is 1; a window of 1 frame has no later ones to wait for: wanted 0"),
    ("coco17", (640, 480), {"delay_frames": -1}, "delay_frames is -1"),
    ("coco17", (640, 480), {"rate_hz": -2.0}, "rate_hz is -2"),
    ("coco17", (640, 480), {"rate_hz": float("nan")}, "rate_hz is"),
    ("coco17", (640, 480), {"max_gap_s": -0.1}, "max_gap_s is -0.1"),
    ("coco17", (640, 480), {"hold_s": -0.1}, "hold_s is -0.1; wanted 0 or more"),
    ("coco17", (640, 480), {"seen_above": 0.0}, "seen_above is 0; wanted a number above 0, at most 1"),
    ("coco17", (640, 480), {"seen_above": 1.5}, "seen_above is 1.5"),
    ("coco17", (640, 480), {"cx": 320.0}, "fx, fy, cx, cy are 0, 0, 320, 0; wanted four finite"),
    ("coco17", (640, 480), {"fx": 1e-300, "fy": 500.0}, "fx and fy from 1 to 1000000"),
    ("coco17", (640, 480), {"fx": 500.0, "fy": 500.0, "cx": 1e300}, "cx and cy at most that far from 0"),
    ("coco17", (640, 480), {"min_cutoff_hz": -1.0}, "wanted positive cutoffs"),
    ("coco17", (640, 480), {"min_cutoff_hz": 1.0, "beta": 1e300}, r"all at most 1e\+09"),
    ("coco17", (640, 480), {"min_cutoff_hz": 1.0, "beta": -1.0}, "wanted positive cutoffs and beta >= 0")], ids=str)
def test_a_stream_that_cannot_be_is_refused_with_the_reason(engine, layout, image_size, options, message):
    with pytest.raises(Refused, match=message) as error:
        c.Stream(engine, layout, image_size, **options)
    assert error.value.status == BAD_ARGUMENT


def test_no_new_pose_leaves_the_pose_as_it_is(engine):
    stream, pose = c.Stream(engine, "coco17", (640, 480)), sized(Pose, joints=5, timestamp_s=7.0)
    assert engine.lib.edgepose_stream_push(stream.handle, None, 0, 0, 0.0, pose) == c.NO_POSE
    assert (pose.joints, pose.timestamp_s, bool(pose.joints_m)) == (5, 7.0, False)


def test_each_thread_has_an_error_text_of_its_own(engine):
    errors = {}

    def fail(name):
        errors[name, "before"] = c.error()
        with pytest.raises(Refused):
            c.Stream(engine, name, (640, 480))
        start.wait()
        errors[name, "after"] = c.error()

    start = threading.Barrier(2)
    members = [threading.Thread(target=fail, args=(name,)) for name in ("one", "other")]
    for member in members:
        member.start()
    for member in members:
        member.join()
    assert errors["one", "before"] == errors["other", "before"] == ""
    assert '"one"' in errors["one", "after"] and '"other"' in errors["other", "after"]


def test_an_error_text_of_any_length_is_cut_and_not_overrun(tmp_path):
    with pytest.raises(Refused) as error:
        c.Engine("y" * 5000)
    assert str(error.value).count("y") == 2047
