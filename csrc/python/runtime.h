// The runtime for Python: edgepose/stream.py, adapters.py and filters.py are its users.
#pragma once

#include <pybind11/numpy.h>

#include "../runtime/layouts.h"

namespace edgepose {

namespace py = pybind11;

template <class T>
using Array = py::array_t<T, py::array::c_style | py::array::forcecast>;

// A Skeleton of edgepose/skeleton.py. Throws std::invalid_argument if it has no tree.
Skeleton skeleton_of(const py::handle& skeleton);

void bind_runtime(py::module_& m);
void bind_people(py::module_& m);
void bind_parts(py::module_& m);
void bind_movement(py::module_& m);

}  // namespace edgepose
