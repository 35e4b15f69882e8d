// Reads a plan from Python's dict and numpy arrays: for the extensions, the only files that include pybind11.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <map>
#include <stdexcept>
#include <string>

#include "plan_reader.h"
#include "without_gil.h"

namespace edgepose {

namespace py = pybind11;
using Floats = py::array_t<float, py::array::c_style>;
using Arrays = std::map<std::string, py::array>;

inline Type type_of(const py::array& array) {
  if (array.dtype().kind() == 'f' && array.itemsize() == 4) return Type::f32;
  if (array.dtype().kind() == 'f' && array.itemsize() == 2) return Type::f16;
  if (array.dtype().kind() == 'i' && array.itemsize() == 1) return Type::i8;
  throw std::invalid_argument("a weight tensor is neither float32 nor float16 nor int8");
}

inline Tensor tensor_of(const py::array& array) {
  if (!(array.flags() & py::array::c_style)) throw std::invalid_argument("a weight tensor is not C-contiguous");
  Tensor tensor{{}, type_of(array), array.data()};
  for (py::ssize_t i = 0; i < array.ndim(); i++) {
    if (array.shape(i) > (1 << 30)) throw std::invalid_argument("a weight tensor is too large");
    tensor.shape.push_back((int)array.shape(i));
  }
  return tensor;
}

// plan: the dict of enginefile.py, which plan_reader reads from its JSON, as it does without Python. The arrays are not
// copied.
inline PlanSpec spec_of(const py::dict& plan, const Arrays& arrays) {
  std::map<std::string, Tensor> tensors;
  for (const auto& [name, array] : arrays) tensors[name] = tensor_of(array);
  return read_plan(json::parse(py::module_::import("json").attr("dumps")(plan).cast<std::string>()), tensors);
}

inline void need_shape(const py::buffer_info& info, const std::vector<py::ssize_t>& shape, const char* name) {
  if (info.shape == shape) return;
  std::string came, wanted;
  for (py::ssize_t extent : info.shape) came += std::to_string(extent) + ", ";
  for (py::ssize_t extent : shape) wanted += std::to_string(extent) + ", ";
  throw std::invalid_argument(std::string(name) + " has shape (" + came + "); it needs (" + wanted + ")");
}

}  // namespace edgepose
