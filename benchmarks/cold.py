"""A runtime in a fresh process: imports it, loads one file, makes the first pose, prints what that took.

    python cold.py RUNTIME FILE FRAMES JOINTS THREADS  ->  {"load_ms": ..., "rss_mb": ...}
"""

import time

START = time.perf_counter()  # the interpreter is up; nothing of the runtime is imported yet

import json  # noqa: E402
import resource  # noqa: E402
import sys  # noqa: E402


def first_pose(runtime: str, file: str, shape: tuple[int, ...], threads: int) -> None:
    """One pose from zeros, by the runtime's shortest way."""
    import numpy as np

    x = np.zeros(shape, np.float32)
    if runtime in ("native", "stream"):
        import edgepose

        edgepose.load(file, threads=threads).run(x)
    elif runtime.startswith("onnxruntime"):
        import onnxruntime

        onnxruntime.InferenceSession(file).run(None, {"keypoints_norm": x})
    elif runtime.startswith("openvino"):
        import openvino

        openvino.Core().compile_model(file, "CPU").create_infer_request().infer([x])
    elif runtime == "torchscript":
        import torch

        torch.jit.load(file)(torch.from_numpy(x))
    else:
        import torch

        from edgepose.build_engines.checkpoints import load_checkpoint

        with torch.inference_mode():
            load_checkpoint(file)[0](torch.from_numpy(x))


if __name__ == "__main__":
    first_pose(sys.argv[1], sys.argv[2], (1, int(sys.argv[3]), int(sys.argv[4]), 2), int(sys.argv[5]))
    load_ms = (time.perf_counter() - START) * 1e3
    with open("/proc/self/statm") as file:
        rss_mb = int(file.read().split()[1]) * resource.getpagesize() / 1e6
    print(json.dumps({"load_ms": load_ms, "rss_mb": rss_mb}))
