"""The benchmark on a GPU: CUDA and TensorRT engines beside torch. suite.sh builds, checks and measures all of it."""
