#include "people_stream.h"

namespace edgepose {

PeopleStream::PeopleStream(std::shared_ptr<const Engine> engine, const Layout& layout, double width_px,
                           double height_px, const PersonOptions& person, const PeopleOptions& options)
    : engine_(std::move(engine)),
      people_(engine_->lifter(), layout, width_px, height_px, person, options),
      all_(people_.most(), 1) {
  const Person& any = people_.person(0);
  poses_.assign(people_.most(), PoseArrays(any));
  answers_.resize(people_.most() * (std::size_t)(any.joints() * any.outputs()));
  lifted_.reserve(people_.most()), found_.reserve(people_.most());
}

const std::vector<PeopleStream::Found>& PeopleStream::push(const float* keypoints_px, long detections, long keypoints,
                                                           long columns, double timestamp_s, const People::Id* ids) {
  const Person::Claim claim = people_.claim();
  people_.deadline().start();
  people_.check(keypoints_px, detections, keypoints, columns, timestamp_s, ids);
  // Taken before any person changes: nothing after it can fail.
  Engine::Turn turn(*engine_);
  turn.reserve((int)people_.most_asking());
  const std::vector<std::size_t>& asking = people_.take();
  answer(turn, asking, people_.choose());
  people_.deadline().ran(people_.notices());
  return found_;
}

const std::vector<PeopleStream::Found>& PeopleStream::flush() {
  const Person::Claim claim = people_.claim();
  Engine::Turn turn(*engine_);
  turn.reserve((int)people_.most_asking());
  return answer(turn, people_.flush(), all_);
}

const std::vector<PeopleStream::Found>& PeopleStream::answer(Engine::Turn& turn,
                                                             const std::vector<std::size_t>& asking,
                                                             const std::vector<unsigned char>& is_lifted) {
  lifted_.clear(), found_.clear();
  for (std::size_t n = 0; n < asking.size(); n++)
    if (is_lifted[n]) lifted_.push_back(&people_.person(asking[n]));
  if (!lifted_.empty()) turn.run(lifted_.data(), (int)lifted_.size(), answers_.data());
  const std::size_t width = answers_.size() / people_.most();
  const float* answer = answers_.data();
  for (std::size_t n = 0; n < asking.size(); n++) {
    PoseArrays& pose = poses_[asking[n]];
    if (pose.take(people_.person(asking[n]), is_lifted[n] ? answer : nullptr))
      found_.push_back({people_.id(asking[n]), &pose});
    if (is_lifted[n]) answer += width;
  }
  return found_;
}

void PeopleStream::reset() {
  const Person::Claim claim = people_.claim();
  people_.reset();
  found_.clear();
}

}  // namespace edgepose
