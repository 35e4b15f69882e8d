"""load() of any bytes, and of any header with a valid checksum: an engine that runs, or an EngineError."""

import json

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from models import engine_header, tiny_lifter, write_engine
from safetensors.numpy import save

import edgepose
from edgepose import enginefile
from edgepose.build_engines.lower import lower

MODEL = tiny_lifter()
PLAN, TENSORS = lower(MODEL, "fp32")
HEADER = {"format": 1, "units": "", **engine_header(MODEL), "plan": PLAN}
JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.just(10**400),
                    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
                    max_leaves=5)
SETTINGS = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def runs_or_says_why(path):
    try:
        engine = edgepose.load(path)
    except edgepose.EngineError as error:
        assert path.name in str(error)
        return
    if engine.frames < 100:
        engine.run(np.zeros((2, engine.frames, len(engine.skeleton), 2), np.float32))
    repr(engine).encode()


@SETTINGS
@given(cuts=st.lists(st.tuples(st.integers(0, 10**5), st.binary(max_size=8), st.integers(0, 8)),
                     min_size=1, max_size=5))
def test_any_damage_to_an_engine_file_is_named(tmp_path, cuts):
    path = tmp_path / "any.epose"
    data = bytearray(write_engine(path, MODEL).read_bytes())
    for at, new, removed in cuts:
        data[at % len(data):at % len(data) + removed] = new
    path.write_bytes(data)
    runs_or_says_why(path)


@SETTINGS
@given(key=st.sampled_from(sorted({*HEADER, "is_causal", "options", "batch", "machine", "rung",
                                   "inputs", "outputs", "rate_hz", "quantisation"})), value=JSON)
def test_any_header_under_a_seal_that_fits_is_taken_or_named(tmp_path, key, value):
    text = json.dumps({**HEADER, key: value})
    (tmp_path / "any.epose").write_bytes(
        save(TENSORS, {"edgepose": text, "sha256": enginefile.checksum(text, TENSORS)}))
    runs_or_says_why(tmp_path / "any.epose")


@pytest.mark.parametrize("backend", ["onnx", "torchscript", "tensorrt"])
def test_any_payload_of_a_stranger_is_not_looked_at(tmp_path, backend):
    header = {**engine_header(MODEL), "backend": backend, "batch": 1, "machine": {}, "rung": "strong"}
    enginefile.write(tmp_path / "any.epose", header,
                     {"payload": np.frombuffer(np.random.default_rng(0).bytes(999), np.uint8)})
    with pytest.raises(edgepose.EngineError, match="can do what a program can"):
        edgepose.load(tmp_path / "any.epose")
