// One person, and the engine that runs the model.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "batch.h"
#include "engine.h"

namespace edgepose {

// A pose with arrays of its own.
struct PoseArrays {
  explicit PoseArrays(const Person& person);

  // Takes the engine's answer to a person's model input; null: the pose is predicted. Returns whether there is a pose.
  bool take(Person& person, const float* answer);

  // (J, 3), (J,) or empty if the model predicts none, (J, 2), (J,)
  std::vector<float> joints_m, error_m, keypoints_norm, confidence;
  std::vector<unsigned char> is_seen;                                // (J,)
  double timestamp_s = 0, predicted_s = 0;  // predicted_s: see Person::predict; 0: the engine's answer
  bool was_reset = false;
  Root root{};
  bool has_root = false;  // the place of the root is known
};

// One call at a time: a concurrent call throws Busy. After construction push() and flush() allocate nothing, except for
// messages.
class Stream {
 public:
  // Throws what Person throws.
  Stream(std::shared_ptr<const Engine> engine, const Layout& layout, double width_px, double height_px,
         const PersonOptions& options);

  // Takes one camera frame, as for Person::check. Returns whether there is a new pose, which pose() holds until the
  // next push.
  bool push(const float* keypoints_px, long keypoints, long columns, double timestamp_s);

  // The recording has ended: like push(), for the next frame that delay_frames kept waiting.
  bool flush();

  void reset();

  // As Person has them.
  std::string memory();
  std::size_t memory_size() const { return person_.memory_size(); }
  void remember(std::string_view memory);

  const Engine& engine() const { return *engine_; }
  const PoseArrays& pose() const { return pose_; }
  const Notices& notices() const { return person_.notices(); }

 private:
  friend class Streams;
  Stream(const Stream&) = delete;
  const std::shared_ptr<const Engine> engine_;
  Person person_;
  Person* const only_ = &person_;
  std::vector<double> answered_at_s_;
  std::vector<float> answer_;
  PoseArrays pose_;
};

// One person's keypoints in one picture: see Person::check.
struct Frame {
  const float* keypoints_px;
  long keypoints, columns;
  double timestamp_s;
};

// Streams of one engine, pushed together with one engine call.
class Streams {
 public:
  // Throws std::invalid_argument if the streams have different engines or one is listed twice, Busy.
  explicit Streams(const std::vector<Stream*>& streams);

  // Takes a frame for each stream; returns the indices of those with a new pose. Throws what Person::check throws,
  // naming the person: no stream is changed then.
  const std::vector<std::size_t>& push(const std::vector<Frame>& frames);

 private:
  std::vector<Stream*> streams_;
  Batch batch_;
  std::vector<std::size_t> answered_;
};

}  // namespace edgepose
