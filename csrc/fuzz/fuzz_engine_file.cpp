// libFuzzer's entry: reads any bytes as an engine file, then runs and streams through an engine that was read.
//
//   python tests/fuzz_seeds.py seeds
//   clang++ -std=c++17 -g -O1 -fsanitize=fuzzer,address,undefined -fno-sanitize-recover=undefined -Wno-psabi
//   csrc/fuzz/fuzz_engine_file.cpp
//       $(ls csrc/*.cpp csrc/runtime/*.cpp | grep -v -e bindings -e edgepose.cpp) -o fuzz
//   ./fuzz -dict=csrc/fuzz/engine_file.dict -max_len=8192 -timeout=20 seeds
//
// An input that starts with { is three parts, so that no change of one breaks another: the engine's header in one line,
// the safetensors header without its metadata in the next, and the tensors. Another input is the file as it is. The
// checksum is computed, but does not count.
#include <cstring>

#include "../json.h"
#include "../placement.h"
#include "../memory.h"
#include "../runtime/stream.h"

using namespace edgepose;

namespace {

constexpr long kMostWork = 1 << 24;  // multiply-adds, about: the most an engine may cost to be run

std::string quoted(std::string_view text) {
  std::string to = "\"";
  char escape[8];
  for (const unsigned char c : text) {
    if (c < 0x20 || c == '"' || c == '\\')
      to.append(escape, (std::size_t)std::snprintf(escape, sizeof escape, "\\u%04x", c));
    else to += (char)c;
  }
  return to + '"';
}

// The file made of three parts; empty if there are not three.
std::vector<char> assembled(std::string_view parts) {
  const std::size_t first = parts.find('\n'), second = parts.find('\n', first + 1);
  if (first == parts.npos || second == parts.npos) return {};
  const std::string_view header = parts.substr(0, first), tensors = parts.substr(first + 1, second - first - 1),
                         bytes = parts.substr(second + 1);
  std::string text = "{\"__metadata__\":{\"edgepose\":" + quoted(header) + ",\"sha256\":\"\"}";
  if (tensors.size() > 2) text += ",", text += tensors.substr(1);
  else text += "}";
  text.resize((text.size() + 7) / 8 * 8, ' ');
  std::vector<char> file(8 + text.size() + bytes.size());
  for (int i = 0; i < 8; i++) file[(std::size_t)i] = (char)(text.size() >> (8 * i));
  std::memcpy(file.data() + 8, text.data(), text.size());
  std::copy(bytes.begin(), bytes.end(), file.begin() + 8 + (std::ptrdiff_t)text.size());
  return file;
}

// The multiply-adds of a checked plan, about.
long work(const PlanSpec& plan) {
  long sum = 0;
  for (const Step& step : plan.steps) {
    const Shape& y = plan.buffers[(std::size_t)step.y];
    sum += (long)y.rows * row_on_cpu(y.columns);
    if (step.op == Op::attention) sum += (long)y.rows * y.rows * (y.columns + 16L * step.heads);
    if (step.weight >= 0) sum += elements(plan.tensors[(std::size_t)step.weight]) * (y.rows + 256L) * 16;
  }
  for (const Step& step : plan.steps)
    if (plan.has_state) sum += memory_floats(step, plan.buffers[(std::size_t)step.y]);
  return plan.has_state ? sum * plan.frames : sum;  // a window is run frame by frame
}

void run(const EngineFile& file, std::string_view data) {
  check_plan(file.plan);
  if (work(file.plan) > kMostWork || file.frames > 512) return;
  const bool is_odd = data.size() % 2;
  // Fuzzes the reading; tests/test_fuzz.py covers threads and the kernels of each instruction set.
  const auto engine = std::make_shared<const Engine>(file, 1, "generic");
  const std::size_t joints = (std::size_t)file.skeleton->joints, frames = (std::size_t)file.frames,
                    people = 1 + data.size() % 3;
  std::vector<float> x(people * frames * joints * file.inputs.size()), pose_m(people * joints * file.outputs.size());
  for (std::size_t i = 0; i < x.size(); i++) x[i] = 2.f * (float)i / (float)x.size() - 1.f;
  Engine::Turn(*engine)->run(x.data(), pose_m.data(), (int)people);

  const Layout& layout = layouts()[data.size() % layouts().size()];
  const int delay_frames = file.is_causal ? 0 : (int)(data.size() / 8 % (frames / 2 + 1));
  PersonOptions options;
  options.delay_frames = delay_frames, options.rate_hz = data.size() % 5 ? kFileRateHz : 0.0;
  options.min_cutoff_hz = is_odd ? 1.0 : 0.0, options.beta = 1.0;
  Stream stream(engine, layout, 640, 480, options);
  std::vector<float> keypoints_px(layout.keypoints.size() * 3);
  double time_s = 0;
  // The keypoints are the input's bytes, repeated.
  for (std::size_t frame = 0, at = 0; frame < 2 * frames + 8; frame++) {
    for (float& value : keypoints_px) value = (float)(signed char)data[at++ % data.size()];
    for (std::size_t k = 2; k < keypoints_px.size(); k += 3) keypoints_px[k] = std::fabs(keypoints_px[k]) / 128;
    time_s += (double)(unsigned char)data[at % data.size()] / 2000 + 1e-6;
    try {
      stream.push(data[at % data.size()] % 8 ? keypoints_px.data() : nullptr, (long)layout.keypoints.size(), 3, time_s);
    } catch (const std::invalid_argument&) {  // two pixels from the corner
    }
  }
  while (stream.flush()) {}
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  if (input.empty()) return 0;
  const std::vector<char> file = input[0] == '{' ? assembled(input) : std::vector<char>(input.begin(), input.end());
  try {
    const EngineFile engine = read_engine("fuzz", {file.data(), file.size()}, false);
    if (engine.has_plan()) run(engine, input);
  } catch (const EngineError&) {
  } catch (const std::invalid_argument&) {  // the plan is refused
  }
  return 0;
}
