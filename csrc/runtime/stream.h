// One person and the engine that answers.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "engine.h"
#include "people.h"

namespace edgepose {

// One call at a time: what comes in between throws Busy. After the constructor push() and flush() allocate nothing, but for messages.
class Stream {
 public:
  // Throws what Person throws.
  Stream(std::shared_ptr<const Engine> engine, const Layout& layout, double width_px, double height_px, const PersonOptions& options);

  // Takes one camera frame, as Person::check says. Whether there is a new pose, which the functions below then describe until the
  // next push.
  bool push(const float* keypoints_px, long keypoints, long columns, double timestamp_s);

  // The recording has ended: as push(), for the next frame that delay_frames kept waiting.
  bool flush();

  void reset();

  const Engine& engine() const { return *engine_; }
  const float* joints_m() const { return joints_m_.data(); }                           // (J, 3)
  const float* error_m() const { return error_m_.empty() ? nullptr : error_m_.data(); }  // (J,); null: the model does not say
  const float* keypoints_norm() const { return keypoints_norm_.data(); }               // (J, 2)
  const float* confidence() const { return confidence_.data(); }                       // (J,)
  const unsigned char* is_seen() const { return person_.is_seen().data(); }
  double timestamp_s() const { return person_.timestamp_s(); }
  bool was_reset() const { return person_.was_reset(); }
  const Notices& notices() const { return person_.notices(); }

 private:
  friend class Streams;
  Stream(const Stream&) = delete;
  void answer(const float* answer);

  const std::shared_ptr<const Engine> engine_;
  Person person_;
  const Person* const only_ = &person_;
  std::vector<float> answer_, joints_m_, error_m_, keypoints_norm_, confidence_;
};

// What a detector saw of a person in one picture: see Person::check.
struct Frame {
  const float* keypoints_px;
  long keypoints, columns;
  double timestamp_s;
};

// Streams of one engine, pushed together with one call of it.
class Streams {
 public:
  // Throws std::invalid_argument if the streams have different engines or one is listed twice, Busy.
  explicit Streams(const std::vector<Stream*>& streams);

  // A frame for each stream; the places of those that have a new pose. Throws what Person::check throws, naming the person: no stream is
  // changed then.
  const std::vector<std::size_t>& push(const std::vector<Frame>& frames);

 private:
  std::vector<Stream*> streams_;
  People people_;
};

}  // namespace edgepose
