// The layout of a safetensors file: the header's length in eight bytes, the JSON header, and tensors that fill the rest
// without a gap.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "../json.h"
#include "../plan.h"

namespace edgepose {

// A tensor type that an engine may use, with its names in safetensors and numpy.
struct TensorType {
  const char *name, *numpy;
  int bytes;
  std::optional<Type> plan;  // the plan's type for it
};

struct StoredTensor {
  std::string name;
  const TensorType* type;
  std::vector<std::int64_t> shape;
  std::uint64_t begin, end;  // byte offsets in the file
};

struct Safetensors {
  std::vector<StoredTensor> tensors;  // sorted by name
  json::Value metadata;
};

constexpr std::uint64_t kLengthBytes = 8;

// The number of bytes before the tensors of a file of `file_bytes`, from its first eight bytes, or all if it has fewer.
// This and the functions below throw std::invalid_argument if the file is damaged or of another kind.
std::uint64_t head_bytes(std::string_view first, std::uint64_t file_bytes);

// The header of a file, from the bytes before its tensors.
json::Value safetensors_header(std::string_view head);

// The layout of a file of `file_bytes` whose tensors begin at byte `first`.
Safetensors read_safetensors(const json::Value& header, std::uint64_t first, std::uint64_t file_bytes);

}  // namespace edgepose
