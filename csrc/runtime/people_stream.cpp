#include "people_stream.h"

namespace edgepose {

PeopleStream::PeopleStream(std::shared_ptr<const Engine> engine, const Layout& layout, double width_px,
                           double height_px, const PersonOptions& person, const PeopleOptions& options)
    : engine_(std::move(engine)), people_(engine_->lifter(), layout, width_px, height_px, person, options) {
  const Person& any = people_.person(0);
  poses_.assign(people_.most(), PoseArrays(any));
  answers_.resize(people_.most() * (std::size_t)(any.joints() * any.outputs()));
  asking_.reserve(people_.most()), found_.reserve(people_.most());
}

const std::vector<PeopleStream::Found>& PeopleStream::push(const float* keypoints_px, long detections, long keypoints,
                                                           long columns, double timestamp_s, const People::Id* ids) {
  const Person::Claim claim = people_.claim();
  people_.check(keypoints_px, detections, keypoints, columns, timestamp_s, ids);
  // Taken before any person changes: nothing after it can fail.
  Engine::Turn turn(*engine_);
  turn.reserve((int)people_.most_asking());
  return answer(turn, people_.take());
}

const std::vector<PeopleStream::Found>& PeopleStream::flush() {
  const Person::Claim claim = people_.claim();
  Engine::Turn turn(*engine_);
  turn.reserve((int)people_.most_asking());
  return answer(turn, people_.flush());
}

const std::vector<PeopleStream::Found>& PeopleStream::answer(Engine::Turn& turn,
                                                             const std::vector<std::size_t>& asking) {
  asking_.clear(), found_.clear();
  for (const std::size_t place : asking) asking_.push_back(&people_.person(place));
  if (asking.empty()) return found_;
  turn.run(asking_.data(), (int)asking_.size(), answers_.data());
  const std::size_t width = answers_.size() / people_.most();
  for (std::size_t n = 0; n < asking.size(); n++) {
    poses_[asking[n]].take(people_.person(asking[n]), answers_.data() + n * width);
    found_.push_back({people_.id(asking[n]), &poses_[asking[n]]});
  }
  return found_;
}

void PeopleStream::reset() {
  const Person::Claim claim = people_.claim();
  people_.reset();
  found_.clear();
}

}  // namespace edgepose
