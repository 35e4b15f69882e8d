"""csrc/ built and installed with CMake, once a test run, and its C functions called from Python."""

import ctypes
import functools
import shutil
import subprocess
import sysconfig
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from run_folder import built_once

CSRC = Path(__file__).parent.parent / "csrc"
# The options that compile the package for ARM; -O2 compiles faster than -O3.
FOR_ARM = (f"-DCMAKE_TOOLCHAIN_FILE={CSRC / 'cmake' / 'aarch64-linux-gnu.cmake'}", "-DCMAKE_CXX_FLAGS_RELEASE=-O2")
OK, NO_POSE, BAD_ARGUMENT, BAD_ENGINE, NO_MEMORY, FAILED, BUSY = 0, 1, -1, -2, -3, -4, -5


def tool(name):
    """The path of a program, from this Python's environment or the system; None if there is none."""
    return shutil.which(name, path=sysconfig.get_path("scripts")) or shutil.which(name)


def need(*programs):
    """Skip the test, saying why, where a program is missing."""
    for program in programs:
        if not tool(program):
            pytest.skip(f"needs {program}")


def run(*command, **options):
    """Run a command and return it finished; its output is shown if it fails."""
    process = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=900, **options)
    assert process.returncode == 0, f"{' '.join(map(str, command))}\n{process.stdout}\n{process.stderr}"
    return process


def build(source, into, *options):
    """Configure and build a CMake project. Warnings are errors."""
    need("cmake", "ninja")
    # gcc 12 warns about its own AVX-512 header.
    flags = [f"-DCMAKE_{language}_FLAGS=-Wall -Wextra -Werror -Wno-maybe-uninitialized" for language in ("C", "CXX")]
    run(tool("cmake"), "-S", source, "-B", into, "-G", "Ninja", f"-DCMAKE_MAKE_PROGRAM={tool('ninja')}",
        *flags, *options)
    run(tool("cmake"), "--build", into, "-j", "2")
    return into


@functools.cache
def installed(*options):
    """The folder into which `cmake --install` put the package."""
    need("cmake", "ninja")

    def build_and_install(root):
        build(CSRC, root / "build", *options)
        run(tool("cmake"), "--install", root / "build", "--prefix", root / "package")

    return built_once(" ".join(("package", *options)).replace("/", "_"), build_and_install) / "package"


class EngineOptions(ctypes.Structure):
    _fields_ = [("size", ctypes.c_uint32), ("threads", ctypes.c_int32), ("isa", ctypes.c_char_p),
                ("cpus", ctypes.POINTER(ctypes.c_int32)), ("cpu_count", ctypes.c_size_t)]


class StreamOptions(ctypes.Structure):
    _fields_ = [("size", ctypes.c_uint32), ("delay_frames", ctypes.c_int32),
                *[(name, ctypes.c_double) for name in ("rate_hz", "max_gap_s", "seen_above", "hold_s",
                                                       "min_cutoff_hz", "beta", "d_cutoff_hz", "fx", "fy", "cx", "cy")],
                ("on_bad_time", ctypes.c_int32), ("mend_sides", ctypes.c_int32), ("lengths_m", ctypes.c_double * 7),
                ("gravity", ctypes.c_double * 3), ("deadline_ms", ctypes.c_double), ("distortion", ctypes.c_double * 8),
                ("height_m", ctypes.c_double), ("constant_bones", ctypes.c_int32), ("reserved", ctypes.c_int32)]


class Pose(ctypes.Structure):
    _fields_ = [("size", ctypes.c_uint32), ("joints", ctypes.c_int32), ("was_reset", ctypes.c_int32),
                ("timestamp_s", ctypes.c_double),
                *[(name, ctypes.POINTER(ctypes.c_float)) for name in ("joints_m", "keypoints_norm", "confidence")],
                ("is_seen", ctypes.POINTER(ctypes.c_uint8)), ("error_m", ctypes.POINTER(ctypes.c_float)),
                ("predicted_s", ctypes.c_double), ("root_m", ctypes.POINTER(ctypes.c_double)),
                ("root_error_m", ctypes.POINTER(ctypes.c_double))]


class Source(ctypes.Structure):
    _fields_ = [("joint", ctypes.c_char_p), ("keypoint", ctypes.c_int32), ("weight_x", ctypes.c_double),
                ("weight_y", ctypes.c_double)]


class Layout(ctypes.Structure):
    _fields_ = [("size", ctypes.c_uint32), ("keypoints", ctypes.c_int32), ("name", ctypes.c_char_p),
                ("sources", ctypes.POINTER(Source)), ("source_count", ctypes.c_size_t)]


class PeopleOptions(ctypes.Structure):
    _fields_ = [("size", ctypes.c_uint32), ("most_people", ctypes.c_int32), ("return_s", ctypes.c_double)]


class Axes(ctypes.Structure):
    _fields_ = [("rotation", ctypes.c_double * 9), ("origin_m", ctypes.c_double * 3)]

    def arrays(self):
        """(rotation (3, 3), origin_m (3,))."""
        return np.reshape(self.rotation, (3, 3)), np.array(self.origin_m)


class Movement(ctypes.Structure):
    _fields_ = [("size", ctypes.c_uint32), ("joints", ctypes.c_int32),
                *[(name, ctypes.POINTER(ctypes.c_double)) for name in ("rotations", "angles_deg", "velocity_m_s")],
                ("centre_of_mass_m", ctypes.c_double * 3)]


class Frame(ctypes.Structure):
    _fields_ = [("keypoints_px", ctypes.POINTER(ctypes.c_float)), ("keypoints", ctypes.c_size_t),
                ("columns", ctypes.c_size_t), ("timestamp_s", ctypes.c_double)]


def sized(struct, **values):
    return struct(size=ctypes.sizeof(struct), **values)


@functools.cache
def library():
    """The installed shared library, with the types of its functions."""
    lib = ctypes.CDLL(str(next(installed().glob("lib*/**/libedgepose.so"))))
    handle, size, floats = ctypes.c_void_p, ctypes.c_size_t, ctypes.POINTER(ctypes.c_float)
    doubles, axes = ctypes.POINTER(ctypes.c_double), ctypes.POINTER(Axes)
    for name, result, *arguments in (
            ("depth_at", ctypes.c_double, floats, size, size, ctypes.c_double, ctypes.c_double, ctypes.c_int32),
            ("hold_bones", ctypes.c_int, handle, doubles, floats, size),
            ("axes_named", ctypes.c_int, ctypes.c_char_p, axes),
            ("axes_of_camera", ctypes.c_int, doubles, doubles, axes),
            ("axes_of_gravity", ctypes.c_int, doubles, ctypes.c_double, axes),
            ("axes_move", ctypes.c_int, axes, floats, size, ctypes.c_int32),
            ("floor_open", ctypes.c_int, handle, doubles, ctypes.POINTER(handle)),
            ("floor_add", ctypes.c_int, handle, floats, doubles), ("floor_axes", ctypes.c_int, handle, axes),
            ("floor_reset", ctypes.c_int, handle), ("floor_close", None, handle),
            ("angle_name", ctypes.c_char_p, size), ("angle_range", ctypes.c_int, size, doubles, doubles),
            ("kinematics_open", ctypes.c_int, handle, ctypes.POINTER(handle)),
            ("kinematics_update", ctypes.c_int, handle, floats, doubles, ctypes.c_double, ctypes.POINTER(Movement)),
            ("kinematics_reset", ctypes.c_int, handle), ("kinematics_close", None, handle),
            ("abi_version", ctypes.c_uint32), ("version", ctypes.c_char_p), ("error", ctypes.c_char_p),
            ("engine_open", ctypes.c_int, ctypes.c_char_p, ctypes.POINTER(EngineOptions), ctypes.POINTER(handle)),
            ("engine_close", None, handle),
            *[(f"engine_{name}", ctypes.c_int32, handle) for name in ("frames", "joints", "is_causal")],
            *[(f"engine_{name}", ctypes.c_char_p, handle) for name in ("model", "precision", "isa", "skeleton")],
            ("engine_rate_hz", ctypes.c_double, handle),
            ("engine_joint", ctypes.c_char_p, handle, ctypes.c_int32),
            ("engine_parent", ctypes.c_int32, handle, ctypes.c_int32),
            ("engine_run", ctypes.c_int, handle, size, floats, size, floats, size),
            ("stream_open", ctypes.c_int, handle, ctypes.c_char_p, ctypes.c_double, ctypes.c_double,
             ctypes.POINTER(StreamOptions), ctypes.POINTER(handle)),
            ("stream_open_layout", ctypes.c_int, handle, ctypes.POINTER(Layout), ctypes.c_double,
             ctypes.c_double, ctypes.POINTER(StreamOptions), ctypes.POINTER(handle)),
            ("push_many", ctypes.c_int, ctypes.POINTER(handle), size, ctypes.POINTER(Frame), ctypes.POINTER(Pose)),
            ("stream_push", ctypes.c_int, handle, floats, size, size, ctypes.c_double, ctypes.POINTER(Pose)),
            ("stream_flush", ctypes.c_int, handle, ctypes.POINTER(Pose)), ("stream_reset", ctypes.c_int, handle),
            ("stream_memory_size", size, handle), ("stream_memory", ctypes.c_int, handle, ctypes.c_char_p, size),
            ("stream_remember", ctypes.c_int, handle, ctypes.c_char_p, size),
            ("notice_name", ctypes.c_char_p, size), ("stream_notice_count", ctypes.c_uint64, handle, ctypes.c_char_p),
            ("stream_notice_text", ctypes.c_char_p, handle, ctypes.c_char_p), ("stream_close", None, handle),
            ("people_open", ctypes.c_int, handle, ctypes.c_char_p, ctypes.c_double, ctypes.c_double,
             ctypes.POINTER(StreamOptions), ctypes.POINTER(PeopleOptions), ctypes.POINTER(handle)),
            ("people_push", ctypes.c_int, handle, floats, size, size, size, ctypes.c_double,
             ctypes.POINTER(ctypes.c_int64), ctypes.POINTER(size)),
            ("people_pose", ctypes.c_int, handle, size, ctypes.POINTER(ctypes.c_int64), ctypes.POINTER(Pose)),
            ("people_id", ctypes.c_int64, handle, size), ("people_flush", ctypes.c_int, handle, ctypes.POINTER(size)),
            ("people_notice_count", ctypes.c_uint64, handle, ctypes.c_char_p),
            ("people_notice_text", ctypes.c_char_p, handle, ctypes.c_char_p),
            ("people_reset", ctypes.c_int, handle), ("people_close", None, handle)):
        function = getattr(lib, f"edgepose_{name}")
        function.restype, function.argtypes = result, arguments
    return lib


def numbers(values):
    """An array of C's double, or null."""
    return None if values is None else (ctypes.c_double * len(values))(*values)


def error():
    return library().edgepose_error().decode()


def pointer(array):
    assert array.dtype == np.float32 and array.flags.c_contiguous
    return array.ctypes.data_as(ctypes.POINTER(ctypes.c_float))


class Refused(Exception):
    """A call returned a status below 0."""

    def __init__(self, status, text):
        super().__init__(text)
        self.status = status


def checked(status):
    if status < 0:
        raise Refused(status, error())
    return status


class Engine:
    """An engine of the C library."""

    def __init__(self, path, **options):
        self.lib, self.handle = library(), ctypes.c_void_p()
        c_options = sized(EngineOptions, **{"threads": 1, **options})
        checked(self.lib.edgepose_engine_open(str(path).encode(), c_options, self.handle))
        self.frames, self.joints = (self.lib.edgepose_engine_frames(self.handle),
                                    self.lib.edgepose_engine_joints(self.handle))

    def __del__(self):
        self.lib.edgepose_engine_close(self.handle)

    def run(self, x):
        out = np.full((len(x), self.joints, 3), np.nan, np.float32)
        checked(self.lib.edgepose_engine_run(self.handle, len(x), pointer(x), x.size, pointer(out), out.size))
        return out


DEFAULTS = {"delay_frames": 0, "rate_hz": -1.0, "max_gap_s": 0.5, "seen_above": -1.0, "hold_s": 0.3,
            "min_cutoff_hz": 0.0, "beta": 0.0, "d_cutoff_hz": 1.0,
            "fx": 0.0, "fy": 0.0, "cx": 0.0, "cy": 0.0, "on_bad_time": 0, "mend_sides": 1, "lengths_m": (0.0,) * 7,
            "gravity": (0.0,) * 3, "deadline_ms": 0.0, "distortion": (0.0,) * 8, "height_m": 0.0, "constant_bones": 0,
            "reserved": 0}


class Stream:
    """A stream of the C library; push returns the fields of a Python Pose, or None."""

    def __init__(self, engine, layout, image_size, **options):
        """layout: a name, or a detector's own sources: (keypoints, [(joint, keypoint, weight x, weight y)])."""
        self.lib, self.handle = engine.lib, ctypes.c_void_p()
        c_options = sized(StreamOptions, **{**DEFAULTS, **options})
        if isinstance(layout, str):
            checked(self.lib.edgepose_stream_open(engine.handle, layout.encode(), *image_size, c_options, self.handle))
        else:
            sources = (Source * len(layout[1]))(*[(joint.encode(), *rest) for joint, *rest in layout[1]])
            own = sized(Layout, keypoints=layout[0], name=b"own", sources=sources, source_count=len(sources))
            checked(self.lib.edgepose_stream_open_layout(engine.handle, own, *image_size, c_options, self.handle))

    def __del__(self):
        self.lib.edgepose_stream_close(self.handle)

    def push(self, keypoints_px, timestamp_s):
        pose, shape = sized(Pose), (0, 0)
        if keypoints_px is not None:
            keypoints_px, shape = np.ascontiguousarray(keypoints_px, np.float32), np.shape(keypoints_px)
        status = self.lib.edgepose_stream_push(self.handle, None if keypoints_px is None else pointer(keypoints_px),
                                               *shape, timestamp_s, pose)
        return self._answer(checked(status), pose)

    def flush(self):
        poses = []
        while not poses or poses[-1]:
            pose = sized(Pose)
            poses.append(self._answer(checked(self.lib.edgepose_stream_flush(self.handle, pose)), pose))
        return poses[:-1]

    @staticmethod
    def _answer(status, pose):
        if status == NO_POSE:
            return None
        j = pose.joints
        arrays = {name: np.ctypeslib.as_array(getattr(pose, name), shape).copy() for name, shape in
                  (("joints_m", (j, 3)), ("keypoints_norm", (j, 2)), ("confidence", (j,)), ("is_seen", (j,)))}
        root = {name: np.ctypeslib.as_array(getattr(pose, name), (3,)).copy() if getattr(pose, name) else None
                for name in ("root_m", "root_error_m")}
        return SimpleNamespace(timestamp_s=pose.timestamp_s, was_reset=bool(pose.was_reset),
                               predicted_s=pose.predicted_s, **arrays, **root)

    @classmethod
    def push_many(cls, streams, keypoints_px, times_s):
        arrays = [None if k is None else np.ascontiguousarray(k, np.float32) for k in keypoints_px]
        frames = [Frame(None, 0, 0, t) if k is None else Frame(pointer(k), *k.shape, t)
                  for k, t in zip(arrays, times_s)]
        n, poses = len(streams), (Pose * len(streams))(*[sized(Pose) for _ in streams])
        status = checked(library().edgepose_push_many((ctypes.c_void_p * n)(*[s.handle for s in streams]),
                                                      n, (Frame * n)(*frames), poses))
        answers = [cls._answer(OK if pose.joints else NO_POSE, pose) for pose in poses]
        assert status == (OK if any(answers) else NO_POSE)
        return answers

    def notices(self):
        """The notices so far, {kind: (count, text)}."""
        names, kind = [], 0
        while name := self.lib.edgepose_notice_name(kind):
            names.append(name)
            kind += 1
        return {name.decode(): (self.lib.edgepose_stream_notice_count(self.handle, name),
                                self.lib.edgepose_stream_notice_text(self.handle, name).decode()) for name in names}

    def reset(self):
        checked(self.lib.edgepose_stream_reset(self.handle))

    def memory(self, more=0):
        size = self.lib.edgepose_stream_memory_size(self.handle)
        memory = ctypes.create_string_buffer(size + more + 1)
        checked(self.lib.edgepose_stream_memory(self.handle, memory, size + more))
        return memory.raw[:size]

    def remember(self, memory):
        checked(self.lib.edgepose_stream_remember(self.handle, memory, len(memory)))


class People:
    """People of the C library; push answers with [(id, what a Pose of Python has)]."""

    def __init__(self, engine, layout, image_size, most_people=20, return_s=5.0, **options):
        self.lib, self.handle = engine.lib, ctypes.c_void_p()
        person, asked = sized(StreamOptions, **{**DEFAULTS, **options}), sized(PeopleOptions, most_people=most_people,
                                                                               return_s=return_s)
        checked(self.lib.edgepose_people_open(engine.handle, layout.encode(), *image_size, person, asked, self.handle))

    def __del__(self):
        self.lib.edgepose_people_close(self.handle)

    def push(self, keypoints_px, timestamp_s, ids=None):
        keypoints_px, count = np.ascontiguousarray(keypoints_px, np.float32), ctypes.c_size_t(99)
        ids = None if ids is None else (ctypes.c_int64 * len(ids))(*ids)
        status = self.lib.edgepose_people_push(self.handle, pointer(keypoints_px), *keypoints_px.shape, timestamp_s,
                                               ids, count)
        return self._answer(checked(status), count.value)

    def flush(self):
        poses, count = [], ctypes.c_size_t(99)
        while checked(self.lib.edgepose_people_flush(self.handle, count)) == OK:
            poses += self._answer(OK, count.value)
        return poses

    def ids(self, count):
        return [self.lib.edgepose_people_id(self.handle, i) for i in range(count)]

    def _answer(self, status, count):
        found, name = [], ctypes.c_int64()
        assert status == (OK if count else NO_POSE)
        for i in range(count):
            pose = sized(Pose)
            checked(self.lib.edgepose_people_pose(self.handle, i, name, pose))
            found.append((name.value, Stream._answer(OK, pose)))
        return found
