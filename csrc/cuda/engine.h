// A plan on the GPU that is current, and what runs it. No CUDA header: bindings.cpp is compiled by the C++ compiler.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "program.h"

namespace edgepose::cuda {

struct Device {
  std::string name, compute_capability;
  int multiprocessors;
  long memory_bytes, l2_bytes;
  bool is_integrated;  // shares its memory with the CPU, as a Jetson's does
};

// The reason why no kernel can run here, or "": no driver, no device, or one this extension was not compiled for.
std::string why_unavailable();
std::vector<Device> devices();

// The compute capabilities that this extension has machine code for: 75 for sm_75.
std::vector<int> architectures();

// A program in the memory of the device that was current. Immutable; shared by any number of contexts, which run on
// that device. In this file everything throws std::runtime_error if CUDA fails.
class Plan {
 public:
  // Throws what make_program throws. spec.tensors' data may be freed afterwards.
  explicit Plan(const PlanSpec& spec);
  ~Plan();

  int frames() const { return program_.frames; }
  int joints() const { return program_.joints; }
  int inputs() const { return program_.inputs; }
  int outputs() const { return program_.outputs; }
  int steps() const { return (int)program_.steps.size(); }
  bool uses_tensor_cores() const { return uses_tensor_cores_; }
  long constant_bytes() const { return constant_bytes_; }

 private:
  friend class Context;
  int device_;
  bool uses_tensor_cores_;
  Program program_;  // its constants are on the device alone
  long constant_bytes_;
  void *steps_ = nullptr, *constants_ = nullptr;
};

// The working memory and the stream of one caller. One thread at a time may call it.
class Context {
 public:
  explicit Context(std::shared_ptr<const Plan> plan);
  ~Context();

  // pose_m[people][J][outputs] from keypoints_norm[people][T][J][inputs]: one launch, which reads and writes
  // page-locked memory of the host.
  void run(const float* keypoints_norm, float* pose_m, int people);

  // The time on the device of one launch for as many people as run() had last, mean of `launches` in a row, in ms.
  float device_ms(int launches);

 private:
  void reserve(int people);
  void launch(int people);
  void release();

  std::shared_ptr<const Plan> plan_;
  void *stream_ = nullptr, *arena_ = nullptr, *input_ = nullptr, *turns_ = nullptr;
  float *host_input_ = nullptr, *host_answer_ = nullptr;    // page-locked
  void *mapped_input_ = nullptr, *mapped_answer_ = nullptr;  // their addresses on the device
  int capacity_ = 0, people_ = 0, multiprocessors_ = 0;
};

// The CUDA graph of the work that `enqueue` puts on a stream: replays the launches of other libraries' engines as one.
class Graph {
 public:
  // stream: a cudaStream_t (or CUstream) as a number, not the default one. Throws if enqueue gives false or its work
  // cannot be captured.
  Graph(std::uintptr_t stream, const std::function<bool()>& enqueue);
  ~Graph();
  void launch(std::uintptr_t stream) const;

 private:
  void* executable_ = nullptr;
};

// attention_newest of kernels.cuh, for tests: arrays on the host.
void run_attention_newest(const float* q, const float* keys, const float* values, float* y, int people, int capacity,
                          int newest, int count, int heads, int d, int span);

// Mean milliseconds of `times` reads of `bytes` by all multiprocessors together; from L2 if they fit there.
float read_ms(long bytes, int times);

}  // namespace edgepose::cuda
