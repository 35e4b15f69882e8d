// A camera's lens: rays of pixels, and pixels without the lens's distortion.
#pragma once

#include <array>
#include <cstddef>

namespace edgepose {

constexpr std::size_t kDistortions = 8;
using Distortion = std::array<double, kDistortions>;  // OpenCV's k1, k2, p1, p2, k3, k4, k5, k6; all 0: none

// The rational model with tangential terms: OpenCV's documentation, "Camera Calibration and 3D Reconstruction".
class Lens {
 public:
  // fx, fy, cx, cy: px; all 0: unknown. Throws std::invalid_argument for an impossible lens, a principal point outside
  // the picture, numbers that are not finite, and distortion of an unknown lens.
  Lens(double fx, double fy, double cx, double cy, const Distortion& distortion, double width_px, double height_px);

  bool is_known() const { return fx_ != 0; }
  bool is_distorted() const { return is_distorted_; }

  // Whether the principal point lies where that of another picture's lens would: far from the middle.
  bool is_off_centre() const { return is_off_centre_; }

  // Moves a pixel to where a lens without distortion would show it. False, and unchanged, where the distortion has no
  // inverse.
  bool undistort(double* xy_px) const;

 private:
  struct Shift;  // a distorted slope and its derivatives
  Shift distorted(double x, double y) const;

  const double fx_, fy_, cx_, cy_;
  const Distortion k_;
  const bool is_distorted_, is_off_centre_;
};

// Throws std::invalid_argument for an impossible lens.
void check_lens(double fx, double fy, double cx, double cy);

}  // namespace edgepose
