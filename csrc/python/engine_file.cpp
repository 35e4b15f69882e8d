// Engine files, read for edgepose/enginefile.py.
#include "engine_file.h"

#include <pybind11/numpy.h>

#include "../runtime/engine_file.h"

namespace edgepose {

namespace py = pybind11;

namespace {

// Returns (the header's text, {name: tensor}) of the file at `path`, in the file system's encoding. All tensors share
// one block of memory, which they keep alive.
py::tuple read(const std::string& path) {
  auto bytes = std::make_unique<Bytes>();
  EngineFile file;
  {
    py::gil_scoped_release nogil;
    *bytes = read_bytes(path);
    file = read_engine(path, *bytes);
  }
  char* const data = bytes->data.get();
  const py::capsule owner(bytes.release(), [](void* p) { delete static_cast<Bytes*>(p); });
  py::dict tensors;
  for (const StoredTensor& tensor : file.tensors)
    tensors[tensor.name.c_str()] = py::array(py::dtype(tensor.type->numpy), tensor.shape, data + tensor.begin, owner);
  return py::make_tuple(file.header, tensors);
}

void translate(std::exception_ptr thrown) {
  try {
    if (thrown) std::rethrow_exception(thrown);
  } catch (const EngineError& error) {
    const auto text = py::reinterpret_steal<py::object>(PyUnicode_DecodeFSDefault(error.what()));  // it names a path
    PyErr_SetObject(py::module_::import("edgepose.enginefile").attr("EngineError").ptr(), text.ptr());
  }
}

}  // namespace

void bind_engine_file(py::module_ m) {
  py::register_local_exception_translator(translate);
  m.def("read_engine", read, py::arg("path"));
}

}  // namespace edgepose
