"""ONNX Runtime on the CPU. With half-precision weights the graph widens them when it is loaded."""

from __future__ import annotations

import numpy as np

from ..onnxfile import check_has_no_external_data


class Backend:
    """run(x, out) in an ONNX Runtime session with `threads` threads."""

    def __init__(self, header: dict, tensors: dict[str, np.ndarray], threads: int, isa: str):
        import onnxruntime

        payload = tensors["payload"].tobytes()
        check_has_no_external_data(payload)
        options = onnxruntime.SessionOptions()
        options.add_session_config_entry("session.load_model_format", "ONNX")
        options.intra_op_num_threads = threads
        if header["precision"] == "int8":  # else it multiplies in saturating 16 bits where the CPU has no VNNI
            options.add_session_config_entry("session.x64quantprecision", "1")
        self._session = onnxruntime.InferenceSession(payload, options, providers=["CPUExecutionProvider"])
        self._input = self._session.get_inputs()[0].name

    def run(self, x: np.ndarray, out: np.ndarray) -> None:
        """out (B, J, D) from x (B, T, J, C), both C-contiguous float32."""
        out[...] = self._session.run(None, {self._input: x})[0]
