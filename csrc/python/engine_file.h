#pragma once

#include <pybind11/pybind11.h>

namespace edgepose {

// read_engine(path): what enginefile.read answers, but for the JSON.
void bind_engine_file(pybind11::module_ m);

}  // namespace edgepose
