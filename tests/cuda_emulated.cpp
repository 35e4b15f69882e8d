// The Python module of the emulated CUDA kernels: what edgepose._cuda offers, on a CPU.
#include "../csrc/cuda/kernels.cuh"
#include "../csrc/plan_arrays.h"

using namespace edgepose;

namespace {

void run(const py::dict& plan, const Arrays& tensors, const Floats& x, Floats& y, int blocks,
         bool uses_tensor_cores, unsigned order) {
  const cuda::Program program = cuda::make_program(spec_of(plan, tensors), uses_tensor_cores);
  const int people = (int)x.shape(0);
  // Starts as NaN, so that a read before the first write shows.
  std::vector<float> arena((std::size_t)program.arena * people, NAN), input(x.size(), NAN);
  std::vector<cuda::Shared> shared(blocks);
  std::memset((void*)shared.data(), 0xff, shared.size() * sizeof(cuda::Shared));
  const cuda::Launch launch = {program.steps.data(),
                               (int)program.steps.size(),
                               program.constants.data(),
                               arena.data(),
                               x.data(),
                               input.data(),
                               y.mutable_data(),
                               people,
                               program.frames,
                               program.joints,
                               program.inputs,
                               nullptr,
                               nullptr};
  cuda::emulated::launch(blocks, cuda::kThreads, order, [&] {
    cuda::Shared& mine = shared[blockIdx.x];
    uses_tensor_cores ? cuda::run<true>(launch, mine) : cuda::run<false>(launch, mine);
  });
}

}  // namespace

PYBIND11_MODULE(cuda_emulated, m) {
  m.def("run", run);
  m.def("steps", [](const py::dict& plan, const Arrays& tensors) {
    return cuda::make_program(spec_of(plan, tensors), false).steps.size();
  });
  m.def("attention_newest", [](const Floats& q, const Floats& keys, const Floats& values, Floats& y, int newest,
                               int count, int heads, int span) {
    const int people = (int)keys.shape(0), capacity = (int)keys.shape(1), C = (int)keys.shape(2);
    const float *from = q.data(), *k = keys.data(), *v = values.data();
    float* to = y.mutable_data();
    cuda::emulated::launch(2, cuda::kThreads, 0, [=] {
      cuda::attention_newest(from, k, v, to, people, capacity, newest, count, heads, C / heads, span);
    });
  });
}
