#include "engine_file.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "../plan_reader.h"
#include "columns.h"
#include "sha256.h"
#include "text.h"
#include "window.h"

namespace edgepose {

namespace {

constexpr int kOldestFormat = 1, kFormat = 3;  // edgepose/enginefile.py

using json::Kind;
using json::Value;

// Checksum over the header's text and each tensor's name, type, shape and bytes, sorted by name, as enginefile.py
// writes it. A tensor without axes counts as a tensor of one element.
std::string checksum(const std::string& header, const std::vector<StoredTensor>& tensors, std::string_view bytes) {
  Sha256 digest;
  digest.update(header.data(), header.size());
  for (const StoredTensor& tensor : tensors) {
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

// The column names under `key`, or the published ones where it is absent.
std::vector<std::string> columns_of(const Value& header, const char* key, const Columns& columns) {
  const Value* value = header.find(key);
  if (!value) return {columns.names.begin(), columns.names.begin() + columns.published};
  std::vector<std::string> names;
  for (const Value& name : value->items) names.push_back(name.kind == Kind::string ? name.text : described(&name));
  if (value->kind == Kind::array && columns.are(names)) return names;
  std::string came, known;
  for (const std::string& name : names) came += (came.empty() ? "" : ", ") + name;
  for (const char* name : columns.names) known += (known.empty() ? "" : ", ") + std::string(name);
  throw EngineError("the header's '" + std::string(key) + "' is " + (came.empty() ? described(value) : "[" + came + "]")
                    + "; it needs the names of columns, the first " + std::to_string(columns.published)
                    + " and any after them of " + known + ", in this order. A newer edgepose may know more");
}

EngineFile read_header(const Value& header) {
  if (header.kind != Kind::object) throw EngineError("the header is not an object");
  const std::int64_t format = needed(header, "format", Kind::number).whole;
  EngineFile engine{};
  engine.model = needed(header, "model", Kind::string).text;
  const std::int64_t frames = needed(header, "frames", Kind::number).whole;
  const std::string& skeleton = needed(header, "skeleton", Kind::string).text;
  engine.precision = needed(header, "precision", Kind::string).text;
  engine.backend = needed(header, "backend", Kind::string).text;
  needed(header, "units", Kind::string);
  needed(header, "weights_sha256", Kind::string);
  if (engine.backend == "tensorrt") {
    needed(header, "machine", Kind::object), needed(header, "rung", Kind::string);
    const std::int64_t batch = needed(header, "batch", Kind::number).whole;
    if (batch < 1) throw EngineError("the header's 'batch' is " + std::to_string(batch) + "; it needs 1 or more");
  }
  const Value* version = needed(header, "built_with", Kind::object).find("edgepose");
  if (format < kOldestFormat || format > kFormat)
    throw EngineError("format " + std::to_string(format) + "; this edgepose reads " + std::to_string(kOldestFormat)
                      + " to " + std::to_string(kFormat)
                      + ". Build the engine again, or install the edgepose that wrote it: " + described(version));
  engine.skeleton = &skeleton_named(skeleton);
  const Value* is_causal = header.find("is_causal");
  if (is_causal && is_causal->kind != Kind::boolean)
    throw EngineError("the header's 'is_causal' is " + described(is_causal) + "; it needs true or false");
  engine.is_causal = is_causal && is_causal->boolean;
  engine.inputs = columns_of(header, "inputs", kInputs), engine.outputs = columns_of(header, "outputs", kOutputs);
  const Value* options = header.find("options");
  if (options && options->kind != Kind::object)
    throw EngineError("the header's 'options' is " + described(options) + "; it needs an object");

  const Value* rate_hz = header.find("rate_hz");
  if (rate_hz && rate_hz->kind != Kind::null) {
    if (rate_hz->kind != Kind::number || !(rate_hz->number > 0 && rate_hz->number <= kMostRateHz))
      throw EngineError("the header's 'rate_hz' is " + described(rate_hz)
                        + "; it needs a number above 0, at most " + text(kMostRateHz));
    engine.rate_hz = rate_hz->number;
  }
  if (frames < 1 || frames > 4096) throw EngineError(std::to_string(frames) + " frames; 1 to 4096 are possible");
  engine.frames = (int)frames;
  return engine;
}

// NaN and infinity have all bits of the exponent set.
template <class Bits>
bool all_finite(const char* from, std::size_t count, Bits exponent) {
  bool found = false;
  for (std::size_t i = 0; i < count; i++) {
    Bits bits;
    std::memcpy(&bits, from + i * sizeof bits, sizeof bits);
    found |= (bits & exponent) == exponent;
  }
  return !found;
}

bool is_finite(Type type, std::string_view bytes) {
  if (type == Type::f32) return all_finite<std::uint32_t>(bytes.data(), bytes.size() / 4, 0x7f800000);
  if (type == Type::f16) return all_finite<std::uint16_t>(bytes.data(), bytes.size() / 2, 0x7c00);
  return true;
}

PlanSpec plan_of(const EngineFile& engine, const Value& header, std::string_view bytes) {
  std::map<std::string, Tensor> tensors;
  for (const StoredTensor& tensor : engine.tensors) {
    if (!tensor.type->plan) throw EngineError("tensor " + tensor.name + " is neither float32 nor float16 nor int8");
    std::vector<int> shape;
    for (std::int64_t extent : tensor.shape) {
      if (extent > 1 << 30) throw EngineError("tensor " + tensor.name + " is too large");
      shape.push_back((int)extent);
    }
    if (!is_finite(*tensor.type->plan, bytes.substr(tensor.begin, tensor.end - tensor.begin)))
      throw EngineError("tensor " + tensor.name + " holds NaN or infinity: the weights it was built from are broken");
    tensors[tensor.name] = {shape, *tensor.type->plan, bytes.data() + tensor.begin};
  }
  const Value* plan = header.find("plan");
  if (!plan) throw EngineError("the header has no plan");
  PlanSpec spec = read_plan(*plan, tensors);
  if (spec.frames != engine.frames || spec.joints != engine.skeleton->joints)
    throw EngineError("the plan is for " + std::to_string(spec.frames) + " frames of " + std::to_string(spec.joints)
                      + " joints, the header says " + std::to_string(engine.frames) + " of "
                      + std::to_string(engine.skeleton->joints));
  if (spec.inputs != (int)engine.inputs.size() || spec.outputs != (int)engine.outputs.size())
    throw EngineError("the plan takes " + std::to_string(spec.inputs) + " columns and answers "
                      + std::to_string(spec.outputs) + ", the header says " + std::to_string(engine.inputs.size())
                      + " and " + std::to_string(engine.outputs.size()));
  return spec;
}

// A kind of file that is often mistaken for an engine: its mark, at byte `at`, and what to do with it.
struct OtherKind {
  std::size_t at;
  std::string_view bytes;
  const char* text;
};

constexpr std::size_t kMarkBytes = 32;  // every mark ends before this byte
constexpr OtherKind kOtherKinds[] = {
    {0, "PK\3\4",
     "no engine but a zip archive, as torch.save (.pth, .pt) and numpy (.npz) write. Weights that a model's authors "
     "published become an engine with: edgepose compile --model NAME --published FILE.pth. Recorded keypoints go "
     "through one with: edgepose lift"},
    {0, "\x80",
     "no engine but a pickle, as torch.save wrote (.pth, .pt). Weights that a model's authors published become an "
     "engine with: edgepose compile --model NAME --published FILE.pth"},
    {0, "\x08",
     "no engine, but perhaps an ONNX graph. A detector's goes to open_detector, or --detector. A lifter becomes an "
     "engine from its weights: edgepose compile --model NAME, or FILE.safetensors"},
    {4, "TFL3",
     "no engine but a TensorFlow Lite model. A lifter becomes an engine from its weights: edgepose compile "
     "--model NAME, or FILE.safetensors"},
    {0, "ftrt",
     "no engine of edgepose but a bare TensorRT plan. An engine that holds one is built by: edgepose compile "
     "--model NAME --backend tensorrt"},
    {0, "version https://git-lfs",
     "no engine but a pointer of Git LFS to it, which fetches the file with: git lfs pull"},
    {0, "<", "no engine but XML or a web page: if it was downloaded, fetch the file itself"},
};

// Like head_bytes. Throws EngineError for a file of another known kind.
std::uint64_t head_of(std::string_view first, std::uint64_t file_bytes) {
  try {
    return head_bytes(first, file_bytes);
  } catch (const std::invalid_argument&) {
    for (const OtherKind& kind : kOtherKinds)
      if (first.size() > kind.at && first.substr(kind.at, kind.bytes.size()) == kind.bytes)
        throw EngineError(kind.text);
    throw;
  }
}

// The layout of a file of `file_bytes`. The name is for messages. read(n): its first n bytes, or all if it has fewer.
template <class Read>
Safetensors layout_of(const std::string& name, std::uint64_t file_bytes, Read read) {
  try {
    const std::uint64_t head = head_of(read(kMarkBytes), file_bytes);
    const Value header = safetensors_header(read(head));
    const Value* metadata = header.find("__metadata__");
    if (!metadata || !entry(*metadata, "edgepose") || !entry(*metadata, "sha256"))
      throw EngineError(
          "a safetensors file, but no engine: it has no edgepose header. A checkpoint becomes an engine with: "
          "edgepose compile --model "
          + name);
    return read_safetensors(header, head, file_bytes);
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

Bytes read_bytes(const std::string& path) {
  if (path.find('\0') != path.npos) throw EngineError("no such file: the path has a zero byte");
  std::error_code error;
  if (!std::filesystem::is_regular_file(path, error))
    throw EngineError(path + ": no such file. Build it with: edgepose compile --model NAME --out "
                      + std::filesystem::path(path).parent_path().string());
  std::ifstream file(path, std::ios::binary | std::ios::ate);
  const std::streamoff end = file ? (std::streamoff)file.tellg() : -1;
  const auto failed = [&]() -> EngineError {
    return EngineError(path + ": not an engine file, or damaged (it cannot be read: " + std::strerror(errno) + ")");
  };
  if (end < 0) throw failed();
  const auto size = (std::uint64_t)end;
  const auto read = [&](char* to, std::uint64_t bytes) {
    if (!file.seekg(0) || !file.read(to, (std::streamsize)bytes)) throw failed();
  };
  std::string head;
  try {  // before the file is read whole
    layout_of(path, size, [&](std::uint64_t bytes) {
      head.resize(std::min(bytes, size));
      read(head.data(), head.size());
      return std::string_view(head);
    });
  } catch (const EngineError& found) {
    throw EngineError(path + ": " + found.what());
  }
  Bytes bytes{std::unique_ptr<char[]>(new char[size]), size};
  read(bytes.data.get(), size);
  return bytes;
}

EngineFile read_engine(const std::string& name, std::string_view bytes, bool is_sealed) {
  try {
    Safetensors file = layout_of(name, bytes.size(), [&](std::uint64_t count) { return bytes.substr(0, count); });
    const std::string *text = entry(file.metadata, "edgepose"), *sum = entry(file.metadata, "sha256");
    if (checksum(*text, file.tensors, bytes) != *sum && is_sealed)
      throw EngineError("damaged: its contents do not match its checksum. Copy or build it again");
    const Value header = header_of(*text);
    EngineFile engine = read_header(header);
    engine.header = *text, engine.tensors = std::move(file.tensors);
    if (engine.has_plan()) engine.plan = plan_of(engine, header, bytes);
    return engine;
  } catch (const EngineError& error) {
    throw EngineError(name + ": " + error.what());
  } catch (const std::invalid_argument& error) {  // from the plan or the skeleton
    throw EngineError(name + ": " + error.what());
  }
}

}  // namespace edgepose
