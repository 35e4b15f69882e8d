#include "bones.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>

namespace edgepose {

namespace {

constexpr double kMostStep = 0.1;       // logarithm: a bone that is off by more counts as if by this
constexpr double kFreePoses = 20;       // poses after which that bound holds; it is wider before
constexpr double kMostCount = 1000;     // poses; later ones count as much as one of so many
constexpr double kMostPauseS = 0.1;     // between two poses; a longer pause is no time of learning
constexpr double kDepthWeight = 0.17;   // depth beside x and y: on real recordings its error is 2.4 times theirs
constexpr int kSteps = 4;
constexpr double kLeastM = 1e-6;
// Sum of a thigh, a shank and the trunk over the height: HEIGHT_PARTS in edgepose/columns.py.
constexpr double kHeightPart = 0.233 + 0.253 + 0.296;

}  // namespace

Bones::Bones(const Skeleton& skeleton, const Lengths& known_m) {
  const auto twin_of = [&](const std::string& name) {
    return name.rfind("right_", 0) == 0 ? skeleton.index("left_" + name.substr(6)) : -1;
  };
  std::vector<int> length_of((std::size_t)skeleton.joints, -1);
  for (int j = 0; j < skeleton.joints; j++) {
    if (skeleton.parents[(std::size_t)j] < 0) continue;
    const int twin = twin_of(skeleton.names[(std::size_t)j]);
    if (twin >= 0) continue;
    length_of[(std::size_t)j] = (int)lengths_.size();
    lengths_.push_back({});
  }
  for (int j = 0; j < skeleton.joints; j++) {
    const int twin = twin_of(skeleton.names[(std::size_t)j]);
    if (twin >= 0) length_of[(std::size_t)j] = length_of[(std::size_t)twin];
  }
  std::vector<int> depth((std::size_t)skeleton.joints);
  for (int j = 0; j < skeleton.joints; j++)
    for (int k = skeleton.parents[(std::size_t)j]; k >= 0; k = skeleton.parents[(std::size_t)k])
      depth[(std::size_t)j]++;
  std::vector<int> order;
  for (int j = 0; j < skeleton.joints; j++)
    if (skeleton.parents[(std::size_t)j] >= 0) order.push_back(j);
  std::stable_sort(order.begin(), order.end(),
                   [&](int a, int b) { return depth[(std::size_t)a] < depth[(std::size_t)b]; });
  for (const int j : order)
    bones_.push_back({(std::size_t)j, (std::size_t)skeleton.parents[(std::size_t)j],
                      (std::size_t)length_of[(std::size_t)j]});
  const auto length_named = [&](const char* joint) { return length_of[(std::size_t)skeleton.index(joint)]; };
  for (std::size_t i = 0; i < kLengthCount; i++) {
    const bool is_bone = kLengths[i].bones > 0 && skeleton.index(kLengths[i].joint) >= 0;
    if (known_m[i] == 0 || !is_bone) continue;
    Length& length = lengths_[(std::size_t)length_named(kLengths[i].joint)];
    length.learnt = length.used = std::log(known_m[i] / kLengths[i].bones);
    length.count = 1, length.is_known = true;
  }
  for (const char* joint : {"left_knee", "left_ankle"})
    if (skeleton.index(joint) >= 0) thigh_shank_.push_back((std::size_t)length_named(joint));
  for (int j = skeleton.index("thorax"); j >= 0 && skeleton.parents[(std::size_t)j] >= 0;
       j = skeleton.parents[(std::size_t)j])
    trunk_.push_back((std::size_t)length_of[(std::size_t)j]);
  start_ = lengths_;
  was_.resize(3 * (std::size_t)skeleton.joints);
}

void Bones::reset() {
  lengths_ = start_;
  learnt_s_ = 0, has_time_ = false;
}

void Bones::learn(const float* joints_m, const unsigned char* is_seen, double timestamp_s) {
  const double passed_s = has_time_ ? std::clamp(timestamp_s - last_s_, 0.0, kMostPauseS) : 0.0;
  has_time_ = true, last_s_ = timestamp_s;
  bool any = false;
  for (const Bone& bone : bones_) {
    Length& length = lengths_[bone.length];
    if (length.is_known || (is_seen && !(is_seen[bone.joint] && is_seen[bone.parent]))) continue;
    const float *a = joints_m + 3 * bone.joint, *b = joints_m + 3 * bone.parent;
    const double m = std::hypot((double)a[0] - b[0], (double)a[1] - b[1], (double)a[2] - b[2]);
    if (!(m > kLeastM && m < HUGE_VAL)) continue;
    const double step = std::log(m) - length.learnt;
    length.count = std::min(length.count + 1, kMostCount);
    // The first poses may be odd: they are free to correct each other.
    const double most = kMostStep * std::max(1.0, kFreePoses / length.count);
    length.learnt += (length.count > 1 ? std::clamp(step, -most, most) : step) / length.count;
    any = true;
  }
  const double most = learnt_s_ < kLearnS ? HUGE_VAL : kMostDriftPerS * passed_s;
  for (Length& length : lengths_) {
    const bool is_new = length.used == 0 && length.count > 0;
    length.used += is_new ? length.learnt : std::clamp(length.learnt - length.used, -most, most);
  }
  if (any) learnt_s_ += passed_s;
}

void Bones::settle() {
  for (Length& length : lengths_) length.used = length.learnt;
  learnt_s_ = kLearnS;
}

void Bones::project(float* joints_m, double size) {
  constexpr double kBy[3] = {1, 1, 1 / kDepthWeight};
  std::copy(joints_m, joints_m + was_.size(), was_.begin());
  for (const Bone& bone : bones_) {
    const float *from = was_.data() + 3 * bone.joint, *old = was_.data() + 3 * bone.parent;
    float *to = joints_m + 3 * bone.joint, *parent = joints_m + 3 * bone.parent;
    const Length& length = lengths_[bone.length];
    if (length.count == 0) {
      for (int c = 0; c < 3; c++) to[c] = (float)(parent[c] + size * (from[c] - old[c]));
      continue;
    }
    const double wanted_m = std::exp(length.used) * (length.is_known ? 1 : size);
    // Half way between where the joint was and where its bone pointed: so errors neither add up nor turn bones.
    double v[3];
    for (int c = 0; c < 3; c++) v[c] = size * from[c] - 0.5 * (size * old[c] + parent[c]);
    double m = std::hypot(v[0], v[1], v[2]);
    if (!(m > kLeastM)) v[1] = m = 1;  // a bone without direction hangs down
    for (int step = 0; step < kSteps; step++) {
      double gain = 0;
      for (int c = 0; c < 3; c++) gain += v[c] * v[c] / (m * m) * kBy[c];
      const double by = (wanted_m - m) / (gain * m);
      for (int c = 0; c < 3; c++) v[c] += by * v[c] * kBy[c];
      m = std::hypot(v[0], v[1], v[2]);
    }
    for (int c = 0; c < 3; c++) to[c] = (float)(parent[c] + v[c] * (wanted_m / m));
  }
}

double Bones::height_m() const {
  double sum = 0;
  for (const auto* some : {&thigh_shank_, &trunk_}) {
    if (some->empty()) return 0;
    for (const std::size_t i : *some) {
      if (lengths_[i].count == 0) return 0;
      sum += std::exp(lengths_[i].used);
    }
  }
  return sum / kHeightPart;
}

void hold_bones(const Skeleton& skeleton, const Lengths& known_m, float* joints_m, std::size_t frames) {
  const std::size_t joints = (std::size_t)skeleton.joints, width = 3 * joints;
  // A pose that is stretched out along x, whose bones have the median lengths of all poses, left and right together.
  std::vector<float> stretched(width);
  std::vector<double> lengths;
  const auto add_lengths = [&](std::size_t j) {
    for (std::size_t i = 0; i < frames; i++) {
      const float* a = joints_m + i * width + 3 * j;
      const float* b = joints_m + i * width + 3 * (std::size_t)skeleton.parents[j];
      const double m = std::hypot((double)a[0] - b[0], (double)a[1] - b[1], (double)a[2] - b[2]);
      if (m > kLeastM && m < HUGE_VAL) lengths.push_back(m);
    }
  };
  const auto median_of = [&](std::size_t j) {
    lengths.clear();
    add_lengths(j);
    const std::string& name = skeleton.names[j];
    for (const auto& [side, other] : {std::pair{"left_", "right_"}, std::pair{"right_", "left_"}})
      if (name.rfind(side, 0) == 0) {
        const int twin = skeleton.index(other + name.substr(std::string(side).size()));
        if (twin >= 0) add_lengths((std::size_t)twin);
      }
    if (lengths.empty()) return 0.0;
    const auto middle = lengths.begin() + (std::ptrdiff_t)(lengths.size() / 2);
    std::nth_element(lengths.begin(), middle, lengths.end());
    return *middle;
  };
  const auto x_of = [&](auto self, std::size_t j) -> double {
    return skeleton.parents[j] < 0 ? 0.0 : median_of(j) + self(self, (std::size_t)skeleton.parents[j]);
  };
  for (std::size_t j = 0; j < joints; j++) stretched[3 * j] = (float)x_of(x_of, j);
  Bones bones(skeleton, known_m);
  bones.learn(stretched.data(), nullptr, 0);
  bones.settle();
  for (std::size_t i = 0; i < frames; i++) bones.project(joints_m + i * width, 1);
}

}  // namespace edgepose
