"""TorchScript on the CPU: for comparison, and where torch is installed anyway."""

from __future__ import annotations

import io
import warnings

import numpy as np


class Backend:
    """run(x, out) of a TorchScript module. torch's thread count is one for the process: it is set to `threads`."""

    def __init__(self, header: dict, tensors: dict[str, np.ndarray], threads: int, isa: str):
        import torch

        self._torch = torch
        torch.set_num_threads(threads)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # torch.jit is deprecated, and this backend is for it
            self._module = torch.jit.load(io.BytesIO(tensors["payload"].tobytes()), map_location="cpu").eval()

    def run(self, x: np.ndarray, out: np.ndarray) -> None:
        """out (B, J, D) from x (B, T, J, C), both C-contiguous float32."""
        with self._torch.inference_mode():
            out[...] = self._module(self._torch.from_numpy(x)).numpy()
