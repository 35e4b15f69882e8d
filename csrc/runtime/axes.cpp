#include "axes.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <string>

#include "text.h"

namespace edgepose {

namespace {

// The height of an ankle above the sole: Winter, Biomechanics and Motor Control of Human Movement, 2009, figure 4.1
// (0.039 of a standing height) of somebody of 1.75 m.
constexpr double kAnkleM = 0.07;
constexpr double kLeastLevel = 0.05;   // part of the camera's direction that must be level
constexpr double kRotationError = 1e-3;  // what rounding may cost a rotation
// The slope of the floor counts as much by how people stand as by ankles this far apart: people lean by some 5 degrees,
// and an ankle's place is good to a few cm.
constexpr double kUprightM = 0.5;

double dot(const double* a, const double* b) { return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]; }

std::array<double, 3> unit(const double* a, const char* name) {
  const double size = std::hypot(a[0], a[1], a[2]);
  if (!(size > 0 && size < HUGE_VAL))
    throw std::invalid_argument(std::string(name) + " is (" + text(a[0]) + ", " + text(a[1]) + ", " + text(a[2])
                                + "); wanted where it points: three finite numbers, not all 0");
  return {a[0] / size, a[1] / size, a[2] / size};
}

// Level axes below a camera that is height_m above them.
Axes above_floor(const std::array<double, 3>& up, double height_m) {
  const double forward = up[2];  // the part of the camera's direction (0, 0, 1) along `up`
  double x[3] = {-forward * up[0], -forward * up[1], 1 - forward * up[2]};
  const double size = std::hypot(x[0], x[1], x[2]);
  if (!(size > kLeastLevel))
    throw std::invalid_argument("the camera looks straight up or down, so its forward direction has no level part; "
                                "wanted a camera pose: rotation and translation");
  for (double& part : x) part /= size;
  const double y[3] = {up[1] * x[2] - up[2] * x[1], up[2] * x[0] - up[0] * x[2], up[0] * x[1] - up[1] * x[0]};
  return {{x[0], x[1], x[2], y[0], y[1], y[2], up[0], up[1], up[2]}, {0, 0, height_m}};
}

}  // namespace

template <class Real>
void Axes::move(Real* points, std::size_t count, bool is_relative) const {
  for (std::size_t i = 0; i < count; i++, points += 3) {
    const double p[3] = {(double)points[0], (double)points[1], (double)points[2]};
    for (std::size_t c = 0; c < 3; c++)
      points[c] = (Real)(dot(rotation.data() + 3 * c, p) + (is_relative ? 0 : origin[c]));
  }
}

template void Axes::move(float*, std::size_t, bool) const;
template void Axes::move(double*, std::size_t, bool) const;

Axes axes_named(const char* name) {
  const std::string asked = name;
  if (asked == "camera" || asked == "opencv" || asked == "ros_optical") return {};
  if (asked == "ros_body") return {{0, 0, 1, -1, 0, 0, 0, -1, 0}, {}};
  if (asked == "y_up") return {{1, 0, 0, 0, -1, 0, 0, 0, -1}, {}};
  throw std::invalid_argument("there are no axes '" + asked
                              + "'; wanted camera, opencv, ros_optical, ros_body or y_up");
}

Axes axes_of_camera(const double* rotation, const double* translation) {
  Axes axes;
  for (std::size_t r = 0; r < 3; r++)
    for (std::size_t c = 0; c < 3; c++) axes.rotation[3 * r + c] = rotation[3 * c + r];
  const double* m = axes.rotation.data();
  double off = 0;
  for (std::size_t r = 0; r < 3; r++)
    for (std::size_t c = 0; c < 3; c++) off = std::fmax(off, std::fabs(dot(m + 3 * r, m + 3 * c) - (r == c)));
  const double determinant = m[0] * (m[4] * m[8] - m[5] * m[7]) - m[1] * (m[3] * m[8] - m[5] * m[6])
                             + m[2] * (m[3] * m[7] - m[4] * m[6]);
  const bool is_place = std::isfinite(translation[0]) && std::isfinite(translation[1]) && std::isfinite(translation[2]);
  if (!(off <= kRotationError && determinant > 0 && is_place))
    throw std::invalid_argument("the camera's pose is no rotation and translation (columns off by " + text(off)
                                + ", determinant " + text(determinant)
                                + "); wanted p_camera = rotation * p_world + translation");
  for (std::size_t c = 0; c < 3; c++) axes.origin[c] = -dot(m + 3 * c, translation);
  return axes;
}

Axes axes_of_gravity(const double* gravity, double height_m) {
  std::array<double, 3> up = unit(gravity, "gravity");
  for (double& part : up) part = -part;
  if (!std::isfinite(height_m))
    throw std::invalid_argument("height_m is " + text(height_m) + "; wanted the camera's height above the origin");
  return above_floor(up, height_m);
}

Floor::Floor(const Skeleton& skeleton, const double* gravity)
    : ankles_{skeleton.index("left_ankle"), skeleton.index("right_ankle")}, thorax_(skeleton.index("thorax")) {
  if (ankles_[0] < 0 || ankles_[1] < 0 || thorax_ < 0)
    throw std::invalid_argument("skeleton '" + skeleton.name + "' has no ankles or no thorax; a floor needs both");
  has_gravity_ = gravity;
  if (gravity) gravity_ = unit(gravity, "gravity");
  reset();
}

void Floor::reset() {
  count_ = 0;
  std::fill(upright_, upright_ + 3, 0.0);
  std::fill(mean_, mean_ + 3, 0.0);
  std::fill(square_, square_ + 9, 0.0);
}

void Floor::add(const float* joints_m, const double* root_m) {
  double ankle[2][3], direction[3];
  for (std::size_t c = 0; c < 3; c++) {
    for (int side = 0; side < 2; side++)
      ankle[side][c] = (double)joints_m[3 * (std::size_t)ankles_[side] + c] + root_m[c];
    direction[c] = (double)joints_m[3 * (std::size_t)thorax_ + c] + root_m[c] - 0.5 * (ankle[0][c] + ankle[1][c]);
  }
  const double size = std::hypot(direction[0], direction[1], direction[2]);
  if (!(size > 0 && size < HUGE_VAL)) return;
  for (std::size_t c = 0; c < 3; c++) upright_[c] += direction[c] / size;
  const double down[3] = {-upright_[0], -upright_[1], -upright_[2]};
  const double* below = has_gravity_ ? gravity_.data() : down;
  const double* lower = dot(ankle[0], below) > dot(ankle[1], below) ? ankle[0] : ankle[1];
  count_++;
  for (std::size_t r = 0; r < 3; r++) {
    mean_[r] += (lower[r] - mean_[r]) / count_;
    for (std::size_t c = 0; c < 3; c++) square_[3 * r + c] += (lower[r] * lower[c] - square_[3 * r + c]) / count_;
  }
}

Axes Floor::axes() const {
  if (count_ == 0) throw std::invalid_argument("no pose has shown the floor yet; wanted poses with their place first");
  std::array<double, 3> up;
  if (has_gravity_) {
    up = {-gravity_[0], -gravity_[1], -gravity_[2]};
  } else {
    up = unit(upright_, "the upright direction");
    // The plane n p = h with n = up + a e + b f nearest to the ankles, where a and b cost as much as ankles that are
    // kUprightM apart would: two equations.
    const double any[3] = {std::fabs(up[0]) < 0.5 ? 1.0 : 0.0, std::fabs(up[0]) < 0.5 ? 0.0 : 1.0, 0};
    const double part = dot(any, up.data());
    const double across[3] = {any[0] - part * up[0], any[1] - part * up[1], any[2] - part * up[2]};
    const std::array<double, 3> e = unit(across, "a direction across");
    const double f[3] = {up[1] * e[2] - up[2] * e[1], up[2] * e[0] - up[0] * e[2], up[0] * e[1] - up[1] * e[0]};
    const auto spread = [&](const double* a, const double* b) {
      double sum = 0;
      for (std::size_t r = 0; r < 3; r++)
        for (std::size_t c = 0; c < 3; c++) sum += a[r] * b[c] * (square_[3 * r + c] - mean_[r] * mean_[c]);
      return sum;
    };
    const double ee = spread(e.data(), e.data()) + kUprightM * kUprightM, ff = spread(f, f) + kUprightM * kUprightM;
    const double ef = spread(e.data(), f), eu = spread(e.data(), up.data()), fu = spread(f, up.data());
    const double determinant = ee * ff - ef * ef;
    const double a = (ef * fu - ff * eu) / determinant, b = (ef * eu - ee * fu) / determinant;
    const double normal[3] = {up[0] + a * e[0] + b * f[0], up[1] + a * e[1] + b * f[1], up[2] + a * e[2] + b * f[2]};
    up = unit(normal, "the floor's normal");
  }
  return above_floor(up, kAnkleM - dot(up.data(), mean_));
}

}  // namespace edgepose
