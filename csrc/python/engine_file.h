#pragma once

#include <pybind11/pybind11.h>

namespace edgepose {

// Binds read_engine(path): the result of enginefile.read before its JSON is parsed.
void bind_engine_file(pybind11::module_ m);

}  // namespace edgepose
