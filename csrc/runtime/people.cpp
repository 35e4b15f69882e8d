#include "people.h"

#include <algorithm>

#include "text.h"

namespace edgepose {

namespace {

constexpr int kLeftOut = -10;  // a code beside those of Tracker: all places are taken

const PeopleOptions& checked(const PeopleOptions& options) {
  if (options.most_people < 1 || options.most_people > People::kMostPeople)
    throw std::invalid_argument("most_people is " + std::to_string(options.most_people) + "; wanted 1 to "
                                + std::to_string(People::kMostPeople));
  if (!(options.return_s >= 0 && options.return_s < HUGE_VAL))
    throw std::invalid_argument("return_s is " + text(options.return_s) + "; wanted 0 or more seconds");
  return options;
}

}  // namespace

People::People(const Lifter& lifter, const Layout& layout, double width_px, double height_px, PersonOptions person,
               const PeopleOptions& options)
    : joints_((std::size_t)lifter.skeleton.joints),
      max_gap_s_(person.max_gap_s),
      return_s_(std::max(checked(options).return_s, person.max_gap_s)),
      adapter_(layout, lifter.skeleton),
      clock_(person.on_bad_time),
      tracker_(lifter.skeleton, options.most_people,
               person.seen_above == kModelSeenAbove ? kSureAbove : person.seen_above) {
  person.is_one_person = true;
  for (int i = 0; i < options.most_people; i++)
    places_.push_back(std::make_unique<Place>(lifter, layout, width_px, height_px, person, &notices_));
  present_.reserve(places_.size()), asking_.reserve(places_.size()), answered_at_s_.reserve(places_.size());
  deadline().reserve(places_.size());
}

template <class Real>
void People::check(const Real* keypoints_px, long detections, long keypoints, long columns, double timestamp_s,
                   const Id* ids) {
  if (is_flushing_)
    throw std::invalid_argument("the people are being flushed; flush them until there is no pose, or reset them");
  clock_.check(timestamp_s);
  if (detections > kMostPeople)
    throw std::invalid_argument("keypoints_px has " + std::to_string(detections) + " people; wanted "
                                + std::to_string(kMostPeople) + " at most");
  check_ids(detections, ids);
  const std::size_t count = (std::size_t)detections, one = (std::size_t)keypoints * (std::size_t)columns;
  Person& any = places_[0]->person;  // all persons refuse the same input
  joints_px_.resize(2 * joints_ * count), confidence_.resize(joints_ * count);
  for (std::size_t d = 0; d < count; d++) {
    try {
      any.check(keypoints_px + d * one, keypoints, columns, timestamp_s);
    } catch (const std::invalid_argument& error) {
      throw std::invalid_argument("person " + std::to_string(d) + ": " + error.what());
    }
    adapter_(any.checked_px(), joints_px_.data() + 2 * joints_ * d, confidence_.data() + joints_ * d);
  }
  raw_.assign(keypoints_px, keypoints_px + count * one);  // only now: no person refused its shape
  checked_ids_.assign(ids, ids + (ids ? detections : 0)), ids_.reserve(count), found_.reserve(count);
  detections_ = detections, keypoints_ = keypoints, columns_ = columns;
  checked_at_s_ = timestamp_s, comes_with_ids_ = ids;
}

template void People::check(const float*, long, long, long, double, const Id*);
template void People::check(const double*, long, long, long, double, const Id*);

void People::check_ids(long detections, const Id* ids) const {
  if (detections > 0 && has_started_ && has_ids_ != (ids != nullptr))
    throw std::invalid_argument(std::string(has_ids_ ? "ids is missing, but came" : "ids came, but not")
                                + " with the frames before; wanted them in all frames or in none");
  if (!ids) return;
  for (long d = 0; d < detections; d++) {
    if (ids[d] < 0)
      throw std::invalid_argument("ids[" + std::to_string(d) + "] is " + std::to_string(ids[d]) + "; wanted 0 or more");
    const Id* first = std::find(ids, ids + d, ids[d]);
    if (first != ids + d)
      throw std::invalid_argument("ids has " + std::to_string(ids[d]) + " twice, for people "
                                  + std::to_string(first - ids) + " and "
                                  + std::to_string(d) + "; wanted an id of their own for each");
  }
}

const std::vector<std::size_t>& People::take() {
  asking_.clear();
  ids_.assign((std::size_t)detections_, kNobody), found_.assign((std::size_t)detections_, Tracker::kEmpty);
  switch (clock_.take(checked_at_s_, notices_)) {
    case Clock::Frame::left_out: return asking_;
    case Clock::Frame::of_another_recording:
      while (!present_.empty()) forget(present_.back());
      tracker_.reset();
      break;
    case Clock::Frame::next: break;
  }
  forget_the_gone();
  if (detections_ > 0) has_started_ = true, has_ids_ = comes_with_ids_;
  for (const std::size_t place : present_) places_[place]->detection = -1;
  if (comes_with_ids_) follow_ids();
  else follow_by_tracker();
  for (std::size_t d = 0; d < found_.size(); d++) {
    if (found_[d] < 0) {
      note_left_out((int)d, found_[d]);
      continue;
    }
    Place& place = *places_[(std::size_t)found_[d]];
    place.detection = (int)d, place.seen_s = checked_at_s_, ids_[d] = place.id;
  }
  for (const std::size_t i : present_) {
    Place& place = *places_[i];
    const double* raw = place.detection < 0 ? nullptr : raw_.data() + place.detection * keypoints_ * columns_;
    place.person.check(raw, keypoints_, columns_, checked_at_s_);
    if (place.person.take()) asking_.push_back(i);
  }
  return asking_;
}

const std::vector<unsigned char>& People::choose() {
  answered_at_s_.clear();
  for (const std::size_t place : asking_) answered_at_s_.push_back(person(place).answered_at_s());
  return deadline().choose(answered_at_s_);
}

void People::follow_ids() {
  for (std::size_t d = 0; d < found_.size(); d++) {
    const int known = find(checked_ids_[d]);
    if (known >= 0) found_[d] = known, places_[(std::size_t)known]->seen_s = checked_at_s_;
  }
  for (std::size_t d = 0; d < found_.size(); d++)
    if (found_[d] < 0) found_[d] = place_for(checked_ids_[d], checked_at_s_);
}

void People::follow_by_tracker() {
  tracker_.match(joints_px_.data(), confidence_.data(), (int)detections_, checked_at_s_, found_.data());
  for (const int place : found_)
    if (place >= 0) places_[(std::size_t)place]->seen_s = checked_at_s_;
  for (std::size_t d = 0; d < found_.size(); d++) {
    if (found_[d] != Tracker::kNew) continue;
    found_[d] = place_for(next_id_, checked_at_s_);
    if (found_[d] >= 0) next_id_++, tracker_.start(found_[d], (int)d);
  }
}

int People::find(Id id) const {
  for (const std::size_t place : present_)
    if (places_[place]->id == id) return (int)place;
  return -1;
}

// Takes a free place for a new person; kLeftOut if there is none.
int People::place_for(Id id, double timestamp_s) {
  if (present_.size() == places_.size()) {
    const auto earlier = [&](std::size_t a, std::size_t b) { return places_[a]->seen_s < places_[b]->seen_s; };
    const std::size_t longest_away = *std::min_element(present_.begin(), present_.end(), earlier);
    if (timestamp_s - places_[longest_away]->seen_s <= max_gap_s_) return kLeftOut;
    forget(longest_away);
  }
  const auto is_free = [](const std::unique_ptr<Place>& place) { return place->id == kNobody; };
  const std::size_t place = (std::size_t)(std::find_if(places_.begin(), places_.end(), is_free) - places_.begin());
  places_[place]->id = id, places_[place]->seen_s = timestamp_s, places_[place]->detection = -1;
  present_.push_back(place);
  return (int)place;
}

void People::note_left_out(int detection, int reason) {
  const auto at = [&] {
    return "person " + std::to_string(detection) + " of the frame at " + text(checked_at_s_) + " s ";
  };
  if (reason == Tracker::kDuplicate)
    notices_.add(Notice::duplicate_person, [&] { return at() + "is another detection of somebody: it is left out"; });
  if (reason == Tracker::kAcross)
    notices_.add(Notice::across_people,
                 [&] { return at() + "lies across two people: it is nobody's pose and left out"; });
  if (reason == kLeftOut)
    notices_.add(Notice::most_people, [&] {
      return at() + "is left out: " + std::to_string(places_.size())
             + " people are followed already (option most_people)";
    });
}

void People::forget(std::size_t place) {
  places_[place]->id = kNobody;
  places_[place]->person.reset();
  tracker_.forget((int)place);
  present_.erase(std::find(present_.begin(), present_.end(), place));
}

void People::forget_the_gone() {
  for (std::size_t i = present_.size(); i-- > 0;) {
    const Place& place = *places_[present_[i]];
    if (checked_at_s_ - place.seen_s > return_s_ && place.person.is_done()) forget(present_[i]);
  }
}

const std::vector<std::size_t>& People::flush() {
  asking_.clear();
  for (const std::size_t place : present_)
    if (places_[place]->person.flush()) asking_.push_back(place);
  is_flushing_ = !asking_.empty();
  if (!is_flushing_) reset();
  return asking_;
}

void People::reset() {
  while (!present_.empty()) forget(present_.back());
  tracker_.reset();
  clock_.reset();
  ids_.clear();
  has_started_ = is_flushing_ = false;
}

}  // namespace edgepose
