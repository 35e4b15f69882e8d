"""ONNX Runtime on the CPU. With half-precision weights the graph widens them when it is loaded."""

from __future__ import annotations

from collections.abc import Sequence

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
        self._input, *state = self._session.get_inputs()
        # The floats of what the graph remembers of a person; 0: it takes windows.
        self.state = int(state[0].shape[1]) if state else 0

    def run(self, x: np.ndarray, out: np.ndarray) -> None:
        """out (B, J, D) from x (B, T, J, C), both C-contiguous float32."""
        if not self.state:
            out[...] = self._session.run(None, {self._input.name: x})[0]
            return
        states = np.zeros((len(x), self.state), np.float32)
        for frame in range(x.shape[1]):
            out[...], states = self._session.run(None, {self._input.name: x[:, frame:frame + 1], "state": states})

    def step(self, x: np.ndarray, states: Sequence[np.ndarray], out: np.ndarray) -> None:
        """out (B, J, D) from x (B, 1, J, C) and the states of B people, (state,) each, which are advanced."""
        out[...], after = self._session.run(None, {self._input.name: x, "state": np.stack(states)})
        for state, row in zip(states, after):
            state[...] = row
