// The CUDA engine's extension. It imports where there is no driver: why_unavailable() says what is missing.
#include <pybind11/functional.h>

#include "../plan_arrays.h"
#include "engine.h"

using namespace edgepose;

namespace {

class ArrayContext : public cuda::Context {
 public:
  explicit ArrayContext(std::shared_ptr<cuda::Plan> plan) : cuda::Context(plan), plan_(std::move(plan)) {}

  void run(const Floats& x, Floats& y) {
    const py::ssize_t people = x.ndim() > 0 ? x.shape(0) : 0;
    need_shape(x.request(), {people, plan_->frames(), plan_->joints(), plan_->inputs()}, "keypoints_norm");
    need_shape(y.request(), {people, plan_->joints(), plan_->outputs()}, "pose_m");
    if (people > 1 << 16) throw std::invalid_argument("more than 65536 people in one call");
    const float* from = x.data();
    float* to = y.mutable_data();
    WithoutGil nogil;
    cuda::Context::run(from, to, (int)people);
  }

 private:
  std::shared_ptr<cuda::Plan> plan_;
};

void attention_newest(const Floats& q, const Floats& keys, const Floats& values, Floats& y, int newest, int count,
                      int heads, int span) {
  const py::buffer_info ring = keys.request();
  if (ring.ndim != 3 || heads < 1 || ring.shape[2] % heads)
    throw std::invalid_argument("keys is not (people, capacity, channels) of the heads");
  need_shape(values.request(), ring.shape, "values");
  need_shape(q.request(), {ring.shape[0], ring.shape[2]}, "q");
  need_shape(y.request(), {ring.shape[0], ring.shape[2]}, "y");
  const int people = (int)ring.shape[0], capacity = (int)ring.shape[1], d = (int)ring.shape[2] / heads;
  if (newest < 0 || newest >= capacity || count < 1 || count > capacity || span < 0 || d > cuda::kHeadWidth)
    throw std::invalid_argument("newest, count, span or the heads' width is out of range");
  cuda::run_attention_newest(q.data(), keys.data(), values.data(), y.mutable_data(), people, capacity, newest, count,
                             heads, d, span);
}

}  // namespace

PYBIND11_MODULE(_cuda, m) {
  m.def("why_unavailable", [] {
    const std::string why = cuda::why_unavailable();
    return why.empty() ? py::object(py::none()) : py::object(py::str(why));
  });
  m.def("devices", [] {
    py::list all;
    for (const cuda::Device& d : cuda::devices()) {
      using namespace pybind11::literals;
      all.append(py::dict("name"_a = d.name, "compute_capability"_a = d.compute_capability,
                          "multiprocessors"_a = d.multiprocessors, "memory_bytes"_a = d.memory_bytes,
                          "l2_bytes"_a = d.l2_bytes, "is_integrated"_a = d.is_integrated));
    }
    return all;
  });
  m.def("architectures", cuda::architectures);
  py::class_<cuda::Plan, std::shared_ptr<cuda::Plan>>(m, "Plan")
      .def(py::init([](const py::dict& plan, const Arrays& tensors) {
        return std::make_shared<cuda::Plan>(spec_of(plan, tensors));
      }))
      .def_property_readonly("steps", &cuda::Plan::steps)
      .def_property_readonly("uses_tensor_cores", &cuda::Plan::uses_tensor_cores)
      .def_property_readonly("constant_bytes", &cuda::Plan::constant_bytes);
  py::class_<ArrayContext>(m, "Context")
      .def(py::init<std::shared_ptr<cuda::Plan>>())
      .def("run", &ArrayContext::run, py::arg("keypoints_norm").noconvert(), py::arg("pose_m").noconvert())
      .def("device_ms", &ArrayContext::device_ms, py::arg("launches"), py::call_guard<WithoutGil>());
  py::class_<cuda::Graph>(m, "Graph")
      .def("launch", &cuda::Graph::launch, py::arg("stream"), py::call_guard<WithoutGil>());
  m.def("capture", [](std::uintptr_t stream, const std::function<bool()>& enqueue) {
    return std::make_unique<cuda::Graph>(stream, enqueue);
  });
  m.def("attention_newest", attention_newest);
  m.def("read_ms", &cuda::read_ms, py::arg("bytes"), py::arg("times"), py::call_guard<WithoutGil>());
}
