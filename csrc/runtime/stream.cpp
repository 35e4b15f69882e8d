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

bool PoseArrays::take(Person& person, const float* answer) {
  person.keypoints_norm(keypoints_norm.data());
  std::copy(person.confidence().begin(), person.confidence().end(), confidence.begin());
  std::copy(person.is_seen().begin(), person.is_seen().end(), is_seen.begin());
  const Sight sight{keypoints_norm.data(), person.confidence().data(), is_seen.data(), person.depth_m().data()};
  if (!answer) {
    const double ahead_s = person.predict(sight, joints_m.data(), error_m.data(), &root, &has_root);
    if (ahead_s == 0) return false;
    predicted_s = ahead_s, timestamp_s = person.timestamp_s(), was_reset = false;
  } else {
    predicted_s = 0, timestamp_s = person.timestamp_s(), was_reset = person.was_reset();
    has_root = person.answer(answer, timestamp_s, was_reset, sight, joints_m.data(), error_m.data(), &root);
  }
  return true;
}

Stream::Stream(std::shared_ptr<const Engine> engine, const Layout& layout, double width_px, double height_px,
               const PersonOptions& options)
    : engine_(std::move(engine)), person_(engine_->lifter(), layout, width_px, height_px, options), pose_(person_) {
  answer_.resize((std::size_t)(person_.joints() * person_.outputs())), answered_at_s_.resize(1);
}

void Stream::reset() {
  const Person::Claim claim(person_);
  person_.reset();
}

std::string Stream::memory() {
  const Person::Claim claim(person_);
  return person_.memory();
}

void Stream::remember(std::string_view memory) {
  const Person::Claim claim(person_);
  person_.remember(memory);
}

bool Stream::push(const float* keypoints_px, long keypoints, long columns, double timestamp_s) {
  const Person::Claim claim(person_);
  Deadline& deadline = person_.deadline();
  deadline.start();
  person_.check(keypoints_px, keypoints, columns, timestamp_s);
  Engine::Turn turn(*engine_);  // taken before anything changes: nothing after it can fail
  if (!person_.take()) return false;
  answered_at_s_[0] = person_.answered_at_s();
  if (!deadline.choose(answered_at_s_)[0]) return pose_.take(person_, nullptr);
  turn.run(&only_, 1, answer_.data());
  deadline.ran(person_.notices());
  return pose_.take(person_, answer_.data());
}

bool Stream::flush() {
  const Person::Claim claim(person_);
  Engine::Turn turn(*engine_);
  if (!person_.flush()) return false;
  turn.run(&only_, 1, answer_.data());
  return pose_.take(person_, answer_.data());
}

Streams::Streams(const std::vector<Stream*>& streams)
    : streams_(streams), batch_(persons_of(streams, &Stream::person_)) {
  for (const Stream* stream : streams_)
    if (stream->engine_ != streams_.front()->engine_)
      throw std::invalid_argument("the streams have different engines; one call runs one engine, so push those apart");
}

const std::vector<std::size_t>& Streams::push(const std::vector<Frame>& frames) {
  if (!streams_.empty()) batch_.deadline().start();
  batch_.check([&](Person& person, std::size_t i) {
    person.check(frames[i].keypoints_px, frames[i].keypoints, frames[i].columns, frames[i].timestamp_s);
  });
  if (streams_.empty()) return batch_.take();
  // Taken before any person changes: nothing after it can fail.
  Engine::Turn turn(*streams_[0]->engine_);
  turn.reserve((int)streams_.size());
  const std::size_t width = streams_[0]->answer_.size();
  std::vector<float> answers(streams_.size() * width);
  std::vector<Person*> lifted;
  lifted.reserve(streams_.size()), answered_.reserve(streams_.size());
  const std::vector<std::size_t>& asking = batch_.take();
  const std::vector<unsigned char>& is_lifted = batch_.choose();
  for (std::size_t n = 0; n < asking.size(); n++)
    if (is_lifted[n]) lifted.push_back(&batch_[asking[n]]);
  if (!lifted.empty()) turn.run(lifted.data(), (int)lifted.size(), answers.data());
  if (!asking.empty()) batch_.deadline().ran(batch_[asking[0]].notices());
  const float* answer = answers.data();
  for (std::size_t n = 0; n < asking.size(); n++) {
    Stream& stream = *streams_[asking[n]];
    if (stream.pose_.take(stream.person_, is_lifted[n] ? answer : nullptr)) answered_.push_back(asking[n]);
    if (is_lifted[n]) answer += width;
  }
  return answered_;
}

}  // namespace edgepose
