// The runtime for Python: edgepose/stream.py, adapters.py and filters.py are its users.
#pragma once

#include <pybind11/pybind11.h>

namespace edgepose {

void bind_runtime(pybind11::module_& m);

}  // namespace edgepose
