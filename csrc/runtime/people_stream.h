// Everybody in a picture, and the engine that runs the model.
#pragma once

#include <memory>
#include <vector>

#include "people.h"
#include "stream.h"

namespace edgepose {

// One call at a time: a concurrent call throws Busy.
class PeopleStream {
 public:
  struct Found {
    People::Id id;
    const PoseArrays* pose;
  };

  // Throws what People throws.
  PeopleStream(std::shared_ptr<const Engine> engine, const Layout& layout, double width_px, double height_px,
               const PersonOptions& person, const PeopleOptions& options);

  // Takes one camera frame, as for People::check, with one engine call. Returns the new poses, valid until the next
  // call.
  const std::vector<Found>& push(const float* keypoints_px, long detections, long keypoints, long columns,
                                 double timestamp_s, const People::Id* ids);

  // The recording has ended: like push(), for each person's next frame that delay_frames kept waiting.
  const std::vector<Found>& flush();

  void reset();

  const Engine& engine() const { return *engine_; }
  const std::vector<Found>& found() const { return found_; }
  const std::vector<People::Id>& ids() const { return people_.ids(); }
  const Notices& notices() const { return people_.notices(); }

 private:
  const std::vector<Found>& answer(Engine::Turn& turn, const std::vector<std::size_t>& asking,
                                   const std::vector<unsigned char>& is_lifted);

  const std::shared_ptr<const Engine> engine_;
  People people_;
  std::vector<PoseArrays> poses_;  // one for each place
  std::vector<float> answers_;
  std::vector<Person*> lifted_;
  const std::vector<unsigned char> all_;
  std::vector<Found> found_;
};

}  // namespace edgepose
