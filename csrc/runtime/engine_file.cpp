#include "engine_file.h"

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <optional>

#include "../plan_reader.h"
#include "sha256.h"

namespace edgepose {

namespace {

constexpr int kFormat = 1;  // edgepose/enginefile.py

using json::Kind;
using json::Value;

constexpr std::uint64_t kMaxHeader = 1 << 20;  // bytes: fifty times the largest there is

// The types a tensor of an engine may have: as safetensors, and as the checksum (numpy), names them.
struct TensorType {
  const char *name, *numpy;
  int bytes;
  std::optional<Type> plan;  // as a plan has it
};
constexpr TensorType kTypes[] = {{"F32", "<f4", 4, Type::f32}, {"F16", "<f2", 2, Type::f16}, {"I8", "|i1", 1, Type::i8}, {"U8", "|u1", 1, {}}};

struct Stored {
  std::string name;
  const TensorType* type;
  std::vector<std::int64_t> shape;
  std::uint64_t begin, end;  // in the bytes
};

struct Safetensors {
  std::vector<Stored> tensors;  // in the order of their names
  Value metadata;
};

[[noreturn]] void damaged(const std::string& why) { throw std::invalid_argument(why); }

std::uint64_t whole(const Value& value, const std::string& name) {
  if (!value.is_whole || value.whole < 0) damaged("a size or an offset of tensor " + name + " is no whole number");
  return (std::uint64_t)value.whole;
}

Stored read_tensor(const std::string& name, const Value& value) {
  const Value *type = value.find("dtype"), *shape = value.find("shape"), *offsets = value.find("data_offsets");
  if (!type || type->kind != Kind::string || !shape || shape->kind != Kind::array || !offsets || offsets->items.size() != 2)
    damaged("tensor " + name + " lacks its dtype, shape or data_offsets");
  Stored stored{name, nullptr, {}, whole(offsets->items[0], name), whole(offsets->items[1], name)};
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
  if (stored.end < stored.begin || stored.end - stored.begin != bytes) damaged("the shape of tensor " + name + " does not fit its bytes");
  return stored;
}

// Eight bytes of length, a JSON header of that length, and tensors that fill the rest without a gap.
Safetensors read_safetensors(std::string_view bytes) {
  if (bytes.size() < 8) damaged("it is too short");
  std::uint64_t length = 0;
  for (int i = 7; i >= 0; i--) length = length << 8 | (unsigned char)bytes[i];
  if (length > kMaxHeader || length > bytes.size() - 8) damaged("its header would be " + std::to_string(length) + " bytes long");
  const Value header = json::parse(bytes.substr(8, length));
  if (header.kind != Kind::object) damaged("its header is no object");
  Safetensors file;
  for (std::size_t i = 0; i < header.keys.size(); i++) {
    if (header.keys[i] == "__metadata__") file.metadata = header.items[i];
    else file.tensors.push_back(read_tensor(header.keys[i], header.items[i]));
  }
  std::sort(file.tensors.begin(), file.tensors.end(), [](const Stored& a, const Stored& b) {
    return a.begin != b.begin ? a.begin < b.begin : a.end < b.end;
  });
  const std::uint64_t first = 8 + length;
  std::uint64_t at = 0;
  for (Stored& tensor : file.tensors) {
    if (tensor.begin != at) damaged("tensor " + tensor.name + " does not begin where the one before it ends");
    at = tensor.end;
    if (at > bytes.size() - first) damaged("tensor " + tensor.name + " lies past its end");
    if ((first + tensor.begin) % tensor.type->bytes) damaged("tensor " + tensor.name + " is not aligned");
    tensor.begin += first, tensor.end += first;
  }
  if (first + at != bytes.size()) damaged("bytes follow its tensors");
  std::sort(file.tensors.begin(), file.tensors.end(), [](const Stored& a, const Stored& b) { return a.name < b.name; });
  return file;
}

// Over the header's text and each tensor's name, type, shape and bytes, in the order of their names; as enginefile.py writes
// them, where a tensor without axes counts as one of one element.
std::string checksum(const std::string& header, const std::vector<Stored>& tensors, std::string_view bytes) {
  Sha256 digest;
  digest.update(header.data(), header.size());
  for (const Stored& tensor : tensors) {
    std::string text = tensor.name + " " + tensor.type->numpy + " (";
    for (std::size_t i = 0; i < tensor.shape.size(); i++) text += (i ? ", " : "") + std::to_string(tensor.shape[i]);
    if (tensor.shape.empty()) text += "1";
    text += tensor.shape.size() <= 1 ? ",)" : ")";
    digest.update(text.data(), text.size());
    digest.update(bytes.data() + tensor.begin, tensor.end - tensor.begin);
  }
  return digest.hex();
}

const std::string* entry(const Value& metadata, const char* key) {
  const Value* value = metadata.find(key);
  return value && value->kind == Kind::string ? &value->text : nullptr;
}

std::string described(const Value* value) {
  if (!value || value->kind == Kind::null) return "null";
  switch (value->kind) {
    case Kind::boolean: return value->boolean ? "true" : "false";
    case Kind::number: return value->is_whole ? std::to_string(value->whole) : std::to_string(value->number);
    case Kind::string: return "\"" + value->text + "\"";
    default: return value->kind == Kind::array ? "an array" : "an object";
  }
}

const Value& needed(const Value& header, const char* key, Kind kind) {
  const Value* value = header.find(key);
  if (value && value->kind == kind && (kind != Kind::number || value->is_whole)) return *value;
  const char* wanted = kind == Kind::number ? "a whole number" : kind == Kind::string ? "a string" : "an object";
  throw EngineError("the header's '" + std::string(key) + "' is " + described(value) + "; it needs " + wanted);
}

EngineFile read_header(const Value& header) {
  if (header.kind != Kind::object) throw EngineError("the header is not an object");
  const std::int64_t format = needed(header, "format", Kind::number).whole;
  EngineFile engine{};
  engine.model = needed(header, "model", Kind::string).text;
  const std::int64_t frames = needed(header, "frames", Kind::number).whole;
  const std::string& skeleton = needed(header, "skeleton", Kind::string).text;
  engine.precision = needed(header, "precision", Kind::string).text;
  const std::string& backend = needed(header, "backend", Kind::string).text;
  needed(header, "units", Kind::string);
  needed(header, "weights_sha256", Kind::string);
  const Value* version = needed(header, "built_with", Kind::object).find("edgepose");
  if (format != kFormat)
    throw EngineError("format " + std::to_string(format) + "; this edgepose reads " + std::to_string(kFormat)
                      + ". Build the engine again, or install the edgepose that wrote it: " + described(version));
  engine.skeleton = &skeleton_named(skeleton);
  const Value* is_causal = header.find("is_causal");
  if (is_causal && is_causal->kind != Kind::boolean)
    throw EngineError("the header's 'is_causal' is " + described(is_causal) + "; it needs true or false");
  engine.is_causal = is_causal && is_causal->boolean;
  const Value* rate_hz = header.find("rate_hz");
  if (rate_hz && rate_hz->kind != Kind::null) {
    if (rate_hz->kind != Kind::number || !(rate_hz->number > 0 && rate_hz->number <= 1000))
      throw EngineError("the header's 'rate_hz' is " + described(rate_hz) + "; it needs a number above 0, at most 1000");
    engine.rate_hz = rate_hz->number;
  }
  if (frames < 1 || frames > 4096) throw EngineError(std::to_string(frames) + " frames; 1 to 4096 are possible");
  engine.frames = (int)frames;
  if (backend != "native")
    throw EngineError("it is for the " + backend + " backend, which needs Python; the runtime without it runs native engines: "
                      "edgepose compile --model " + engine.model + " --backend native");
  return engine;
}

PlanSpec plan_of(const EngineFile& engine, const Value& header, const std::vector<Stored>& stored, std::string_view bytes) {
  std::map<std::string, Tensor> tensors;
  for (const Stored& tensor : stored) {
    if (!tensor.type->plan) throw EngineError("tensor " + tensor.name + " is neither float32 nor float16 nor int8");
    std::vector<int> shape;
    for (std::int64_t extent : tensor.shape) {
      if (extent > 1 << 30) throw EngineError("tensor " + tensor.name + " is too large");
      shape.push_back((int)extent);
    }
    tensors[tensor.name] = {shape, *tensor.type->plan, bytes.data() + tensor.begin};
  }
  const Value* plan = header.find("plan");
  if (!plan) throw EngineError("the header has no plan");
  PlanSpec spec = read_plan(*plan, tensors);
  if (spec.frames != engine.frames || spec.joints != engine.skeleton->joints)
    throw EngineError("the plan is for " + std::to_string(spec.frames) + " frames of " + std::to_string(spec.joints) + " joints, the header says "
                      + std::to_string(engine.frames) + " of " + std::to_string(engine.skeleton->joints));
  return spec;
}

Safetensors opened(std::string_view bytes) {
  try {
    return read_safetensors(bytes);
  } catch (const std::invalid_argument& error) {
    throw EngineError(std::string("not an engine file, or damaged (") + error.what() + ")");
  }
}

Value header_of(const std::string& text) {
  try {
    return json::parse(text);
  } catch (const std::invalid_argument& error) {
    throw EngineError(std::string("the header is not JSON (") + error.what() + ")");
  }
}

}  // namespace

std::vector<char> read_bytes(const std::string& path) {
  std::error_code error;
  if (!std::filesystem::is_regular_file(path, error))
    throw EngineError(path + ": no such file. Build it with: edgepose compile --model NAME --out "
                      + std::filesystem::path(path).parent_path().string());
  std::ifstream file(path, std::ios::binary | std::ios::ate);
  const std::streamoff size = file ? (std::streamoff)file.tellg() : -1;
  std::vector<char> bytes(size > 0 ? (std::size_t)size : 0);
  if (size < 0 || !file.seekg(0) || !file.read(bytes.data(), size)) throw EngineError(path + ": cannot be read");
  return bytes;
}

EngineFile read_engine(const std::string& name, std::string_view bytes, bool is_sealed) {
  try {
    const Safetensors file = opened(bytes);
    const std::string *text = entry(file.metadata, "edgepose"), *sum = entry(file.metadata, "sha256");
    if (!text || !sum)
      throw EngineError("a safetensors file, but no engine: it has no edgepose header. A checkpoint becomes an engine with: "
                        "edgepose compile --model " + name);
    if (checksum(*text, file.tensors, bytes) != *sum && is_sealed)
      throw EngineError("damaged: its contents do not match its checksum. Copy or build it again");
    const Value header = header_of(*text);
    EngineFile engine = read_header(header);
    engine.plan = plan_of(engine, header, file.tensors, bytes);
    return engine;
  } catch (const EngineError& error) {
    throw EngineError(name + ": " + error.what());
  } catch (const std::invalid_argument& error) {  // the plan, or the skeleton
    throw EngineError(name + ": " + error.what());
  }
}

}  // namespace edgepose
