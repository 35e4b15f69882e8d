// edgepose for C++17: the functions of edgepose.h, described there, with owning classes, exceptions and views.
#ifndef EDGEPOSE_HPP
#define EDGEPOSE_HPP

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "edgepose.h"

namespace edgepose {
inline namespace v1 {

// The error text and the status of a failed call.
class Error : public std::runtime_error {
 public:
  explicit Error(edgepose_status status) : std::runtime_error(edgepose_error()), status_(status) {}
  edgepose_status status() const { return status_; }

 private:
  edgepose_status status_;
};

inline void check(edgepose_status status) {
  if (status < 0) throw Error(status);
}

// A view of values that another object owns.
template <class T>
class View {
 public:
  View(const T* data, std::size_t size) : data_(data), size_(size) {}
  View(const std::vector<T>& values) : View(values.data(), values.size()) {}
  const T* data() const { return data_; }
  std::size_t size() const { return size_; }
  const T* begin() const { return data_; }
  const T* end() const { return data_ + size_; }
  const T& operator[](std::size_t i) const { return data_[i]; }

 private:
  const T* data_;
  std::size_t size_;
};

struct EngineOptions : edgepose_engine_options {
  EngineOptions() : edgepose_engine_options EDGEPOSE_ENGINE_OPTIONS_INIT {}
};

struct StreamOptions : edgepose_stream_options {
  StreamOptions() : edgepose_stream_options EDGEPOSE_STREAM_OPTIONS_INIT {}
};

// A loaded engine; streams keep what they need of it. Movable; a moved-from engine must not be used.
class Engine {
 public:
  explicit Engine(const std::string& path, const EngineOptions& options = {})
      : handle_(open(path, options), edgepose_engine_close) {}

  int frames() const { return edgepose_engine_frames(get()); }
  int joints() const { return edgepose_engine_joints(get()); }
  bool is_causal() const { return edgepose_engine_is_causal(get()) != 0; }
  double rate_hz() const { return edgepose_engine_rate_hz(get()); }  // 0: the file does not say
  std::string model() const { return edgepose_engine_model(get()); }
  std::string precision() const { return edgepose_engine_precision(get()); }
  std::string isa() const { return edgepose_engine_isa(get()); }
  std::string skeleton() const { return edgepose_engine_skeleton(get()); }

  // Throws std::out_of_range.
  std::string joint(int j) const {
    const char* name = edgepose_engine_joint(get(), j);
    if (!name) throw std::out_of_range("there is no joint " + std::to_string(j));
    return name;
  }
  int parent(int j) const { return edgepose_engine_parent(get(), j); }

  // The index of a joint by its name. Throws std::out_of_range.
  int index(const std::string& name) const {
    for (int j = 0; j < joints(); j++)
      if (name == joint(j)) return j;
    throw std::out_of_range("there is no joint " + name);
  }

  // Returns (people, J, 3) metres from (people, T, J, 2) normalised screen coordinates.
  std::vector<float> run(View<float> keypoints_norm, std::size_t people) const {
    std::vector<float> pose_m(people * static_cast<std::size_t>(joints()) * 3);
    check(
        edgepose_engine_run(get(), people, keypoints_norm.data(), keypoints_norm.size(), pose_m.data(), pose_m.size()));
    return pose_m;
  }

  const edgepose_engine* get() const { return handle_.get(); }

 private:
  static edgepose_engine* open(const std::string& path, const EngineOptions& options) {
    edgepose_engine* engine = nullptr;
    check(edgepose_engine_open(path.c_str(), &options, &engine));
    return engine;
  }

  std::unique_ptr<edgepose_engine, void (*)(edgepose_engine*)> handle_;
};

// A pose of a stream; its views are valid until the stream's next push.
class Pose {
 public:
  explicit Pose(const edgepose_pose& pose) : pose_(pose) {}
  double timestamp_s() const { return pose_.timestamp_s; }
  bool was_reset() const { return pose_.was_reset != 0; }
  View<float> joints_m() const { return {pose_.joints_m, size() * 3}; }
  View<float> joint_m(int j) const { return {pose_.joints_m + 3 * j, 3}; }  // x, y, z
  View<float> keypoints_norm() const { return {pose_.keypoints_norm, size() * 2}; }
  View<float> confidence() const { return {pose_.confidence, size()}; }
  View<std::uint8_t> is_seen() const { return {pose_.is_seen, size()}; }
  // The root in front of the camera, and its standard deviations: x, y, z; empty where it is not known.
  View<double> root_m() const { return {pose_.root_m, pose_.root_m ? 3u : 0u}; }
  View<double> root_error_m() const { return {pose_.root_error_m, pose_.root_error_m ? 3u : 0u}; }
  // The same by this pose alone, for a lens that the stream was not told: see edgepose_root_translation. Throws Error
  // where the joints do not determine it.
  std::array<double, 3> root_m(double fx, double fy, double cx, double cy) const {
    std::array<double, 3> place;
    check(edgepose_root_translation(size(), pose_.joints_m, pose_.keypoints_norm, pose_.confidence, fx, fy, cx, cy,
                                    place.data()));
    return place;
  }
  double predicted_s() const { return pose_.predicted_s; }  // above 0: the engine did not lift this frame
  View<float> error_m() const { return {pose_.error_m, pose_.error_m ? size() : 0}; }  // empty: the model predicts none

 private:
  std::size_t size() const { return static_cast<std::size_t>(pose_.joints); }

  edgepose_pose pose_;
};

// A layout for the user's own detector: the sources of each joint of the model.
struct Layout {
  int keypoints;
  std::vector<edgepose_source> sources;
  std::string name = "custom";
};

// The layout as a C struct; valid as long as `own`.
inline edgepose_layout layout_of(const Layout& own) {
  edgepose_layout layout = EDGEPOSE_LAYOUT_INIT;
  layout.keypoints = own.keypoints, layout.name = own.name.c_str();
  layout.sources = own.sources.data(), layout.source_count = own.sources.size();
  return layout;
}

// One person before one camera. Movable.
class Stream {
 public:
  Stream(const Engine& engine, const std::string& layout, double width_px, double height_px,
         const StreamOptions& options = {})
      : handle_(open(engine, layout, width_px, height_px, options), edgepose_stream_close) {}

  Stream(const Engine& engine, const Layout& layout, double width_px, double height_px,
         const StreamOptions& options = {})
      : handle_(open(engine, layout, width_px, height_px, options), edgepose_stream_close) {}

  // keypoints_px: rows of `columns` numbers: x, y, with 3 columns the confidence, with 4 also a depth camera's depth.
  // Returns null where there is no new pose.
  const Pose* push(View<float> keypoints_px, double timestamp_s, std::size_t columns = 3) {
    const edgepose_frame frame = frame_of(keypoints_px, timestamp_s, columns);
    return push(frame.keypoints_px, frame.keypoints, columns, timestamp_s);
  }

  // The person was not detected.
  const Pose* push_nobody(double timestamp_s) { return push(nullptr, 0, 0, timestamp_s); }

  // The next pose that a delay kept waiting at the end of a recording; null after the last.
  const Pose* flush() {
    edgepose_pose pose = EDGEPOSE_POSE_INIT;
    return answered(edgepose_stream_flush(handle_.get(), &pose), pose);
  }

  // push() for many people with one engine call. Takes each stream's keypoints, in the order of the streams, or nothing
  // if the person was not detected; returns each stream's pose or null.
  static std::vector<const Pose*> push_many(const std::vector<Stream*>& streams,
                                            const std::vector<std::optional<View<float>>>& keypoints_px,
                                            double timestamp_s, std::size_t columns = 3) {
    if (streams.size() != keypoints_px.size())
      throw std::invalid_argument(std::to_string(keypoints_px.size()) + " people's keypoints for "
                                  + std::to_string(streams.size()) + " streams");
    std::vector<edgepose_stream*> handles;
    std::vector<edgepose_frame> frames;
    for (std::size_t i = 0; i < streams.size(); i++) {
      handles.push_back(streams[i]->get());
      frames.push_back(keypoints_px[i] ? frame_of(*keypoints_px[i], timestamp_s, columns)
                                       : edgepose_frame{nullptr, 0, 0, timestamp_s});
    }
    std::vector<edgepose_pose> poses(streams.size(), EDGEPOSE_POSE_INIT);
    check(edgepose_push_many(handles.data(), handles.size(), frames.data(), poses.data()));
    std::vector<const Pose*> answers;
    for (std::size_t i = 0; i < streams.size(); i++) {
      streams[i]->pose_ = Pose(poses[i]);
      answers.push_back(poses[i].joints ? &streams[i]->pose_ : nullptr);
    }
    return answers;
  }

  void reset() { check(edgepose_stream_reset(handle_.get())); }

  // What an engine with a state remembers of the person, to go on from in another stream on the same engine: see
  // edgepose_stream_remember. Throws Error for an engine without one, and for bytes of another size.
  std::vector<std::uint8_t> memory() const {
    std::vector<std::uint8_t> bytes(edgepose_stream_memory_size(get()) + 1);  // never null: the library says what fails
    check(edgepose_stream_memory(get(), bytes.data(), bytes.size() - 1));
    bytes.pop_back();
    return bytes;
  }
  void remember(View<std::uint8_t> memory) {
    check(edgepose_stream_remember(get(), memory.data(), memory.size()));
  }

  // How often the stream noticed this kind of fault in its input: see edgepose_notice_name.
  std::uint64_t notice_count(const std::string& name) const {
    return edgepose_stream_notice_count(get(), name.c_str());
  }
  std::string notice_text(const std::string& name) const { return edgepose_stream_notice_text(get(), name.c_str()); }

  edgepose_stream* get() const { return handle_.get(); }

 private:
  static edgepose_frame frame_of(View<float> keypoints_px, double timestamp_s, std::size_t columns) {
    if (columns == 0 || keypoints_px.size() % columns != 0)
      throw std::invalid_argument(std::to_string(keypoints_px.size()) + " floats are no rows of "
                                  + std::to_string(columns));
    // A vector without elements may have no address, which would mean that nobody was detected.
    static const float none = 0;
    return {keypoints_px.data() ? keypoints_px.data() : &none, keypoints_px.size() / columns, columns, timestamp_s};
  }

  static edgepose_stream* open(const Engine& engine, const Layout& own, double width_px, double height_px,
                               const StreamOptions& options) {
    const edgepose_layout layout = layout_of(own);
    edgepose_stream* stream = nullptr;
    check(edgepose_stream_open_layout(engine.get(), &layout, width_px, height_px, &options, &stream));
    return stream;
  }

  static edgepose_stream* open(const Engine& engine, const std::string& layout, double width_px, double height_px,
                               const StreamOptions& options) {
    edgepose_stream* stream = nullptr;
    check(edgepose_stream_open(engine.get(), layout.c_str(), width_px, height_px, &options, &stream));
    return stream;
  }

  const Pose* push(const float* keypoints_px, std::size_t keypoints, std::size_t columns, double timestamp_s) {
    edgepose_pose pose = EDGEPOSE_POSE_INIT;
    return answered(edgepose_stream_push(handle_.get(), keypoints_px, keypoints, columns, timestamp_s, &pose), pose);
  }

  const Pose* answered(edgepose_status status, const edgepose_pose& pose) {
    check(status);
    pose_ = Pose(pose);
    return status == EDGEPOSE_OK ? &pose_ : nullptr;
  }

  std::unique_ptr<edgepose_stream, void (*)(edgepose_stream*)> handle_;
  Pose pose_{EDGEPOSE_POSE_INIT};
};

struct PeopleOptions : edgepose_people_options {
  PeopleOptions() : edgepose_people_options EDGEPOSE_PEOPLE_OPTIONS_INIT {}
};

// Everybody before one camera, and who is who. Movable.
class People {
 public:
  // A person with a new pose.
  struct Found {
    std::int64_t id;
    Pose pose;
  };

  People(const Engine& engine, const std::string& layout, double width_px, double height_px,
         const StreamOptions& stream_options = {}, const PeopleOptions& options = {})
      : handle_(open(engine, layout, width_px, height_px, stream_options, options), edgepose_people_close) {}

  People(const Engine& engine, const Layout& layout, double width_px, double height_px,
         const StreamOptions& stream_options = {}, const PeopleOptions& options = {})
      : handle_(open(engine, layout, width_px, height_px, stream_options, options), edgepose_people_close) {}

  // keypoints_px: everybody's rows of `columns` numbers, person after person. ids: a tracker's, one for each person;
  // none: people are followed by their position and pose. The poses are valid until the next push.
  std::vector<Found> push(View<float> keypoints_px, std::size_t detections, double timestamp_s, std::size_t columns = 3,
                          const std::vector<std::int64_t>& ids = {}) {
    if (!ids.empty() && ids.size() != detections)
      throw std::invalid_argument(std::to_string(ids.size()) + " ids for " + std::to_string(detections) + " people");
    const std::size_t rows = detections * columns;
    if (rows ? keypoints_px.size() % rows != 0 : keypoints_px.size() != 0)
      throw std::invalid_argument(std::to_string(keypoints_px.size()) + " floats are no rows of "
                                  + std::to_string(columns) + " of " + std::to_string(detections) + " people");
    std::size_t poses = 0;
    check(edgepose_people_push(get(), keypoints_px.data(), detections, rows ? keypoints_px.size() / rows : 0, columns,
                               timestamp_s, ids.empty() ? nullptr : ids.data(), &poses));
    return found(poses);
  }

  // Each person's next pose that a delay kept waiting at the end of a recording; empty after the last.
  std::vector<Found> flush() {
    std::size_t poses = 0;
    check(edgepose_people_flush(get(), &poses));
    return found(poses);
  }

  // The id of a detection of the last push; -1: nobody's.
  std::int64_t id(std::size_t detection) const { return edgepose_people_id(get(), detection); }

  void reset() { check(edgepose_people_reset(get())); }

  // As for a Stream, over all people.
  std::uint64_t notice_count(const std::string& name) const {
    return edgepose_people_notice_count(get(), name.c_str());
  }
  std::string notice_text(const std::string& name) const { return edgepose_people_notice_text(get(), name.c_str()); }

  edgepose_people* get() const { return handle_.get(); }

 private:
  static edgepose_people* open(const Engine& engine, const Layout& own, double width_px, double height_px,
                               const StreamOptions& stream_options, const PeopleOptions& options) {
    const edgepose_layout layout = layout_of(own);
    edgepose_people* people = nullptr;
    check(edgepose_people_open_layout(engine.get(), &layout, width_px, height_px, &stream_options, &options, &people));
    return people;
  }

  static edgepose_people* open(const Engine& engine, const std::string& layout, double width_px, double height_px,
                               const StreamOptions& stream_options, const PeopleOptions& options) {
    edgepose_people* people = nullptr;
    check(edgepose_people_open(engine.get(), layout.c_str(), width_px, height_px, &stream_options, &options, &people));
    return people;
  }

  std::vector<Found> found(std::size_t poses) const {
    std::vector<Found> all;
    for (std::size_t i = 0; i < poses; i++) {
      std::int64_t id = 0;
      edgepose_pose pose = EDGEPOSE_POSE_INIT;
      check(edgepose_people_pose(get(), i, &id, &pose));
      all.push_back({id, Pose(pose)});
    }
    return all;
  }

  std::unique_ptr<edgepose_people, void (*)(edgepose_people*)> handle_;
};

}  // namespace v1
}  // namespace edgepose

#endif
