// Reads .epose files, as edgepose/enginefile.py describes them.
#pragma once

#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "../plan.h"
#include "layouts.h"

namespace edgepose {

// An engine file cannot be read, or not be run here. The message names the file and says what to do.
struct EngineError : std::runtime_error {
  using std::runtime_error::runtime_error;
};

struct EngineFile {
  std::string model, precision;
  const Skeleton* skeleton;
  int frames;
  bool is_causal;
  double rate_hz;  // that the model was trained on; 0: the file does not say
  PlanSpec plan;  // its tensors lie in the file's bytes
};

// The bytes of a file. Throws EngineError if there is none, std::bad_alloc.
std::vector<char> read_bytes(const std::string& path);

// The native engine in a file's bytes, which must outlive its plan's tensors and start on a boundary of 8. `name` is for the
// messages. is_sealed: false where the checksum shall not count, for the fuzzer. Throws EngineError if they are damaged, of
// another kind, for another backend, or by a newer edgepose; whether the plan is sound is for Plan to say.
EngineFile read_engine(const std::string& name, std::string_view bytes, bool is_sealed = true);

}  // namespace edgepose
