#include "tracker.h"

#include <algorithm>
#include <cmath>

namespace edgepose {

namespace {

// Motion of people and of their poses over the time they are unseen, in sizes: medians of motion capture through
// cameras, of dancers and of walkers. python -m edgepose.benchmarks.people --motion
constexpr double kShift = 0.01, kShiftPerS = 0.15;                   // error of the predicted position
constexpr double kShape = 0.01, kShapePerS = 0.4, kMostShape = 0.14;  // root mean square error of the joints around it
// Gate: one distance in a thousand is larger; the first number is what an unsteady camera adds in a frame.
constexpr double kGate = 0.35, kGatePerS = 2.0, kMostGate = 1.5;
constexpr double kFreedom = 6;      // effective degrees of freedom of a pose of 17 joints
// The price of a person without a detection: a jump to the gate costs less, one that everybody makes more.
constexpr double kUnknown = 0;
constexpr double kExchanged = 3;    // the price of exchanging left and right: one frame in twenty
constexpr double kLikely = 2.3;     // a pose below this is ordinary: its mirror image is not tried
constexpr double kHalf = 0.5;       // sizes: most that the middle of the seen joints is off that of all
constexpr double kFewJoints = 2;    // typical joints added to the seen ones, as a prior
constexpr int kLeastJoints = 3;     // fewer joints do not tell people apart
constexpr double kGlideS = 0.5;     // how long unseen people go on moving as before
constexpr double kSmoothS = 0.1;    // averaging time of a speed
constexpr double kSizeS = 2.0;      // how long a person who bends down is taken for as large as before
constexpr double kFreshS = 0.1;     // a position seen this short a time ago still holds
constexpr double kJerk = 0.1;       // sizes: everybody this far from their predicted positions: the camera was moved
constexpr double kJerkPrice = 10;   // less than the jumps of two people cost, more than the jump of one
constexpr int kJerkTries = 3;       // number of people whose own jump is tried as everybody's
constexpr double kSame = 0.05;      // root mean square: two detections this close show one person
constexpr double kSameNew = 0.1;    // a new person is not this close to another
constexpr double kSurely = 6;       // a detection this much cheaper for another person is a duplicate
constexpr double kShare = 0.25;     // share of the joints that lie on another person: the pose is nobody's
constexpr double kStretch = 1.5;    // times the greatest length of the bone so far
constexpr int kStretched = 3;       // number of bones
constexpr double kDiagonal = 1.42;  // a box's diagonal over its longer side, at most
constexpr double kRounding = 1e-9;  // what rounding may cost a bound

double square(double x) { return x * x; }
double length(double x, double y) { return std::sqrt(x * x + y * y); }  // std::hypot takes five times as long

}  // namespace

Tracker::Tracker(const Skeleton& skeleton, int most, double seen_above)
    : joints_(skeleton.joints), seen_above_(seen_above), parents_(skeleton.parents), tracks_((std::size_t)most) {
  const std::string left = "left_", right = "right_";
  for (int j = 0; j < joints_; j++) {
    const std::string& name = skeleton.names[(std::size_t)j];
    int other = -1;
    if (name.compare(0, left.size(), left) == 0) other = skeleton.index(right + name.substr(left.size()));
    if (name.compare(0, right.size(), right) == 0) other = skeleton.index(left + name.substr(right.size()));
    mirrored_.push_back(other < 0 ? j : other);
  }
  for (Track& track : tracks_) {
    for (Shape* shape : {&track.at, &track.expected})
      shape->joints.resize((std::size_t)(2 * joints_)), shape->is_seen.resize((std::size_t)joints_);
    track.longest.resize((std::size_t)joints_);
  }
  rows_.reserve(tracks_.size());
  for (auto* values : {&apart_px_[0], &apart_px_[1], &sorted_}) values->resize((std::size_t)joints_);
  reset();
}

void Tracker::reset() {
  for (Track& track : tracks_) track.is_taken = false;
  camera_[0] = camera_[1] = 0;
  timestamp_s_ = -HUGE_VAL;
}

void Tracker::measure(Shape& shape) const {
  double least[2] = {HUGE_VAL, HUGE_VAL}, most[2] = {-HUGE_VAL, -HUGE_VAL}, sum[2] = {0, 0};
  shape.seen = 0;
  for (int j = 0; j < joints_; j++) {
    if (!shape.is_seen[(std::size_t)j]) continue;
    shape.seen++;
    for (int c = 0; c < 2; c++) {
      const double at = shape.joints[(std::size_t)(2 * j + c)];
      least[c] = std::min(least[c], at), most[c] = std::max(most[c], at), sum[c] += at;
    }
  }
  for (int c = 0; c < 2; c++) shape.centre[c] = sum[c] / std::max(shape.seen, 1);
  shape.size = shape.seen ? std::max({most[0] - least[0], most[1] - least[1], 1.0}) : 1.0;
}

// Predicts everybody's position, if the camera jumped by `jerk_px` beside its motion.
void Tracker::predict(double timestamp_s, const double* jerk_px) {
  const double step_s = timestamp_s_ == -HUGE_VAL ? 0.0 : timestamp_s - timestamp_s_;
  for (const int row : rows_) {
    Track& track = tracks_[(std::size_t)row];
    track.expected = track.at;
    const double glide_s = kGlideS * (1 - std::exp(-(timestamp_s - track.seen_s) / kGlideS));
    for (int c = 0; c < 2; c++) move(track.expected, c, track.speed[c] * glide_s + camera_[c] * step_s + jerk_px[c]);
  }
}

// Fits a detection by a likelihood with heavy tails, of the position in two dimensions and of each joint around it. The
// position is a median, because detectors put single joints anywhere.
Tracker::Fit Tracker::fit(const Track& track, const Shape& detection, double gap_s, double gate_px) {
  Fit best{HUGE_VAL, {0, 0}};
  const double shift_scale = kShift + kShiftPerS * gap_s,
               shape_scale = std::min(kShape + kShapePerS * gap_s, kMostShape);
  const Shape& expected = track.expected;
  for (const bool is_exchanged : {false, true}) {
    int common = 0;
    for (std::size_t j = 0; j < (std::size_t)joints_; j++) {
      const std::size_t k = is_exchanged ? (std::size_t)mirrored_[j] : j;
      if (!expected.is_seen[j] || !detection.is_seen[k]) continue;
      for (std::size_t c = 0; c < 2; c++)
        apart_px_[c][(std::size_t)common] = detection.joints[2 * k + c] - expected.joints[2 * j + c];
      common++;
    }
    if (!common || is_beyond(common, gate_px)) break;
    Fit one{0, {median(apart_px_[0], common), median(apart_px_[1], common)}};
    double odds = 1;  // one logarithm of the product; an infinite product means nobody
    for (std::size_t i = 0; i < (std::size_t)common; i++)
      odds *= 1 + (square(apart_px_[0][i] - one.shift[0]) + square(apart_px_[1][i] - one.shift[1]))
                      / square(expected.size * shape_scale);
    const double pose = (kFewJoints * std::log(2.0) + std::log(odds)) / (common + kFewJoints);
    one.cost = 1.5 * std::log1p((square(one.shift[0]) + square(one.shift[1])) / square(expected.size * shift_scale))
               + 2 * std::log(shift_scale) + kFreedom * (pose + std::log(shape_scale)) + kExchanged * is_exchanged;
    if (one.cost < best.cost) best = one;
    if (pose < kLikely || length(one.shift[0], one.shift[1]) > kJerk * expected.size) break;
  }
  return best;
}

// Whether the medians of the differences cannot lie within a distance. A median is within a standard deviation of the
// mean, which takes a tenth of the time.
bool Tracker::is_beyond(int common, double within_px) const {
  double least[2];
  for (int c = 0; c < 2; c++) {
    double sum = 0, squares = 0;
    for (int i = 0; i < common; i++) {
      const double px = apart_px_[c][(std::size_t)i];
      sum += px, squares += px * px;
    }
    const double mean = sum / common;
    least[c] = std::max(0.0, std::fabs(mean) - std::sqrt(std::max(0.0, squares / common - mean * mean)));
  }
  return square(least[0]) + square(least[1]) > square(within_px * (1 + kRounding));
}

// Fills places from everybody's predicted position; returns the cost.
double Tracker::assign(double timestamp_s, int* places) {
  const std::size_t count = detections_.size();
  costs_.assign(rows_.size() * count, HUGE_VAL), columns_of_.resize(rows_.size());
  for (std::size_t row = 0; row < rows_.size(); row++) {
    const Track& track = tracks_[(std::size_t)rows_[row]];
    const double gap_s = timestamp_s - track.seen_s,
                 gate_px = std::min(kGate + kGatePerS * gap_s, kMostGate) * track.expected.size;
    for (std::size_t d = 0; d < count; d++) {
      const Shape& detection = detections_[d];
      const double apart_px =
          length(detection.centre[0] - track.expected.centre[0], detection.centre[1] - track.expected.centre[1]);
      if (detection.seen < kLeastJoints || apart_px > gate_px + kHalf * track.expected.size) continue;
      const Fit found = fit(track, detection, gap_s, gate_px);
      const bool is_near = length(found.shift[0], found.shift[1]) <= gate_px;
      if (found.cost < HUGE_VAL && is_near) costs_[row * count + d] = found.cost;
    }
  }
  assignment_(costs_.data(), (int)rows_.size(), (int)count, kUnknown, columns_of_.data());
  for (std::size_t d = 0; d < count; d++) places[d] = detections_[d].seen < kLeastJoints ? kEmpty : kNew;
  double sum = 0;
  for (std::size_t row = 0; row < rows_.size(); row++) {
    const int column = columns_of_[row];
    sum += column < 0 ? kUnknown : costs_[row * count + (std::size_t)column];
    if (column >= 0) places[column] = rows_[row];
  }
  return sum;
}

// Where the whole picture has jumped, assigns everybody anew: the jump with the least cost over all detections is
// taken.
void Tracker::find_jerk(double timestamp_s, int* places, double cost) {
  const auto jump_of = [&](const Track& track, const Shape& detection) {
    const Fit found = fit(track, detection, timestamp_s - track.seen_s);
    return length(found.shift[0], found.shift[1]) / track.expected.size;
  };
  int fresh = 0, steady = 0;
  for (const int row : rows_) fresh += is_fresh(tracks_[(std::size_t)row], timestamp_s);
  for (std::size_t d = 0; d < detections_.size(); d++) {
    if (places[d] < 0) continue;
    const Track& track = tracks_[(std::size_t)places[d]];
    steady += is_fresh(track, timestamp_s) && jump_of(track, detections_[d]) < kJerk;
  }
  if (fresh < 2 || 2 * steady >= std::min(fresh, (int)detections_.size())) return;
  double best_px[2] = {0, 0}, least = cost - kJerkPrice;
  tried_.resize(detections_.size()), jerks_px_.clear();
  int tries = 0;
  for (const int row : rows_) {
    const Track& track = tracks_[(std::size_t)row];
    if (!is_fresh(track, timestamp_s) || tries++ == kJerkTries) continue;
    for (const Shape& detection : detections_) {
      const Fit found = fit(track, detection, timestamp_s - track.seen_s);
      jerks_px_.insert(jerks_px_.end(), found.shift, found.shift + 2);
    }
  }
  for (std::size_t i = 0; i < jerks_px_.size(); i += 2) {
    predict(timestamp_s, jerks_px_.data() + i);
    const double sum = assign(timestamp_s, tried_.data());
    if (sum < least) least = sum, std::copy_n(jerks_px_.data() + i, 2, best_px);
  }
  predict(timestamp_s, best_px);
  assign(timestamp_s, places);
}

bool Tracker::is_fresh(const Track& track, double timestamp_s) const { return timestamp_s - track.seen_s <= kFreshS; }

// Whether the joints of two shapes cannot be within a distance, root mean square: where all are seen their centres
// would be too, else no joint is further from the centre than the box is wide.
bool Tracker::are_apart(const Shape& a, const Shape& b, double within_px) const {
  const bool are_whole = a.seen == joints_ && b.seen == joints_;
  const double most_px = within_px * (1 + kRounding) + (are_whole ? 0 : kDiagonal * (a.size + b.size));
  return square(a.centre[0] - b.centre[0]) + square(a.centre[1] - b.centre[1]) > square(most_px);
}

// Root mean square distance of the joints that both shapes have, in sizes.
double Tracker::apart(const Shape& a, const Shape& b) const {
  double squares = 0;
  int common = 0;
  for (std::size_t j = 0; j < (std::size_t)joints_; j++)
    if (a.is_seen[j] && b.is_seen[j])
      common++,
          squares += square(a.joints[2 * j] - b.joints[2 * j]) + square(a.joints[2 * j + 1] - b.joints[2 * j + 1]);
  return common ? std::sqrt(squares / common) / std::max(a.size, b.size) : HUGE_VAL;
}

// The place of a detection, or the code that says why it has none.
int Tracker::judge(std::size_t detection, const int* places, double timestamp_s) {
  const int place = places[detection];
  if (place == kEmpty) return place;
  const Shape& shape = detections_[detection];
  const Track* track = place >= 0 ? &tracks_[(std::size_t)place] : nullptr;
  for (std::size_t other = 0; other < detections_.size(); other++) {
    if (other == detection || places[other] == kEmpty) continue;
    const bool is_known = places[other] >= 0 && is_fresh(tracks_[(std::size_t)places[other]], timestamp_s);
    const double most_px = kSameNew * std::max(shape.size, detections_[other].size);
    if (are_apart(shape, detections_[other], most_px)) continue;
    const double distance = apart(shape, detections_[other]);
    if (!track && distance < kSameNew && (is_known || places[other] >= 0 || other < detection)) return kDuplicate;
    if (!track || !is_known || distance >= kSame) continue;
    const Track& others = tracks_[(std::size_t)places[other]];
    const double as_theirs = fit(others, shape, timestamp_s - others.seen_s).cost,
                 as_own = fit(*track, shape, timestamp_s - track->seen_s).cost;
    if (as_theirs + kSurely < as_own) return kDuplicate;
  }
  if (track)
    return is_fresh(*track, timestamp_s) && (is_across(place, shape, timestamp_s) || is_stretched(*track, shape))
               ? kAcross
               : place;
  return lies_on_others(detection, places) ? kAcross : kNew;
}

// Whether some joints are where they were predicted and as many where another person's were.
bool Tracker::is_across(int place, const Shape& detection, double timestamp_s) const {
  const Track& track = tracks_[(std::size_t)place];
  const double near_px = kSame * track.expected.size, least = kShare * detection.seen;
  const auto is_within = [&](const Track& of, std::size_t j, double px) {
    return of.expected.is_seen[j]
           && square(of.expected.joints[2 * j] - detection.joints[2 * j])
                      + square(of.expected.joints[2 * j + 1] - detection.joints[2 * j + 1])
                  <= square(px);
  };
  int own = 0, away = 0;
  for (std::size_t j = 0; j < (std::size_t)joints_; j++) {
    if (!detection.is_seen[j] || !track.expected.is_seen[j]) continue;
    own += is_within(track, j, near_px), away += !is_within(track, j, 2 * near_px);
  }
  if (!(own > least && away > least)) return false;
  for (const int row : rows_) {
    const Track& other = tracks_[(std::size_t)row];
    if (row == place || !is_fresh(other, timestamp_s)) continue;
    int others = 0;
    for (std::size_t j = 0; j < (std::size_t)joints_; j++)
      others += detection.is_seen[j] && track.expected.is_seen[j] && !is_within(track, j, 2 * near_px)
                && is_within(other, j, near_px);
    if (others > least) return true;
  }
  return false;
}

bool Tracker::is_stretched(const Track& track, const Shape& detection) const {
  int stretched = 0;
  for (std::size_t j = 0; j < (std::size_t)joints_; j++)
    stretched += track.longest[j] > 0 && bone_px(detection, j) > kStretch * track.longest[j] + kSame * track.at.size;
  return stretched >= kStretched;
}

// Whether a possible new person has joints where people of this frame have the same ones.
bool Tracker::lies_on_others(std::size_t detection, const int* places) const {
  const Shape& shape = detections_[detection];
  int shared = 0;
  for (std::size_t j = 0; j < (std::size_t)joints_; j++) {
    if (!shape.is_seen[j]) continue;
    for (std::size_t other = 0; other < detections_.size(); other++) {
      const Shape& their = detections_[other];
      if (other == detection || places[other] < 0 || !their.is_seen[j]) continue;
      const double apart_px =
          length(their.joints[2 * j] - shape.joints[2 * j], their.joints[2 * j + 1] - shape.joints[2 * j + 1]);
      if (apart_px > kSame * their.size) continue;
      shared++;
      break;
    }
  }
  return shared > kShare * shape.seen;
}

// The length of a joint's bone to its parent; 0 where one of the two is not seen.
double Tracker::bone_px(const Shape& shape, std::size_t j) const {
  const int parent = parents_[j];
  if (parent < 0 || !shape.is_seen[j] || !shape.is_seen[(std::size_t)parent]) return 0;
  return length(shape.joints[2 * j] - shape.joints[(std::size_t)(2 * parent)],
                    shape.joints[2 * j + 1] - shape.joints[(std::size_t)(2 * parent + 1)]);
}

void Tracker::match(const double* joints_px, const double* confidence, int detections, double timestamp_s,
                    int* places) {
  const std::size_t joints = (std::size_t)joints_;
  detections_.resize((std::size_t)detections);
  for (Shape& shape : detections_) {
    shape.joints.assign(joints_px, joints_px + 2 * joints), shape.is_seen.resize(joints);
    for (std::size_t j = 0; j < joints; j++) shape.is_seen[j] = confidence[j] >= seen_above_;
    measure(shape);
    joints_px += 2 * joints, confidence += joints;
  }
  rows_.clear();
  for (std::size_t place = 0; place < tracks_.size(); place++)
    if (tracks_[place].is_taken) rows_.push_back((int)place);
  const double still[2] = {0, 0};
  predict(timestamp_s, still);
  find_jerk(timestamp_s, places, assign(timestamp_s, places));
  judged_.resize(detections_.size());
  for (std::size_t d = 0; d < detections_.size(); d++) judged_[d] = judge(d, places, timestamp_s);
  std::copy(judged_.begin(), judged_.end(), places);
  follow(places, timestamp_s);
  timestamp_s_ = timestamp_s;
}

// Updates the camera's motion from what moves everybody at once; those who are not seen move with it.
void Tracker::follow(const int* places, double timestamp_s) {
  const double step_s = timestamp_s_ == -HUGE_VAL ? 0.0 : timestamp_s - timestamp_s_;
  double moved_px[2] = {0, 0};
  int known = 0;
  for (int c = 0; c < 2; c++) {
    moves_px_.clear();
    for (std::size_t d = 0; d < detections_.size(); d++) {
      if (places[d] < 0 || !is_fresh(tracks_[(std::size_t)places[d]], timestamp_s)) continue;
      const Track& track = tracks_[(std::size_t)places[d]];
      moves_px_.push_back(shift(track.at, detections_[d], c) - track.speed[c] * (timestamp_s - track.seen_s));
    }
    known = (int)moves_px_.size();
    if (known < 2) continue;
    std::sort(moves_px_.begin(), moves_px_.end());
    moved_px[c] = 0.5 * (moves_px_[(std::size_t)(known - 1) / 2] + moves_px_[(std::size_t)known / 2]);
  }
  if (step_s > 0) {
    const double share = 1 - std::exp(-step_s / kSmoothS);
    for (int c = 0; c < 2; c++) camera_[c] += share * (moved_px[c] / step_s - camera_[c]);
  }
  for (const int row : rows_) {
    Track& track = tracks_[(std::size_t)row];
    for (int c = 0; c < 2; c++) move(track.at, c, moved_px[c]);
  }
  for (std::size_t d = 0; d < detections_.size(); d++)
    if (places[d] >= 0) see(tracks_[(std::size_t)places[d]], detections_[d], timestamp_s);
}

void Tracker::see(Track& track, const Shape& detection, double timestamp_s) {
  const double gap_s = timestamp_s - track.seen_s, share = 1 - std::exp(-gap_s / kSmoothS);
  for (int c = 0; c < 2; c++) track.speed[c] += share * (shift(track.at, detection, c) / gap_s - track.speed[c]);
  const double size = std::max(detection.size, track.at.size * std::exp(-gap_s / kSizeS));
  for (std::size_t j = 0; j < (std::size_t)joints_; j++)
    track.longest[j] = std::max(bone_px(detection, j), track.longest[j] * std::exp(-gap_s / kSizeS));
  track.at = detection, track.at.size = size;
  track.seen_s = timestamp_s;
}

void Tracker::start(int place, int detection) {
  Track& track = tracks_[(std::size_t)place];
  track.at = detections_[(std::size_t)detection];
  for (std::size_t j = 0; j < (std::size_t)joints_; j++) track.longest[j] = bone_px(track.at, j);
  track.speed[0] = track.speed[1] = 0;
  track.seen_s = timestamp_s_;
  track.is_taken = true;
}

// The median of one coordinate's differences, over the joints that both shapes have.
double Tracker::shift(const Shape& from, const Shape& to, int c) {
  int common = 0;
  for (std::size_t j = 0; j < (std::size_t)joints_; j++)
    if (from.is_seen[j] && to.is_seen[j])
      apart_px_[0][(std::size_t)common++] = to.joints[2 * j + (std::size_t)c] - from.joints[2 * j + (std::size_t)c];
  return common ? median(apart_px_[0], common) : 0.0;
}

double Tracker::median(const std::vector<double>& values, int count) {
  // Sorted by insertion: so few values are faster than by std::nth_element.
  for (int i = 0; i < count; i++) {
    const double value = values[(std::size_t)i];
    int at = i;
    for (; at > 0 && sorted_[(std::size_t)at - 1] > value; at--)
      sorted_[(std::size_t)at] = sorted_[(std::size_t)at - 1];
    sorted_[(std::size_t)at] = value;
  }
  return sorted_[(std::size_t)count / 2];
}

void Tracker::move(Shape& shape, int c, double by_px) const {
  shape.centre[c] += by_px;
  for (std::size_t j = 0; j < (std::size_t)joints_; j++) shape.joints[2 * j + (std::size_t)c] += by_px;
}

}  // namespace edgepose
