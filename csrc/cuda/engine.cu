#include "engine.h"

#include <cuda_runtime.h>

#include <chrono>
#include <cstring>
#include <stdexcept>
#include <utility>

#include "kernels.cuh"

namespace edgepose::cuda {

namespace {

void check(cudaError_t status, const char* what) {
  if (status == cudaSuccess) return;
  cudaGetLastError();  // else a later call reports it again
  throw std::runtime_error(std::string(what) + ": " + cudaGetErrorString(status));
}

// Device memory that is freed if a constructor throws before keep().
struct DeviceMemory {
  void* bytes = nullptr;
  explicit DeviceMemory(std::size_t size) { check(cudaMalloc(&bytes, size ? size : 1), "cudaMalloc"); }
  ~DeviceMemory() { cudaFree(bytes); }
  DeviceMemory(const DeviceMemory&) = delete;
  void* keep() { return std::exchange(bytes, nullptr); }
  template <class T>
  T* as() const { return static_cast<T*>(bytes); }
};

struct Event {
  cudaEvent_t event;
  Event() { check(cudaEventCreate(&event), "cudaEventCreate"); }
  ~Event() { cudaEventDestroy(event); }
  void record(cudaStream_t stream) { check(cudaEventRecord(event, stream), "cudaEventRecord"); }
};

// The time from one event to the other, in ms, once both have happened.
float between(const Event& first, const Event& last) {
  check(cudaEventSynchronize(last.event), "waiting for the kernels");
  float ms = 0;
  check(cudaEventElapsedTime(&ms, first.event, last.event), "cudaEventElapsedTime");
  return ms;
}

// Makes a device the thread's current one within a scope.
class OnDevice {
 public:
  explicit OnDevice(int device) {
    check(cudaGetDevice(&before_), "cudaGetDevice");
    if (before_ != device) check(cudaSetDevice(device), "cudaSetDevice");
  }
  ~OnDevice() { cudaSetDevice(before_); }

 private:
  int before_;
};

// Waits for a stream. Spins at first: on a Jetson a wait that sleeps costs more than the pose.
void wait_for(cudaStream_t stream) {
  const auto start = std::chrono::steady_clock::now();
  cudaError_t status;
  do status = cudaStreamQuery(stream);
  while (status == cudaErrorNotReady && std::chrono::steady_clock::now() - start < std::chrono::milliseconds(1));
  if (status == cudaErrorNotReady) status = cudaStreamSynchronize(stream);
  check(status, "running the plan");
}

// One block per multiprocessor, all running at once.
__global__ void __launch_bounds__(kThreads, 1) run_plan(Launch launch) {
  extern __shared__ __align__(16) unsigned char bytes[];
  Shared& shared = *reinterpret_cast<Shared*>(bytes);
#if __CUDA_ARCH__ >= 800
  run<true>(launch, shared);
#else
  run<false>(launch, shared);
#endif
}

__global__ void newest_tokens(const float* q, const float* keys, const float* values, float* y, int people,
                              int capacity, int newest, int count, int heads, int d, int span) {
  attention_newest(q, keys, values, y, people, capacity, newest, count, heads, d, span);
}

__global__ void read_all(const float4* from, long count, float* sink) {
  float4 sum = {0, 0, 0, 0};
  for (long i = (long)blockIdx.x * blockDim.x + threadIdx.x; i < count; i += (long)gridDim.x * blockDim.x) {
    const float4 v = from[i];
    sum.x += v.x, sum.y += v.y, sum.z += v.z, sum.w += v.w;
  }
  if (sum.x + sum.y + sum.z + sum.w == 1) *sink = 1;  // never true (memory is zero), but keeps the reads
}

int current_device() {
  int device = 0;
  check(cudaGetDevice(&device), "cudaGetDevice");
  return device;
}

int attribute(cudaDeviceAttr which) {
  int value = 0;
  check(cudaDeviceGetAttribute(&value, which, current_device()), "cudaDeviceGetAttribute");
  return value;
}

// Whether this device's code of run_plan was compiled for sm_80 or later and so has the tensor core path.
bool has_tensor_cores() {
  cudaFuncAttributes attributes;
  check(cudaFuncGetAttributes(&attributes, run_plan), "cudaFuncGetAttributes");
  return attributes.ptxVersion >= 80;
}

}  // namespace

std::string why_unavailable() {
  int count = 0;
  cudaError_t status = cudaGetDeviceCount(&count);
  if (status == cudaSuccess && count == 0) return "no CUDA device";
  if (status == cudaSuccess) {
    cudaFuncAttributes attributes;
    status = cudaFuncGetAttributes(&attributes, run_plan);
  }
  cudaGetLastError();
  return status == cudaSuccess ? "" : cudaGetErrorString(status);
}

std::vector<Device> devices() {
  std::vector<Device> found;
  int count = 0;
  if (cudaGetDeviceCount(&count) != cudaSuccess) count = 0;
  cudaGetLastError();
  for (int i = 0; i < count; i++) {
    cudaDeviceProp p;
    check(cudaGetDeviceProperties(&p, i), "cudaGetDeviceProperties");
    found.push_back({p.name, std::to_string(p.major) + "." + std::to_string(p.minor), p.multiProcessorCount,
                     (long)p.totalGlobalMem, (long)p.l2CacheSize, p.integrated != 0});
  }
  return found;
}

std::vector<int> architectures() {
  std::vector<int> all;
  for (int name : {__CUDA_ARCH_LIST__}) all.push_back(name / 10);
  return all;
}

Plan::Plan(const PlanSpec& spec)
    : device_(current_device()),
      uses_tensor_cores_(has_tensor_cores()),
      program_(make_program(spec, uses_tensor_cores_)) {
  constant_bytes_ = (long)program_.constants.size();
  const std::size_t step_bytes = program_.steps.size() * sizeof(Step);
  DeviceMemory steps(step_bytes), constants(program_.constants.size());
  check(cudaMemcpy(steps.bytes, program_.steps.data(), step_bytes, cudaMemcpyHostToDevice), "copying the plan");
  check(cudaMemcpy(constants.bytes, program_.constants.data(), program_.constants.size(), cudaMemcpyHostToDevice),
        "copying the weights");
  check(cudaStreamSynchronize(cudaStreamLegacy), "copying the plan");  // a small copy may return before it is there
  std::vector<unsigned char>().swap(program_.constants);
  steps_ = steps.keep(), constants_ = constants.keep();
}

Plan::~Plan() {
  cudaFree(steps_);
  cudaFree(constants_);
}

Context::Context(std::shared_ptr<const Plan> plan) : plan_(std::move(plan)) {
  const OnDevice here(plan_->device_);
  if (!attribute(cudaDevAttrCooperativeLaunch)) throw std::runtime_error("this device has no cooperative launches");
  check(cudaFuncSetAttribute(run_plan, cudaFuncAttributeMaxDynamicSharedMemorySize, sizeof(Shared)),
        "shared memory for the kernel");
  int a_multiprocessor = 0;
  check(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&a_multiprocessor, run_plan, kThreads, sizeof(Shared)),
        "occupancy");
  if (a_multiprocessor < 1) throw std::runtime_error("the kernel does not fit this device's multiprocessors");
  multiprocessors_ = attribute(cudaDevAttrMultiProcessorCount);
  try {
    cudaStream_t stream;
    check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "cudaStreamCreate");
    stream_ = stream;
    DeviceMemory turns(2 * sizeof(unsigned));
    // It is done before the launches on this stream.
    check(cudaMemsetAsync(turns.bytes, 0, 2 * sizeof(unsigned), stream), "cudaMemsetAsync");
    turns_ = turns.keep();
    reserve(1);
  } catch (...) {
    release();
    throw;
  }
}

Context::~Context() { release(); }

void Context::release() {
  int before = 0;
  if (cudaGetDevice(&before) != cudaSuccess || cudaSetDevice(plan_->device_) != cudaSuccess) return;
  cudaFree(arena_), cudaFree(input_), cudaFree(turns_);
  cudaFreeHost(host_input_), cudaFreeHost(host_answer_);
  if (stream_) cudaStreamDestroy(static_cast<cudaStream_t>(stream_));
  cudaSetDevice(before);
}

void Context::reserve(int people) {
  if (people <= capacity_) return;
  const std::size_t input = (std::size_t)people * plan_->frames() * plan_->joints() * plan_->inputs() * sizeof(float);
  const std::size_t answer = (std::size_t)people * plan_->joints() * plan_->outputs() * sizeof(float);
  DeviceMemory arena((std::size_t)plan_->program_.arena * people * sizeof(float)), staged(input);
  void *host_input = nullptr, *host_answer = nullptr;
  check(cudaHostAlloc(&host_input, input, cudaHostAllocMapped), "page-locked memory");
  if (const cudaError_t status = cudaHostAlloc(&host_answer, answer, cudaHostAllocMapped); status != cudaSuccess) {
    cudaFreeHost(host_input);
    check(status, "page-locked memory");
  }
  cudaFree(arena_), cudaFree(input_);
  cudaFreeHost(host_input_), cudaFreeHost(host_answer_);
  arena_ = arena.keep(), input_ = staged.keep();
  host_input_ = static_cast<float*>(host_input), host_answer_ = static_cast<float*>(host_answer);
  capacity_ = 0;
  check(cudaHostGetDevicePointer(&mapped_input_, host_input_, 0), "mapped memory");
  check(cudaHostGetDevicePointer(&mapped_answer_, host_answer_, 0), "mapped memory");
  capacity_ = people;
}

void Context::launch(int people) {
  auto* turns = static_cast<unsigned*>(turns_);
  Launch launch = {static_cast<const Step*>(plan_->steps_), plan_->steps(),
                   static_cast<const unsigned char*>(plan_->constants_), static_cast<float*>(arena_),
                   static_cast<const float*>(mapped_input_), static_cast<float*>(input_),
                   static_cast<float*>(mapped_answer_), people, plan_->frames(), plan_->joints(), plan_->inputs(),
                   turns, turns + 1};
  void* arguments[] = {&launch};
  const long most = plan_->program_.most_items(people);  // blocks without work would be waited for
  const int blocks = (int)(most < multiprocessors_ ? most : multiprocessors_);
  check(cudaLaunchCooperativeKernel((const void*)run_plan, dim3(blocks), dim3(kThreads), arguments, sizeof(Shared),
                                    static_cast<cudaStream_t>(stream_)), "launching the plan");
}

void Context::run(const float* keypoints_norm, float* pose_m, int people) {
  if (people <= 0) return;
  const OnDevice here(plan_->device_);
  reserve(people);
  people_ = people;
  std::memcpy(host_input_, keypoints_norm,
              (std::size_t)people * plan_->frames() * plan_->joints() * plan_->inputs() * sizeof(float));
  launch(people);
  wait_for(static_cast<cudaStream_t>(stream_));
  std::memcpy(pose_m, host_answer_, (std::size_t)people * plan_->joints() * plan_->outputs() * sizeof(float));
}

float Context::device_ms(int launches) {
  if (people_ < 1 || launches < 1)
    throw std::invalid_argument("device_ms needs a run() before it and at least one launch");
  const OnDevice here(plan_->device_);
  const auto stream = static_cast<cudaStream_t>(stream_);
  Event first, last;
  first.record(stream);
  for (int i = 0; i < launches; i++) launch(people_);
  last.record(stream);
  return between(first, last) / (float)launches;
}

Graph::Graph(std::uintptr_t handle, const std::function<bool()>& enqueue) {
  const auto stream = reinterpret_cast<cudaStream_t>(handle);
  check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "cudaStreamBeginCapture");
  bool is_enqueued = false;
  cudaGraph_t graph = nullptr;
  try {
    is_enqueued = enqueue();
  } catch (...) {
    if (cudaStreamEndCapture(stream, &graph) == cudaSuccess) cudaGraphDestroy(graph);
    cudaGetLastError();
    throw;
  }
  check(cudaStreamEndCapture(stream, &graph), "cudaStreamEndCapture");
  cudaGraphExec_t executable = nullptr;
  const cudaError_t status = is_enqueued ? cudaGraphInstantiate(&executable, graph, 0ULL) : cudaSuccess;
  cudaGraphDestroy(graph);
  if (!is_enqueued) throw std::runtime_error("nothing was captured: the work was refused");
  check(status, "cudaGraphInstantiate");
  executable_ = executable;
}

Graph::~Graph() {
  if (executable_) cudaGraphExecDestroy(static_cast<cudaGraphExec_t>(executable_));
}

void Graph::launch(std::uintptr_t stream) const {
  check(cudaGraphLaunch(static_cast<cudaGraphExec_t>(executable_), reinterpret_cast<cudaStream_t>(stream)),
        "cudaGraphLaunch");
}

void run_attention_newest(const float* q, const float* keys, const float* values, float* y, int people, int capacity,
                          int newest, int count, int heads, int d, int span) {
  const std::size_t row = (std::size_t)people * heads * d * sizeof(float), ring = row * capacity;
  const DeviceMemory dq(row), dk(ring), dv(ring), dy(row);
  check(cudaMemcpy(dq.bytes, q, row, cudaMemcpyHostToDevice), "cudaMemcpy");
  check(cudaMemcpy(dk.bytes, keys, ring, cudaMemcpyHostToDevice), "cudaMemcpy");
  check(cudaMemcpy(dv.bytes, values, ring, cudaMemcpyHostToDevice), "cudaMemcpy");
  newest_tokens<<<(people * heads + kWarps - 1) / kWarps, kThreads>>>(
      dq.as<float>(), dk.as<float>(), dv.as<float>(), dy.as<float>(), people, capacity, newest, count, heads, d, span);
  check(cudaGetLastError(), "launching attention_newest");
  check(cudaMemcpy(y, dy.bytes, row, cudaMemcpyDeviceToHost), "attention_newest");
}

float read_ms(long bytes, int times) {
  const DeviceMemory memory(bytes), sink(sizeof(float));
  check(cudaMemset(memory.bytes, 0, bytes), "cudaMemset");
  const int blocks = 4 * attribute(cudaDevAttrMultiProcessorCount);
  Event first, last;
  for (int i = -1; i < times; i++) {
    if (i == 0) first.record(nullptr);
    read_all<<<blocks, 512>>>(memory.as<float4>(), bytes / (long)sizeof(float4), sink.as<float>());
    check(cudaGetLastError(), "launching read_all");
  }
  last.record(nullptr);
  return between(first, last) / (float)times;
}

}  // namespace edgepose::cuda
