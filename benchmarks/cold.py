"""A runtime in a fresh process: imports it, loads one file, makes the first pose, prints what that took.

    python cold.py RUNTIME FILE FRAMES JOINTS COLUMNS THREADS  ->  {"load_ms": ..., "rss_mb": ...}
"""

import time

START = time.perf_counter()  # the interpreter is up; nothing of the runtime is imported yet

import json  # noqa: E402
import resource  # noqa: E402
import sys  # noqa: E402


def first_pose(runtime: str, file: str, shape: tuple[int, ...], threads: int) -> object:
    """One pose from zeros, by the runtime's shortest way; what must live on to make the next one."""
    import numpy as np

    x = np.zeros(shape, np.float32)
    if runtime in ("native", "stream", "stream-cpp", "people"):
        import edgepose

        lifter = edgepose.load(file, threads=threads)
        lifter.run(x)
    elif runtime.startswith("onnxruntime"):
        import onnxruntime

        lifter = onnxruntime.InferenceSession(file)
        lifter.run(None, {"keypoints_norm": x})
    elif runtime.startswith("openvino"):
        import openvino

        lifter = openvino.Core().compile_model(file, "CPU").create_infer_request()
        lifter.infer([x])
    elif runtime == "ncnn":
        import ncnn

        lifter = ncnn.Net()
        lifter.load_param(file)
        lifter.load_model(file.removesuffix("param") + "bin")
        with lifter.create_extractor() as extractor:
            extractor.input("in0", ncnn.Mat(x[0]))
            extractor.extract("out0")
    elif runtime == "executorch":
        import torch
        from executorch.runtime import Runtime

        lifter = Runtime.get().load_program(file).load_method("forward")
        lifter.execute([torch.from_numpy(x)])
    elif runtime == "torchscript":
        import torch

        lifter = torch.jit.load(file)
        lifter(torch.from_numpy(x))
    else:
        import torch

        from edgepose.zoo.checkpoints import load_checkpoint

        lifter, _ = load_checkpoint(file)
        with torch.inference_mode():
            lifter(torch.from_numpy(x))
    return lifter


if __name__ == "__main__":
    lifter = first_pose(sys.argv[1], sys.argv[2], (1, *map(int, sys.argv[3:6])), int(sys.argv[6]))
    load_ms = (time.perf_counter() - START) * 1e3
    with open("/proc/self/statm") as file:
        rss_mb = int(file.read().split()[1]) * resource.getpagesize() / 1e6
    print(json.dumps({"load_ms": load_ms, "rss_mb": rss_mb}))
