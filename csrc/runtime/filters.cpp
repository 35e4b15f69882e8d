#include "filters.h"

#include <algorithm>
#include <stdexcept>
#include <string>

#include "text.h"

namespace edgepose {

namespace {

constexpr double kMostHz = 1e9;        // limit for the cutoffs and beta
constexpr double kLeastSpacingS = 1e-6;  // no camera is faster
constexpr double kPi = 3.141592653589793;
// A root hidden for less than this moves with the joints still seen: in this time people seldom bend or turn so far
// that the shoulders tell more.
constexpr double kRootHoldS = 2.0;

template <class Real>
Real alpha(Real cutoff_hz, double dt_s) {
  return 1 / (1 + 1 / ((Real)(2.0 * kPi * dt_s) * cutoff_hz));
}

}  // namespace

template <class Real>
OneEuro<Real>::OneEuro(double min_cutoff_hz, double beta, double d_cutoff_hz, int values)
    : min_cutoff_hz_(min_cutoff_hz),
      beta_(beta),
      d_cutoff_hz_(d_cutoff_hz),
      x_((std::size_t)values),
      speed_((std::size_t)values) {
  if (!(0 < min_cutoff_hz && min_cutoff_hz <= kMostHz && 0 < d_cutoff_hz && d_cutoff_hz <= kMostHz && 0 <= beta
        && beta <= kMostHz))
    throw std::invalid_argument("min_cutoff_hz, beta, d_cutoff_hz are " + text(min_cutoff_hz) + ", " + text(beta) + ", "
                                + text(d_cutoff_hz) + "; wanted positive cutoffs and beta >= 0, all at most "
                                + text(kMostHz));
}

template <class Real>
void OneEuro<Real>::operator()(Real* x, double timestamp_s) {
  const double dt_s = std::max(timestamp_s - timestamp_s_, kLeastSpacingS);
  const Real of_speed = (Real)(1.0 / (1.0 + 1.0 / (2.0 * kPi * dt_s * d_cutoff_hz_)));
  for (std::size_t i = 0; i < x_.size(); i++) {
    if (is_fresh_) {
      speed_[i] = 0;
    } else {
      speed_[i] = speed_[i] + of_speed * ((x[i] - x_[i]) / (Real)dt_s - speed_[i]);
      x[i] = x_[i] + alpha<Real>((Real)min_cutoff_hz_ + (Real)beta_ * std::fabs(speed_[i]), dt_s) * (x[i] - x_[i]);
    }
    x_[i] = x[i];
  }
  is_fresh_ = false;
  timestamp_s_ = timestamp_s;
}

template class OneEuro<float>;
template class OneEuro<double>;

Hold::Hold(const Skeleton& skeleton, double seen_above, double lost_below, double hold_s)
    : seen_above_(seen_above),
      lost_below_(lost_below),
      hold_s_(hold_s),
      joints_(skeleton.joints),
      root_(skeleton.root()),
      stand_in_(skeleton) {
  if (!(seen_above > 0 && seen_above <= 1))
    throw std::invalid_argument("seen_above is " + text(seen_above) + "; wanted a number above 0, at most 1");
  if (!(lost_below >= 0 && lost_below <= seen_above))
    throw std::invalid_argument("lost_below is " + text(lost_below) + "; wanted a number from 0 to "
                                + text(seen_above));
  if (!(hold_s >= 0)) throw std::invalid_argument("hold_s is " + text(hold_s) + "; wanted 0 or more");
  int deepest = 0;
  for (int j = 0; j < joints_; j++) {
    const std::string& name = skeleton.names[j];
    const auto ends_with = [&](const std::string& end) {
      return name.size() >= end.size() && name.compare(name.size() - end.size(), end.size(), end) == 0;
    };
    parents_.push_back(j == root_ ? j : skeleton.parents[j]);
    falls_back_.push_back(ends_with("_knee") || ends_with("_ankle"));
    int depth = 0;
    for (int k = j; k != root_; k = skeleton.parents[k]) depth++;
    deepest = std::max(deepest, depth);
  }
  for (; deepest; deepest >>= 1) climb_rounds_++;  // each round of the climb in fill() doubles the bones covered
  for (auto* flags : {&is_seen_, &now_}) flags->resize(joints_);
  for (auto* pairs : {&offsets_, &last_, &placed_, &climb_, &climbed_}) pairs->resize(2 * joints_);
  seen_at_s_.resize(joints_);
  ancestor_.resize(joints_), ancestors_.resize(joints_);
  reset();
}

void Hold::reset() {
  std::fill(is_seen_.begin(), is_seen_.end(), 0);
  for (auto* pairs : {&offsets_, &last_}) std::fill(pairs->begin(), pairs->end(), 0.0);
  std::fill(seen_at_s_.begin(), seen_at_s_.end(), -HUGE_VAL);
  has_places_ = false;
}

bool Hold::operator()(const double* keypoints, const double* confidence, double timestamp_s) {
  bool all = true;
  for (int j = 0; j < joints_; j++) {
    now_[j] = confidence[j] >= (is_seen_[j] ? lost_below_ : seen_above_);
    all = all && now_[j];
  }
  if (all) std::copy(keypoints, keypoints + 2 * joints_, placed_.begin());
  else if (!fill(keypoints, timestamp_s)) return false;
  for (int j = 0; j < joints_; j++) {
    const int parent = parents_[j];
    if (now_[j] && now_[parent])
      for (int c = 0; c < 2; c++) offsets_[2 * j + c] = placed_[2 * j + c] - placed_[2 * parent + c];
    if (now_[j]) seen_at_s_[j] = timestamp_s;
  }
  is_seen_ = now_;
  last_ = placed_;
  has_places_ = true;
  return true;
}

bool Hold::place_root(double timestamp_s) {
  const bool is_held = timestamp_s - seen_at_s_[root_] <= kRootHoldS;
  if (!is_held && stand_in_(now_.data(), placed_.data())) return true;
  // The last position of a joint that was hidden in the last frame is a guess: it says less about the motion.
  bool any = false;
  for (int j = 0; j < joints_; j++) any = any || (now_[j] && is_seen_[j]);
  int follows = 0;
  double moved[2] = {0, 0};
  for (int j = 0; j < joints_; j++) {
    if (!now_[j] || (any && !is_seen_[j])) continue;
    follows++;
    for (int c = 0; c < 2; c++) moved[c] += placed_[2 * j + c] - last_[2 * j + c];
  }
  if (!has_places_ || follows == 0) return false;
  for (int c = 0; c < 2; c++) placed_[2 * root_ + c] = last_[2 * root_ + c] + moved[c] / follows;
  return true;
}

bool Hold::fill(const double* keypoints, double timestamp_s) {
  for (int i = 0; i < 2 * joints_; i++) placed_[i] = now_[i / 2] ? keypoints[i] : 0.0;
  if (!now_[root_] && !place_root(timestamp_s)) return false;
  // A hidden joint is at its nearest seen ancestor plus the offsets between them, found by pointer doubling: after
  // round r every joint has looked 2^r bones up.
  for (int j = 0; j < joints_; j++) {
    const bool is_fallen = falls_back_[j] && timestamp_s - seen_at_s_[j] > hold_s_;
    for (int c = 0; c < 2; c++) climb_[2 * j + c] = now_[j] || is_fallen || j == root_ ? 0.0 : offsets_[2 * j + c];
    ancestor_[j] = now_[j] ? j : parents_[j];
  }
  for (int round = 0; round < climb_rounds_; round++) {
    for (int j = 0; j < joints_; j++) {
      for (int c = 0; c < 2; c++) climbed_[2 * j + c] = climb_[2 * j + c] + climb_[2 * ancestor_[j] + c];
      ancestors_[j] = ancestor_[ancestor_[j]];
    }
    climb_.swap(climbed_);
    ancestor_.swap(ancestors_);
  }
  for (int j = 0; j < joints_; j++)
    for (int c = 0; c < 2; c++) climbed_[2 * j + c] = placed_[2 * ancestor_[j] + c] + climb_[2 * j + c];
  placed_.swap(climbed_);
  return true;
}

}  // namespace edgepose
