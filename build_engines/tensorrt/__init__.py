"""TensorRT engines: a plan as a graph that TensorRT takes, the build on this machine, or later on a board."""
