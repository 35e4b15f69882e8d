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

Stream::Stream(std::shared_ptr<const Engine> engine, const Layout& layout, double width_px, double height_px, const PersonOptions& options)
    : engine_(std::move(engine)), person_(engine_->lifter(), layout, width_px, height_px, options) {
  const std::size_t joints = (std::size_t)person_.joints();
  answer_.resize(joints * (std::size_t)person_.outputs());
  joints_m_.resize(3 * joints), keypoints_norm_.resize(2 * joints), confidence_.resize(joints);
  if (person_.has_error()) error_m_.resize(joints);
}

void Stream::reset() {
  const Person::Claim claim(person_);
  person_.reset();
}

bool Stream::push(const float* keypoints_px, long keypoints, long columns, double timestamp_s) {
  const Person::Claim claim(person_);
  person_.check(keypoints_px, keypoints, columns, timestamp_s);
  Engine::Turn turn(*engine_);  // before anything changes: nothing after it can fail
  if (!person_.take()) return false;
  turn.run(&only_, 1, answer_.data());
  answer(answer_.data());
  return true;
}

bool Stream::flush() {
  const Person::Claim claim(person_);
  Engine::Turn turn(*engine_);
  if (!person_.flush()) return false;
  turn.run(&only_, 1, answer_.data());
  answer(answer_.data());
  return true;
}

void Stream::answer(const float* answer) {
  person_.answer(answer, person_.timestamp_s(), person_.was_reset(), joints_m_.data(), error_m_.data());
  person_.keypoints_norm(keypoints_norm_.data());
  std::copy(person_.confidence().begin(), person_.confidence().end(), confidence_.begin());
}

Streams::Streams(const std::vector<Stream*>& streams) : streams_(streams), people_(persons_of(streams, &Stream::person_)) {
  for (const Stream* stream : streams_)
    if (stream->engine_ != streams_.front()->engine_)
      throw std::invalid_argument("the streams have different engines; one call runs one engine, so push those apart");
}

const std::vector<std::size_t>& Streams::push(const std::vector<Frame>& frames) {
  people_.check([&](Person& person, std::size_t i) {
    person.check(frames[i].keypoints_px, frames[i].keypoints, frames[i].columns, frames[i].timestamp_s);
  });
  if (streams_.empty()) return people_.take();
  // Before anyone changes: nothing after it can fail.
  Engine::Turn turn(*streams_[0]->engine_);
  turn.reserve((int)streams_.size());
  const std::size_t width = streams_[0]->answer_.size();
  std::vector<float> answers(streams_.size() * width);
  std::vector<const Person*> asking;
  asking.reserve(streams_.size());
  for (const std::size_t i : people_.take()) asking.push_back(&people_[i]);
  if (!asking.empty()) turn.run(asking.data(), (int)asking.size(), answers.data());
  for (std::size_t n = 0; n < asking.size(); n++) streams_[people_.asking()[n]]->answer(answers.data() + n * width);
  return people_.asking();
}

}  // namespace edgepose
