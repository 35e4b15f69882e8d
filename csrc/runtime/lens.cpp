#include "lens.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <string>

#include "keypoints.h"
#include "text.h"

namespace edgepose {

namespace {

// Distance of the principal point from the middle, in sides of the picture. Lenses are centred within a few per cent;
// the intrinsics of another resolution are off by more.
constexpr double kMostOffCentre = 0.25;
constexpr int kMostSteps = 30;
constexpr double kLeastStep = 1e-12;  // slope; below it Newton's method has arrived

}  // namespace

void check_lens(double fx, double fy, double cx, double cy) {
  if (fx > 0 && fx < HUGE_VAL && fy > 0 && fy < HUGE_VAL && std::isfinite(cx) && std::isfinite(cy)) return;
  throw std::invalid_argument("fx, fy, cx, cy are " + text(fx) + ", " + text(fy) + ", " + text(cx) + ", " + text(cy)
                              + "; wanted four finite numbers of pixels, fx and fy positive");
}

Lens::Lens(double fx, double fy, double cx, double cy, const Distortion& distortion, double width_px, double height_px)
    : fx_(fx),
      fy_(fy),
      cx_(cx),
      cy_(cy),
      k_(distortion),
      is_distorted_(distortion != Distortion{}),
      is_off_centre_(fx != 0
                     && (std::fabs(cx / width_px - 0.5) > kMostOffCentre
                         || std::fabs(cy / height_px - 0.5) > kMostOffCentre)) {
  if (fx != 0 || fy != 0 || cx != 0 || cy != 0) {
    const bool is_lens = fx >= 1 && fx <= kMostPx && fy >= 1 && fy <= kMostPx && std::fabs(cx) <= kMostPx
                         && std::fabs(cy) <= kMostPx;
    if (!is_lens)
      throw std::invalid_argument("fx, fy, cx, cy are " + text(fx) + ", " + text(fy) + ", " + text(cx) + ", " + text(cy)
                                  + "; wanted four finite numbers of pixels, fx and fy from 1 to " + text(kMostPx)
                                  + ", cx and cy at most that far from 0");
    if (cx < 0 || cx > width_px || cy < 0 || cy > height_px)
      throw std::invalid_argument("the lens is centred at (" + text(cx) + ", " + text(cy)
                                  + ") px, outside the picture of " + text(width_px) + " x " + text(height_px)
                                  + ": these intrinsics are those of another picture");
  } else if (is_distorted_) {
    throw std::invalid_argument("the distortion is known and the lens is not; wanted both");
  }
  for (const double k : k_)
    if (!std::isfinite(k))
      throw std::invalid_argument("a distortion coefficient is " + text(k) + "; wanted finite numbers");
}

struct Lens::Shift {
  double x, y, x_by_x, x_by_y, y_by_x, y_by_y;
};

Lens::Shift Lens::distorted(double x, double y) const {
  const auto [k1, k2, p1, p2, k3, k4, k5, k6] = k_;
  const double r2 = x * x + y * y;
  const double above = 1 + r2 * (k1 + r2 * (k2 + r2 * k3)), below = 1 + r2 * (k4 + r2 * (k5 + r2 * k6));
  const double radial = above / below;
  const double by_r2 = ((k1 + r2 * (2 * k2 + r2 * 3 * k3)) - radial * (k4 + r2 * (2 * k5 + r2 * 3 * k6))) / below;
  return {x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x),
          y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y,
          radial + 2 * x * x * by_r2 + 2 * p1 * y + 6 * p2 * x,
          2 * x * y * by_r2 + 2 * p1 * x + 2 * p2 * y,
          2 * x * y * by_r2 + 2 * p1 * x + 2 * p2 * y,
          radial + 2 * y * y * by_r2 + 6 * p1 * y + 2 * p2 * x};
}

bool Lens::undistort(double* xy_px) const {
  const double wanted[2] = {(xy_px[0] - cx_) / fx_, (xy_px[1] - cy_) / fy_};
  double x = wanted[0], y = wanted[1];
  for (int step = 0; step < kMostSteps; step++) {
    const Shift at = distorted(x, y);
    const double determinant = at.x_by_x * at.y_by_y - at.x_by_y * at.y_by_x;
    if (!(determinant > 0)) return false;  // the picture would be folded here
    const double off[2] = {at.x - wanted[0], at.y - wanted[1]};
    const double dx = (at.y_by_y * off[0] - at.x_by_y * off[1]) / determinant;
    const double dy = (at.x_by_x * off[1] - at.y_by_x * off[0]) / determinant;
    x -= dx, y -= dy;
    if (std::fabs(dx) + std::fabs(dy) < kLeastStep * (1 + std::fabs(x) + std::fabs(y))) {
      xy_px[0] = x * fx_ + cx_, xy_px[1] = y * fy_ + cy_;
      return true;
    }
  }
  return false;
}

}  // namespace edgepose
