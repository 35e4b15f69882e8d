#include "safetensors.h"

#include <algorithm>
#include <stdexcept>

namespace edgepose {

namespace {

using json::Kind;
using json::Value;

constexpr std::uint64_t kMaxHeader = 1 << 20;  // bytes: fifty times the largest header so far

constexpr TensorType kTypes[] = {
    {"F32", "<f4", 4, Type::f32}, {"F16", "<f2", 2, Type::f16}, {"I8", "|i1", 1, Type::i8}, {"U8", "|u1", 1, {}}};

[[noreturn]] void damaged(const std::string& why) { throw std::invalid_argument(why); }

std::uint64_t whole(const Value& value, const std::string& name) {
  if (!value.is_whole || value.whole < 0) damaged("a size or an offset of tensor " + name + " is no whole number");
  return (std::uint64_t)value.whole;
}

StoredTensor read_tensor(const std::string& name, const Value& value) {
  const Value *type = value.find("dtype"), *shape = value.find("shape"), *offsets = value.find("data_offsets");
  if (!type || type->kind != Kind::string || !shape || shape->kind != Kind::array || !offsets
      || offsets->items.size() != 2)
    damaged("tensor " + name + " lacks its dtype, shape or data_offsets");
  StoredTensor stored{name, nullptr, {}, whole(offsets->items[0], name), whole(offsets->items[1], name)};
  for (const TensorType& known : kTypes)
    if (type->text == known.name) stored.type = &known;
  if (!stored.type) damaged("tensor " + name + " has dtype " + type->text + ", which no engine has");
  std::uint64_t bytes = stored.type->bytes;
  for (const Value& extent : shape->items) {
    const std::uint64_t n = whole(extent, name);
    if (n && bytes > UINT64_MAX / n) damaged("the shape of tensor " + name + " is too large");
    bytes *= n;
    stored.shape.push_back((std::int64_t)n);
  }
  if (stored.end < stored.begin || stored.end - stored.begin != bytes)
    damaged("the shape of tensor " + name + " does not fit its bytes");
  return stored;
}

}  // namespace

std::uint64_t head_bytes(std::string_view first, std::uint64_t file_bytes) {
  if (first.size() < kLengthBytes) damaged("it is too short");
  std::uint64_t length = 0;
  for (int i = kLengthBytes - 1; i >= 0; i--) length = length << 8 | (unsigned char)first[i];
  if (length > kMaxHeader || length > file_bytes - kLengthBytes)
    damaged("it does not begin as a safetensors file does");
  return kLengthBytes + length;
}

Value safetensors_header(std::string_view head) {
  Value header = json::parse(head.substr(kLengthBytes));
  if (header.kind != Kind::object) damaged("its header is no object");
  return header;
}

Safetensors read_safetensors(const Value& header, std::uint64_t first, std::uint64_t file_bytes) {
  Safetensors file;
  for (std::size_t i = 0; i < header.keys.size(); i++) {
    if (header.keys[i] == "__metadata__") file.metadata = header.items[i];
    else file.tensors.push_back(read_tensor(header.keys[i], header.items[i]));
  }
  std::sort(file.tensors.begin(), file.tensors.end(), [](const StoredTensor& a, const StoredTensor& b) {
    return a.begin != b.begin ? a.begin < b.begin : a.end < b.end;
  });
  std::uint64_t at = 0;
  for (StoredTensor& tensor : file.tensors) {
    if (tensor.begin != at) damaged("tensor " + tensor.name + " does not begin where the one before it ends");
    at = tensor.end;
    if (at > file_bytes - first) damaged("tensor " + tensor.name + " lies past its end");
    if ((first + tensor.begin) % tensor.type->bytes) damaged("tensor " + tensor.name + " is not aligned");
    tensor.begin += first, tensor.end += first;
  }
  if (first + at != file_bytes) damaged("bytes follow its tensors");
  std::sort(file.tensors.begin(), file.tensors.end(),
            [](const StoredTensor& a, const StoredTensor& b) { return a.name < b.name; });
  return file;
}

}  // namespace edgepose
