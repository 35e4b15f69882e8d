#include "kinematics.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <string>

namespace edgepose {

namespace {

using Vector = std::array<double, 3>;
using Matrix = std::array<double, 9>;  // row after row

constexpr double kDegrees = 57.29577951308232;
constexpr double kStraight = 0.17364817766693033;  // the sine of 10 degrees: less bend shows no turn of the bone above
constexpr double kSpeedCutoffHz = 5.0;
constexpr double kTwoPi = 6.283185307179586;
// The axes of somebody at rest, who faces the camera, in camera axes: x forward, y up, z to their right.
constexpr Matrix kRest = {0, 0, -1, 0, -1, 0, -1, 0, 0};

// Parts of the body's mass, and how far along from one joint to another their centre lies. Winter, Biomechanics and
// Motor Control of Human Movement, 4th ed. 2009, table 4.1: trunk; head and neck; upper arm; forearm and hand; thigh;
// foot and leg. The head's centre is at the ear, where the model's head is.
constexpr double kTrunk[2] = {0.497, 0.5}, kHead = 0.081, kUpperArm[2] = {0.028, 0.436}, kForearm[2] = {0.022, 0.682},
                 kThigh[2] = {0.1, 0.433}, kShank[2] = {0.061, 0.606};

double dot(const Vector& a, const Vector& b) { return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]; }
double size(const Vector& a) { return std::hypot(a[0], a[1], a[2]); }
Vector cross(const Vector& a, const Vector& b) {
  return {a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]};
}
Vector between(const float* from, const float* to) {
  return {(double)to[0] - from[0], (double)to[1] - from[1], (double)to[2] - from[2]};
}
// At the length 1; `otherwise` where there is no direction.
Vector unit(const Vector& a, const Vector& otherwise) {
  const double m = size(a);
  return m > 1e-9 && m < HUGE_VAL ? Vector{a[0] / m, a[1] / m, a[2] / m} : otherwise;
}

Matrix columns(const Vector& x, const Vector& y, const Vector& z) {
  return {x[0], y[0], z[0], x[1], y[1], z[1], x[2], y[2], z[2]};
}
Vector column(const Matrix& m, std::size_t c) { return {m[c], m[c + 3], m[c + 6]}; }
Matrix turned(const Matrix& m) { return {m[0], m[3], m[6], m[1], m[4], m[7], m[2], m[5], m[8]}; }
Vector times(const Matrix& m, const Vector& v) {
  return {m[0] * v[0] + m[1] * v[1] + m[2] * v[2], m[3] * v[0] + m[4] * v[1] + m[5] * v[2],
          m[6] * v[0] + m[7] * v[1] + m[8] * v[2]};
}
Matrix times(const Matrix& a, const Matrix& b) {
  return columns(times(a, column(b, 0)), times(a, column(b, 1)), times(a, column(b, 2)));
}

// z as it is, y as near to it as may be.
Matrix frame(const Vector& y, const Vector& z) {
  const Vector across = unit(z, {0, 0, 1});
  Vector x = cross(y, across);
  if (!(size(x) > 1e-9)) x = cross(std::fabs(across[1]) < 0.9 ? Vector{0, 1, 0} : Vector{1, 0, 0}, across);
  x = unit(x, {1, 0, 0});
  return columns(x, cross(across, x), across);
}

// The smallest rotation that turns one direction into another.
Matrix swing(const Vector& from, const Vector& to) {
  const Vector axis = cross(from, to);
  const double cosine = dot(from, to);
  if (cosine < -1 + 1e-12) {  // half a turn about any axis across
    const Vector a = unit(cross(from, std::fabs(from[0]) < 0.5 ? Vector{1, 0, 0} : Vector{0, 1, 0}), {0, 0, 1});
    return {2 * a[0] * a[0] - 1, 2 * a[0] * a[1], 2 * a[0] * a[2], 2 * a[1] * a[0], 2 * a[1] * a[1] - 1,
            2 * a[1] * a[2], 2 * a[2] * a[0], 2 * a[2] * a[1], 2 * a[2] * a[2] - 1};
  }
  const double k = 1 / (1 + cosine);
  const auto [x, y, z] = axis;
  return {cosine + k * x * x, k * x * y - z, k * x * z + y, k * x * y + z, cosine + k * y * y, k * y * z - x,
          k * x * z - y, k * y * z + x, cosine + k * z * z};
}

// The angles about z, x and y of m = Rz Rx Ry, in degrees.
void zxy(const Matrix& m, double* degrees) {
  degrees[0] = kDegrees * std::atan2(-m[1], m[4]);
  degrees[1] = kDegrees * std::asin(std::clamp(m[7], -1.0, 1.0));
  degrees[2] = kDegrees * std::atan2(-m[6], m[8]);
}

// As a unit quaternion w, x, y, z, with w >= 0.
void quaternion(const Matrix& m, double* q) {
  const double squares[4] = {1 + m[0] + m[4] + m[8], 1 + m[0] - m[4] - m[8], 1 - m[0] + m[4] - m[8],
                             1 - m[0] - m[4] + m[8]};  // 4 w2, 4 x2, 4 y2, 4 z2
  const double pairs[4][4] = {{squares[0], m[7] - m[5], m[2] - m[6], m[3] - m[1]},
                              {m[7] - m[5], squares[1], m[1] + m[3], m[2] + m[6]},
                              {m[2] - m[6], m[1] + m[3], squares[2], m[5] + m[7]},
                              {m[3] - m[1], m[2] + m[6], m[5] + m[7], squares[3]}};
  const auto most = (std::size_t)(std::max_element(squares, squares + 4) - squares);
  const double by = (pairs[most][0] < 0 ? -0.5 : 0.5) / std::sqrt(squares[most]);
  for (std::size_t i = 0; i < 4; i++) q[i] = by * pairs[most][i];
}

// The direction of the bone that ends in a joint, at rest, in the body's axes.
Vector rest_of(const std::string& joint) {
  const std::string part = joint.substr(joint.find('_') + 1);
  if (part == "knee" || part == "ankle") return {0, -1, 0};
  if (joint.rfind("left_", 0) == 0) return {0, 0, -1};
  if (joint.rfind("right_", 0) == 0) return {0, 0, 1};
  return {0, 1, 0};
}

}  // namespace

Kinematics::Kinematics(const Skeleton& skeleton) : parents_(skeleton.parents) {
  const auto need = [&](const std::string& name) {
    const int joint = skeleton.index(name);
    if (joint < 0)
      throw std::invalid_argument("skeleton '" + skeleton.name + "' has no joint '" + name + "'; joint angles need it");
    return joint;
  };
  const char *middle[] = {"spine", "thorax", "head"}, *parts[] = {"hip", "knee", "ankle", "shoulder", "elbow", "wrist"};
  at_[pelvis] = skeleton.root();
  for (int i = 0; i < 3; i++) at_[i + 1] = need(middle[i]);
  for (int side = 0; side < 2; side++)
    for (int i = 0; i < 6; i++) limbs_[side][i] = need(std::string(side ? "right_" : "left_") + parts[i]);
  const std::size_t joints = (std::size_t)skeleton.joints;
  for (std::size_t j = 0; j < joints; j++) {
    const Vector body = parents_[j] < 0 ? Vector{0, 0, 0} : rest_of(skeleton.names[j]), camera = times(kRest, body);
    body_rest_.insert(body_rest_.end(), body.begin(), body.end());
    rest_.insert(rest_.end(), camera.begin(), camera.end());
    bool is_lower = false;
    for (const auto& limb : limbs_)
      for (const int i : {1, 2, 4, 5}) is_lower = is_lower || limb[i] == (int)j;
    if (parents_[j] >= 0 && !is_lower) order_.push_back((int)j);
  }
  bones_.resize(joints);
  movement_.rotations.resize(4 * joints);
  movement_.velocity_m_s.resize(3 * joints), last_m_.resize(3 * joints);
}

void Kinematics::reset() {
  has_last_ = has_speed_ = false;
  for (int side = 0; side < 2; side++) twist_[side][0] = twist_[side][1] = plane_[side] = 0;
}

const float* Kinematics::joint(int which, int side) const {
  return joints_m_ + 3 * (which < hip ? at_[which] : limbs_[side][which - hip]);
}

const Movement& Kinematics::operator()(const float* joints_m, const double* root_m, double timestamp_s) {
  if (has_last_ && !(timestamp_s > last_s_)) reset();
  joints_m_ = joints_m;
  turn_bones();
  for (std::size_t j = 0; j < bones_.size(); j++) {
    const int parent = parents_[j];
    const Matrix before = parent < 0 ? Matrix{1, 0, 0, 0, 1, 0, 0, 0, 1}
                                     : times(kRest, turned(bones_[(std::size_t)parent]));
    quaternion(times(before, times(bones_[j], kRest)), movement_.rotations.data() + 4 * j);
  }
  weigh();
  move(root_m, timestamp_s);
  return movement_;
}

void Kinematics::turn_bones() {
  const Matrix hips = frame(between(joint(pelvis), joint(spine)), between(joint(hip, 0), joint(hip, 1)));
  const Matrix trunk = frame(between(joint(spine), joint(thorax)), between(joint(shoulder, 0), joint(shoulder, 1)));
  bones_[(std::size_t)at_[pelvis]] = hips;
  for (const int j : order_) {
    const bool is_of_hips = j == at_[spine] || j == limbs_[0][0] || j == limbs_[1][0];
    const Matrix& base = is_of_hips ? hips : trunk;
    const double* rest = body_rest_.data() + 3 * j;
    const Vector start = times(base, Vector{rest[0], rest[1], rest[2]});
    const Vector end = unit(between(joints_m_ + 3 * parents_[(std::size_t)j], joints_m_ + 3 * j), start);
    bones_[(std::size_t)j] = times(swing(start, end), base);
  }
  zxy(times(kRest, hips), movement_.angles_deg.data());
  zxy(times(turned(hips), trunk), movement_.angles_deg.data() + 3);
  for (int side = 0; side < 2; side++) turn_limb(side, false, hips), turn_limb(side, true, trunk);
}

void Kinematics::turn_limb(int side, bool is_arm, const Matrix& trunk) {
  const int top = is_arm ? shoulder : hip, mirror = side ? 1 : -1;
  // The axes of the upper bone at rest, in the body's: x forward, y towards the trunk, z the axis of knee or elbow.
  const Matrix rest = is_arm ? columns({1, 0, 0}, {0, 0, (double)-mirror}, {0, (double)mirror, 0})
                             : Matrix{1, 0, 0, 0, 1, 0, 0, 0, 1};
  const Vector start = times(trunk, Vector{0, is_arm ? 0.0 : -1.0, is_arm ? (double)mirror : 0.0});
  const Vector upper = unit(between(joint(top, side), joint(top + 1, side)), start);
  const Vector lower = unit(between(joint(top + 1, side), joint(top + 2, side)), upper);
  // The upper bone without a turn about itself.
  Matrix straight;
  if (is_arm) {
    straight = times(swing(start, upper), times(trunk, rest));
  } else {
    const Vector in_trunk = times(turned(trunk), upper);
    const double adduction = std::asin(std::clamp(-in_trunk[2], -1.0, 1.0));
    const double flexion = std::atan2(in_trunk[0], -in_trunk[1]);
    const double cf = std::cos(flexion), sf = std::sin(flexion), ca = std::cos(adduction), sa = std::sin(adduction);
    straight = times(trunk, Matrix{cf, -sf * ca, sf * sa, sf, cf * ca, -cf * sa, 0, sa, ca});
  }
  const Vector hinge = is_arm ? cross(upper, lower) : cross(lower, upper);  // elbows bend forward, knees back
  const double sine = size(hinge);
  double& twist = twist_[side][is_arm];
  if (sine > kStraight) twist = std::atan2(dot(hinge, column(straight, 0)), dot(hinge, column(straight, 2)));
  const double c = std::cos(twist), s = std::sin(twist);
  const Matrix bone = times(straight, Matrix{c, 0, s, 0, 1, 0, -s, 0, c});
  const Vector y = {-lower[0], -lower[1], -lower[2]};
  const Vector x = unit(cross(y, column(bone, 2)), column(bone, 0));
  const int* limb = limbs_[side] + (is_arm ? 3 : 0);
  bones_[(std::size_t)limb[1]] = times(bone, turned(rest));
  bones_[(std::size_t)limb[2]] = times(columns(x, y, cross(x, y)), turned(rest));

  Matrix in_trunk = times(turned(trunk), bone);
  if (!side)
    for (const std::size_t i : {2, 5, 6, 7}) in_trunk[i] = -in_trunk[i];  // a left limb as a right one
  double* angles = movement_.angles_deg.data() + 6 + 11 * side + (is_arm ? 4 : 0);
  const double bend = kDegrees * std::atan2(sine, dot(upper, lower));
  if (!is_arm) {
    zxy(in_trunk, angles);
    angles[3] = bend;
    return;
  }
  const double raised = std::hypot(in_trunk[1], in_trunk[7]);  // the sine of the elevation
  double& plane = plane_[side];
  if (raised > kStraight) {
    plane = std::atan2(-in_trunk[1], -in_trunk[7]);
    angles[2] = kDegrees * std::atan2(-in_trunk[3], in_trunk[5]);
  } else {  // the arm hangs down, or is straight up: only the sum of plane and rotation, or their difference, is known
    const double down = in_trunk[4] > 0 ? 1 : -1;
    const double whole = std::atan2(in_trunk[2], in_trunk[0]);
    angles[2] = kDegrees * std::remainder(whole - down * plane, kTwoPi);
  }
  angles[0] = kDegrees * plane;
  angles[1] = kDegrees * std::atan2(raised, in_trunk[4]);
  zxy(in_trunk, angles + 3);
  angles[6] = bend;
}

void Kinematics::weigh() {
  Vector& centre = movement_.centre_of_mass_m;
  centre = {};
  const auto add = [&](double mass, const float* from, const float* to, double along) {
    for (std::size_t c = 0; c < 3; c++) centre[c] += mass * ((1 - along) * from[c] + along * to[c]);
  };
  for (int side = 0; side < 2; side++) {
    add(kTrunk[0] / 2, joint(hip, side), joint(shoulder, side), kTrunk[1]);
    add(kUpperArm[0], joint(shoulder, side), joint(elbow, side), kUpperArm[1]);
    add(kForearm[0], joint(elbow, side), joint(wrist, side), kForearm[1]);
    add(kThigh[0], joint(hip, side), joint(knee, side), kThigh[1]);
    add(kShank[0], joint(knee, side), joint(ankle, side), kShank[1]);
  }
  add(kHead, joint(head), joint(head), 1);
}

void Kinematics::move(const double* root_m, double timestamp_s) {
  const bool is_next = has_last_ && had_root_ == (root_m != nullptr);
  const double passed_s = timestamp_s - last_s_;
  const double part = has_speed_ ? 1 / (1 + 1 / (kTwoPi * kSpeedCutoffHz * passed_s)) : 1;
  for (std::size_t i = 0; i < last_m_.size(); i++) {
    const double now_m = (double)joints_m_[i] + (root_m ? root_m[i % 3] : 0);
    double& speed = movement_.velocity_m_s[i];
    speed = is_next ? speed + part * ((now_m - last_m_[i]) / passed_s - speed) : 0;
    last_m_[i] = now_m;
  }
  last_s_ = timestamp_s, has_last_ = true, had_root_ = root_m != nullptr, has_speed_ = is_next;
}

}  // namespace edgepose
