#include "sides.h"

#include <algorithm>
#include <cmath>

namespace edgepose {

namespace {

constexpr double kFrameS = 0.06;      // between frames further apart a person may have turned
constexpr int kLeastPairs = 4;        // arms and legs have six; fewer than this say too little
// Distances between two frames, joint by joint, against those of the joints exchanged. In real clips of three
// detectors, dancers among them, the exchanged ones are never below 2.1 times the plain ones, but for a few frames of
// one; where sides are exchanged it is the inverse.
constexpr double kMostShare = 0.5;
constexpr double kLeastGain = 0.1;  // mean gain in distance by exchanging, as a share of the body's size
constexpr double kFirstTrustS = 0.25, kMostTrustS = 2.0;

}  // namespace

Sides::Sides(const Skeleton& skeleton, double seen_above) : seen_above_(seen_above) {
  const std::string left = "left_", right = "right_";
  for (int j = 0; j < skeleton.joints; j++) {
    const std::string& name = skeleton.names[(std::size_t)j];
    const int other = name.compare(0, left.size(), left) == 0 ? skeleton.index(right + name.substr(left.size())) : -1;
    if (other >= 0) pairs_.push_back({j, other});
  }
  joints_.resize((std::size_t)(2 * skeleton.joints)), confidence_.resize((std::size_t)skeleton.joints);
}

void Sides::operator()(double* joints, double* confidence, double timestamp_s) {
  const double spacing_s = timestamp_s - timestamp_s_;
  gave_up_ = false;
  if (is_fresh_ || spacing_s > kFrameS) {
    is_fresh_ = is_exchanged_ = false;
    trust_s_ = kFirstTrustS;
  } else {
    if (is_exchanged_) exchange(joints, confidence);
    if (is_certain(joints, confidence)) {
      is_exchanged_ = !is_exchanged_;
      exchange(joints, confidence);
    }
    trust_s_ = std::min(trust_s_ + (is_exchanged_ ? -spacing_s : spacing_s), kMostTrustS);
    if (trust_s_ < 0) {
      exchange(joints, confidence);
      gave_up_ = true, is_exchanged_ = false;
      trust_s_ = kFirstTrustS;
    }
  }
  std::copy_n(joints, joints_.size(), joints_.begin());
  std::copy_n(confidence, confidence_.size(), confidence_.begin());
  timestamp_s_ = timestamp_s;
}

void Sides::exchange(double* joints, double* confidence) const {
  for (const auto& [left, right] : pairs_) {
    std::swap_ranges(joints + 2 * left, joints + 2 * left + 2, joints + 2 * right);
    std::swap(confidence[left], confidence[right]);
  }
}

// Whether a frame and the last one say clearly that left and right are exchanged.
bool Sides::is_certain(const double* joints, const double* confidence) const {
  const auto is_seen = [&](int j) {
    return confidence[j] >= seen_above_ && confidence_[(std::size_t)j] >= seen_above_;
  };
  // The body and the picture move: distances are measured from the middle of the pairs.
  double centre[2] = {0, 0}, centre_before[2] = {0, 0};
  const double* before = joints_.data();
  int pairs = 0;
  for (const auto& [left, right] : pairs_) {
    if (!is_seen(left) || !is_seen(right)) continue;
    pairs++;
    for (int c = 0; c < 2; c++) {
      centre[c] += (joints[2 * left + c] + joints[2 * right + c]) / 2;
      centre_before[c] += (before[2 * left + c] + before[2 * right + c]) / 2;
    }
  }
  if (pairs < kLeastPairs) return false;
  for (int c = 0; c < 2; c++) centre[c] /= pairs, centre_before[c] /= pairs;
  double plain = 0, exchanged = 0, size = 0;
  int votes = 0;
  for (const auto& [left, right] : pairs_) {
    if (!is_seen(left) || !is_seen(right)) continue;
    const auto distance = [&](int now, int then) {
      double moved[2];
      for (int c = 0; c < 2; c++)
        moved[c] = joints[2 * now + c] - centre[c] - (before[2 * then + c] - centre_before[c]);
      return std::sqrt(moved[0] * moved[0] + moved[1] * moved[1]);  // std::hypot takes five times as long
    };
    const double stays = distance(left, left) + distance(right, right);
    const double crosses = distance(left, right) + distance(right, left);
    plain += stays, exchanged += crosses;
    votes += crosses < kMostShare * stays;
    for (const int j : {left, right}) size += std::hypot(joints[2 * j] - centre[0], joints[2 * j + 1] - centre[1]) / 2;
  }
  return exchanged < kMostShare * plain && plain - exchanged > kLeastGain * size && 2 * votes > pairs;
}

}  // namespace edgepose
