// Reads .epose files, as edgepose/enginefile.py describes and writes them.
#pragma once

#include <memory>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "../plan.h"
#include "layouts.h"
#include "safetensors.h"

namespace edgepose {

// An engine file cannot be read or run here. The message names the file and says what to do.
struct EngineError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

struct EngineFile {
  std::string header;  // the file's JSON text
  std::string model, precision, backend;
  const Skeleton* skeleton;
  int frames;
  bool is_causal;
  std::vector<std::string> inputs, outputs;  // column names
  double rate_hz;                            // the frame rate of its training; 0: the file does not say
  std::vector<StoredTensor> tensors;         // offsets into the file's bytes
  PlanSpec plan;                             // where it has one; its tensors lie in the file's bytes

  bool has_plan() const { return backend == "native" || backend == "cuda"; }
};

struct Bytes {
  std::unique_ptr<char[]> data;
  std::size_t size = 0;
  operator std::string_view() const { return {data.get(), size}; }
};

// Reads a file, whole only if the sizes in its head fit. Throws EngineError if they do not or there is no file;
// std::bad_alloc.
Bytes read_bytes(const std::string& path);

// The engine in a file's bytes, which must outlive its plan's tensors and be aligned to 8 bytes. `name` is for
// messages. is_sealed: false skips the checksum, for the fuzzer. Throws EngineError if the bytes are damaged, of
// another kind or from a newer edgepose, or a weight is NaN or infinite. Plan checks whether the plan is sound.
EngineFile read_engine(const std::string& name, std::string_view bytes, bool is_sealed = true);

}  // namespace edgepose
