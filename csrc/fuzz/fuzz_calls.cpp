// libFuzzer's entry: reads any bytes as calls of edgepose.h, with good and bad arguments, on streams and people.
//
//   EDGEPOSE_FUZZ_ENGINE=tiny.epose ./fuzz_calls -max_len=4096 -timeout=20 corpus
//
// Built like fuzz_engine_file.cpp, with csrc/runtime/edgepose.cpp too. Each stream has a twin that gets only the calls
// that succeeded, and by push instead of push_many: both must answer alike, to the bit. So a call that fails changes
// nothing, and nobody changes another's pose.
#include <array>
#include <climits>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "../include/edgepose.h"

namespace {

constexpr std::size_t kSlots = 3, kKeypoints = 17;  // coco17, as h36m17, has 17
constexpr std::size_t kMostCalls = 300;

void must(bool holds, const char* what) {
  if (holds) return;
  std::fprintf(stderr, "not so: %s; the last error: %s\n", what, edgepose_error());
  std::abort();
}

// The fuzzer's bytes; zeros after their end.
class Bytes {
 public:
  Bytes(const std::uint8_t* data, std::size_t size) : at_(data), end_(data + size) {}

  bool are_left() const { return at_ < end_; }
  unsigned below(unsigned count) { return byte() % count; }
  bool one_in(unsigned count) { return below(count) == count - 1; }
  unsigned char byte() { return at_ < end_ ? *at_++ : (unsigned char)0; }

  // Mostly `usual`, at times a number that few programs expect.
  double number(double usual) {
    constexpr double kRare[] = {0, -0.0, -1, 1, 0.5, 1e-300, -1e300, 1e300, NAN, INFINITY, -INFINITY, 2147483648.0};
    return one_in(8) ? kRare[below(sizeof kRare / sizeof *kRare)] : usual;
  }

 private:
  const std::uint8_t *at_, *end_;
};

const edgepose_engine* engine() {
  static edgepose_engine* const engine = [] {
    const char* path = std::getenv("EDGEPOSE_FUZZ_ENGINE");
    must(path, "EDGEPOSE_FUZZ_ENGINE names an engine file");
    edgepose_engine_options chosen = EDGEPOSE_ENGINE_OPTIONS_INIT;
    chosen.isa = "generic";
    edgepose_engine* opened = nullptr;
    must(edgepose_engine_open(path, &chosen, &opened) == EDGEPOSE_OK, "the engine opens");
    return opened;
  }();
  return engine;
}

edgepose_stream_options options(Bytes& bytes) {
  edgepose_stream_options options = EDGEPOSE_STREAM_OPTIONS_INIT;
  if (bytes.one_in(16)) options.size = bytes.byte();
  options.delay_frames = (int)bytes.below(4) - bytes.one_in(8);
  if (bytes.one_in(2)) options.rate_hz = bytes.number(bytes.below(60));
  if (bytes.one_in(2)) options.max_gap_s = bytes.number(bytes.below(10) / 10.0);
  if (bytes.one_in(4)) options.seen_above = bytes.number(0.3);
  if (bytes.one_in(4)) options.hold_s = bytes.number(0.3);
  if (bytes.one_in(2)) options.min_cutoff_hz = bytes.number(1), options.beta = bytes.number(1);
  if (bytes.one_in(4)) options.d_cutoff_hz = bytes.number(1);
  if (bytes.one_in(4)) options.fx = bytes.number(900), options.fy = bytes.number(900);
  if (options.fx != 0) options.cx = bytes.number(320), options.cy = bytes.number(240);
  options.on_bad_time = (int)bytes.below(3) - bytes.one_in(32);
  options.mend_sides = (int)bytes.below(2);
  if (bytes.one_in(8)) options.lengths_m[bytes.below(EDGEPOSE_LENGTHS)] = bytes.number(0.3);
  if (bytes.one_in(8)) options.gravity[bytes.below(3)] = bytes.number(1);
  if (bytes.one_in(8)) options.distortion[bytes.below(EDGEPOSE_DISTORTIONS)] = bytes.number(0.1);
  if (bytes.one_in(8)) options.height_m = bytes.number(1.7);
  options.constant_bones = bytes.one_in(4);
  return options;
}

// A person near the middle of the picture, or anything. Just as long as it says: reading on is a fault that shows.
std::vector<float> keypoints(Bytes& bytes, std::size_t people, std::size_t count, std::size_t columns) {
  std::vector<float> values(people * count * columns);
  const bool is_anything = bytes.one_in(8);
  for (std::size_t i = 0; i < values.size(); i++) {
    const std::size_t column = i % columns, joint = i / columns % count;
    const double usual = column == 2   ? bytes.byte() / 255.0
                         : column == 3 ? 2 + bytes.byte() / 255.0
                                       : 300 + 10 * (double)joint + bytes.byte() / 8.0
                                             + 100 * (double)(i / columns / count);
    values[i] = (float)(is_anything ? bytes.number(usual) : usual);
  }
  return values;
}

struct Picture {
  std::vector<float> keypoints_px;
  std::size_t keypoints = kKeypoints, columns = 3;
};

Picture picture(Bytes& bytes, std::size_t people) {
  Picture picture;
  picture.columns = 2 + bytes.below(3);
  if (bytes.one_in(16)) picture.columns = bytes.below(6);
  if (bytes.one_in(16)) picture.keypoints = bytes.below(40);
  picture.keypoints_px = keypoints(bytes, people, picture.keypoints, picture.columns);
  if (bytes.one_in(32)) picture.keypoints = SIZE_MAX / (1 + bytes.below(4));  // refused before anything is read
  return picture;
}

void must_be_alike(const edgepose_pose& a, const edgepose_pose& b) {
  must(a.joints == b.joints && a.was_reset == b.was_reset && a.timestamp_s == b.timestamp_s, "twins' poses are alike");
  const std::size_t joints = (std::size_t)a.joints;
  must(std::memcmp(a.joints_m, b.joints_m, joints * 3 * sizeof(float)) == 0, "twins' joints are alike");
  must(std::memcmp(a.keypoints_norm, b.keypoints_norm, joints * 2 * sizeof(float)) == 0, "twins' keypoints are alike");
  must(std::memcmp(a.confidence, b.confidence, joints * sizeof(float)) == 0, "twins' confidences are alike");
  must(std::memcmp(a.is_seen, b.is_seen, joints) == 0, "twins see the same joints");
  must(!a.error_m == !b.error_m, "both twins have errors, or neither");
  if (a.error_m) must(std::memcmp(a.error_m, b.error_m, joints * sizeof(float)) == 0, "twins' errors are alike");
  for (std::size_t i = 0; i < 3 * joints; i++) must(std::isfinite(a.joints_m[i]), "a pose is finite");
  must(!a.root_m == !b.root_m, "both twins have a place, or neither");
  for (int axis = 0; a.root_m && axis < 3; axis++) {
    must(a.root_m[axis] == b.root_m[axis] && a.root_error_m[axis] == b.root_error_m[axis], "twins' places are alike");
    must(std::isfinite(a.root_m[axis]) && std::isfinite(a.root_error_m[axis]), "a place is finite");
  }
}

struct Twins {
  edgepose_stream *stream = nullptr, *twin = nullptr;
  double time_s = 0;

  void open(Bytes& bytes) {
    close();
    const edgepose_stream_options chosen = options(bytes);
    const char* layout = bytes.one_in(4) ? "h36m17" : bytes.one_in(16) ? "nothing" : "coco17";
    const double width = bytes.number(640), height = bytes.number(480);
    const edgepose_status status = edgepose_stream_open(engine(), layout, width, height, &chosen, &stream);
    must((status == EDGEPOSE_OK) == (stream != nullptr), "a stream is opened, or null");
    if (status == EDGEPOSE_OK) edgepose_stream_open(engine(), layout, width, height, &chosen, &twin);
  }
  void close() {
    edgepose_stream_close(stream), edgepose_stream_close(twin);
    stream = twin = nullptr;
  }
  // The time of the next frame.
  double next_s(Bytes& bytes) {
    const double at_s = bytes.number(time_s + bytes.below(8) * 0.01);
    if (std::fabs(at_s) < 1e15) time_s = at_s;
    return at_s;
  }
  void repeat(edgepose_status status, const edgepose_pose& pose, edgepose_status again, const edgepose_pose& twins) {
    must(status == again, "twins answer alike");
    if (status == EDGEPOSE_OK) must_be_alike(pose, twins);
  }

  void push(Bytes& bytes) {
    const Picture seen = picture(bytes, 1);
    const double at_s = next_s(bytes);
    const float* from = bytes.one_in(8) ? nullptr : seen.keypoints_px.data();
    edgepose_pose pose = EDGEPOSE_POSE_INIT, twins = EDGEPOSE_POSE_INIT;
    const edgepose_status status = edgepose_stream_push(stream, from, seen.keypoints, seen.columns, at_s, &pose);
    if (status < 0) return;
    repeat(status, pose, edgepose_stream_push(twin, from, seen.keypoints, seen.columns, at_s, &twins), twins);
  }
  void flush() {
    edgepose_pose pose = EDGEPOSE_POSE_INIT, twins = EDGEPOSE_POSE_INIT;
    const edgepose_status status = edgepose_stream_flush(stream, &pose);
    if (status >= 0) repeat(status, pose, edgepose_stream_flush(twin, &twins), twins);
  }
  void reset() {
    if (edgepose_stream_reset(stream) == EDGEPOSE_OK) edgepose_stream_reset(twin);
  }
};

// push_many of some slots, in any order, some twice; their twins get the same by push.
void push_many(std::array<Twins, kSlots>& all, Bytes& bytes) {
  std::vector<Twins*> chosen;
  std::vector<edgepose_stream*> streams;
  std::vector<Picture> pictures;
  std::vector<edgepose_frame> frames;
  for (unsigned i = 0, count = bytes.below(kSlots + 2); i < count; i++) {
    chosen.push_back(&all[bytes.below(kSlots)]);
    streams.push_back(chosen.back()->stream);
    pictures.push_back(picture(bytes, 1));
  }
  for (std::size_t i = 0; i < chosen.size(); i++) {
    const Picture& seen = pictures[i];
    frames.push_back({bytes.one_in(8) ? nullptr : seen.keypoints_px.data(), seen.keypoints, seen.columns,
                      chosen[i]->next_s(bytes)});
  }
  const edgepose_pose empty = EDGEPOSE_POSE_INIT;
  std::vector<edgepose_pose> poses(chosen.size(), empty);
  if (edgepose_push_many(streams.data(), streams.size(), frames.data(), poses.data()) < 0) return;
  for (std::size_t i = 0; i < chosen.size(); i++) {
    edgepose_pose twins = empty;
    const edgepose_frame& frame = frames[i];
    const edgepose_status again = edgepose_stream_push(chosen[i]->twin, frame.keypoints_px, frame.keypoints,
                                                       frame.columns, frame.timestamp_s, &twins);
    chosen[i]->repeat(poses[i].joints ? EDGEPOSE_OK : EDGEPOSE_NO_POSE, poses[i], again, twins);
  }
}

struct Crowd {
  edgepose_people *people = nullptr, *twin = nullptr;
  double time_s = 0;

  void open(Bytes& bytes) {
    close();
    const edgepose_stream_options chosen = options(bytes);
    edgepose_people_options how = EDGEPOSE_PEOPLE_OPTIONS_INIT;
    how.most_people = (int)bytes.below(5), how.return_s = bytes.number(1);
    if (edgepose_people_open(engine(), "coco17", 640, 480, &chosen, &how, &people) == EDGEPOSE_OK)
      edgepose_people_open(engine(), "coco17", 640, 480, &chosen, &how, &twin);
  }
  void close() {
    edgepose_people_close(people), edgepose_people_close(twin);
    people = twin = nullptr;
  }
  void repeat(edgepose_status status, std::size_t poses, edgepose_status again, std::size_t twins) {
    must(status == again && poses == twins, "twins answer alike");
    for (std::size_t i = 0; i < poses; i++) {
      edgepose_pose pose = EDGEPOSE_POSE_INIT, other = EDGEPOSE_POSE_INIT;
      std::int64_t id = -1, other_id = -2;
      must(edgepose_people_pose(people, i, &id, &pose) == EDGEPOSE_OK, "a pose that was counted is there");
      must(edgepose_people_pose(twin, i, &other_id, &other) == EDGEPOSE_OK, "the twin has the pose too");
      must(id == other_id, "twins have the same ids");
      must_be_alike(pose, other);
    }
    edgepose_pose none = EDGEPOSE_POSE_INIT;
    std::int64_t id = 0;
    must(edgepose_people_pose(people, poses, &id, &none) < 0, "there are no more poses than were counted");
  }
  void push(Bytes& bytes) {
    const std::size_t detections = bytes.below(5);
    const Picture seen = picture(bytes, detections);
    std::vector<std::int64_t> ids(detections);
    for (std::int64_t& id : ids) id = bytes.one_in(16) ? INT64_MIN : (std::int64_t)bytes.below(6);
    const std::int64_t* given = bytes.one_in(4) ? ids.data() : nullptr;
    const double at_s = bytes.number(time_s + bytes.below(8) * 0.01);
    if (std::fabs(at_s) < 1e15) time_s = at_s;
    std::size_t poses = 0, twins = 0;
    const edgepose_status status = edgepose_people_push(people, seen.keypoints_px.data(), detections, seen.keypoints,
                                                        seen.columns, at_s, given, &poses);
    for (std::size_t i = 0; i < 7; i++) edgepose_people_id(people, i);
    if (status >= 0)
      repeat(status, poses, edgepose_people_push(twin, seen.keypoints_px.data(), detections, seen.keypoints,
                                                 seen.columns, at_s, given, &twins), twins);
  }
  void flush() {
    std::size_t poses = 0, twins = 0;
    const edgepose_status status = edgepose_people_flush(people, &poses);
    if (status >= 0) repeat(status, poses, edgepose_people_flush(twin, &twins), twins);
  }
  void reset() {
    if (edgepose_people_reset(people) == EDGEPOSE_OK) edgepose_people_reset(twin);
  }
};

void run_windows(Bytes& bytes) {
  const std::size_t people = bytes.below(4), wanted = people * (std::size_t)edgepose_engine_frames(engine()) * 17;
  std::vector<float> x(wanted * 2, 0.1f), pose_m(people * 17 * 3);
  std::size_t count = people, length = x.size();
  if (bytes.one_in(4)) count = SIZE_MAX / (1 + bytes.below(8));
  if (bytes.one_in(4)) length += bytes.below(3) - 1;
  edgepose_engine_run(engine(), count, x.data(), length, pose_m.data(), pose_m.size());
}

void place(Bytes& bytes) {
  const Picture seen = picture(bytes, 1);
  std::vector<float> joints_m(kKeypoints * 3), at(kKeypoints * 2), confidence(kKeypoints, 1.f);
  for (float& value : joints_m) value = (float)bytes.number(bytes.byte() / 255.0);
  for (float& value : at) value = (float)bytes.number(bytes.byte() / 255.0);
  for (float& value : confidence) value = (float)bytes.number(1);
  double root_m[3];
  const edgepose_status status =
      edgepose_root_translation(bytes.one_in(8) ? bytes.below(3) : kKeypoints, joints_m.data(), at.data(),
                                confidence.data(), bytes.number(2), bytes.number(2), 0, 0, root_m);
  if (status == EDGEPOSE_OK)
    for (const double value : root_m) must(std::isfinite(value), "a place is finite");
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  Bytes bytes(data, size);
  std::array<Twins, kSlots> streams;
  Crowd crowd;
  for (Twins& each : streams) each.open(bytes);
  crowd.open(bytes);
  for (std::size_t call = 0; call < kMostCalls && bytes.are_left(); call++) {
    Twins& one = streams[bytes.below(kSlots)];
    switch (bytes.below(16)) {
      case 0: one.flush(); break;
      case 1: one.reset(); break;
      case 2: one.open(bytes); break;
      case 3: case 4: push_many(streams, bytes); break;
      case 5: crowd.flush(); break;
      case 6: crowd.reset(); break;
      case 7: crowd.open(bytes); break;
      case 8: case 9: case 10: crowd.push(bytes); break;
      case 11: run_windows(bytes); break;
      case 12: place(bytes); break;
      default: one.push(bytes);
    }
  }
  for (Twins& each : streams) each.close();
  crowd.close();
  return 0;
}
