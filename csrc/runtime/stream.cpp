#include "stream.h"

#include <algorithm>

namespace edgepose {

namespace {

std::vector<Person*> persons_of(const std::vector<Stream*>& streams, Person Stream::*person) {
  std::vector<Person*> persons;
  for (Stream* stream : streams) persons.push_back(&(stream->*person));
  return persons;
}

}  // namespace

PoseArrays::PoseArrays(const Person& person) {
  const std::size_t joints = (std::size_t)person.joints();
  joints_m.resize(3 * joints), keypoints_norm.resize(2 * joints), confidence.resize(joints), is_seen.resize(joints);
  if (person.has_error()) error_m.resize(joints);
}

void PoseArrays::take(Person& person, const float* answer) {
  timestamp_s = person.timestamp_s(), was_reset = person.was_reset();
  person.answer(answer, timestamp_s, was_reset, joints_m.data(), error_m.data());
  person.keypoints_norm(keypoints_norm.data());
  std::copy(person.confidence().begin(), person.confidence().end(), confidence.begin());
  std::copy(person.is_seen().begin(), person.is_seen().end(), is_seen.begin());
}

Stream::Stream(std::shared_ptr<const Engine> engine, const Layout& layout, double width_px, double height_px,
               const PersonOptions& options)
    : engine_(std::move(engine)), person_(engine_->lifter(), layout, width_px, height_px, options), pose_(person_) {
  answer_.resize((std::size_t)(person_.joints() * person_.outputs()));
}

void Stream::reset() {
  const Person::Claim claim(person_);
  person_.reset();
}

bool Stream::push(const float* keypoints_px, long keypoints, long columns, double timestamp_s) {
  const Person::Claim claim(person_);
  person_.check(keypoints_px, keypoints, columns, timestamp_s);
  Engine::Turn turn(*engine_);  // taken before anything changes: nothing after it can fail
  if (!person_.take()) return false;
  turn.run(&only_, 1, answer_.data());
  pose_.take(person_, answer_.data());
  return true;
}

bool Stream::flush() {
  const Person::Claim claim(person_);
  Engine::Turn turn(*engine_);
  if (!person_.flush()) return false;
  turn.run(&only_, 1, answer_.data());
  pose_.take(person_, answer_.data());
  return true;
}

Streams::Streams(const std::vector<Stream*>& streams)
    : streams_(streams), batch_(persons_of(streams, &Stream::person_)) {
  for (const Stream* stream : streams_)
    if (stream->engine_ != streams_.front()->engine_)
      throw std::invalid_argument("the streams have different engines; one call runs one engine, so push those apart");
}

const std::vector<std::size_t>& Streams::push(const std::vector<Frame>& frames) {
  batch_.check([&](Person& person, std::size_t i) {
    person.check(frames[i].keypoints_px, frames[i].keypoints, frames[i].columns, frames[i].timestamp_s);
  });
  if (streams_.empty()) return batch_.take();
  // Taken before any person changes: nothing after it can fail.
  Engine::Turn turn(*streams_[0]->engine_);
  turn.reserve((int)streams_.size());
  const std::size_t width = streams_[0]->answer_.size();
  std::vector<float> answers(streams_.size() * width);
  std::vector<const Person*> asking;
  asking.reserve(streams_.size());
  for (const std::size_t i : batch_.take()) asking.push_back(&batch_[i]);
  if (!asking.empty()) turn.run(asking.data(), (int)asking.size(), answers.data());
  for (std::size_t n = 0; n < asking.size(); n++) {
    Stream& stream = *streams_[batch_.asking()[n]];
    stream.pose_.take(stream.person_, answers.data() + n * width);
  }
  return batch_.asking();
}

}  // namespace edgepose
