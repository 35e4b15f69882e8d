// The layout of a safetensors file: eight bytes of length, a JSON header of that length, and tensors that fill the rest
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

// A type that a tensor of an engine may have: as safetensors and as numpy name it.
struct TensorType {
  const char *name, *numpy;
  int bytes;
  std::optional<Type> plan;  // as a plan has it
};

struct StoredTensor {
  std::string name;
  const TensorType* type;
  std::vector<std::int64_t> shape;
  std::uint64_t begin, end;  // in the file
};

struct Safetensors {
  std::vector<StoredTensor> tensors;  // in the order of their names
  json::Value metadata;
};

constexpr std::uint64_t kLengthBytes = 8;

// The bytes before the tensors of a file of `file_bytes`, from its first eight, or from less if it has no more.
// Here and below: throws std::invalid_argument if the file is damaged or something else.
std::uint64_t head_bytes(std::string_view first, std::uint64_t file_bytes);

// The header of a file, from the bytes before its tensors.
json::Value safetensors_header(std::string_view head);

// The layout of a file of `file_bytes` whose tensors begin at byte `first`.
Safetensors read_safetensors(const json::Value& header, std::uint64_t first, std::uint64_t file_bytes);

}  // namespace edgepose
