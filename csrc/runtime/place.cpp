#include "place.h"

#include <cmath>
#include <stdexcept>
#include <string>

#include "text.h"

namespace edgepose {

namespace {

constexpr double kLeastSpread = 1e-9;  // root mean square spread of the rays' slopes; less is one point

// One axis of the picture: with slope s and offset r = s z - x of each joint, t - s tz = r.
struct Axis {
  double weight = 0, slope = 0, offset = 0;  // sum of the weights, and weighted means
  double spread = 0, product = 0;            // sums of squares and products of the deviations from them
};

}  // namespace

template <class Real>
std::array<double, 3> root_translation(const Real* joints_m, const Real* keypoints, const Real* confidence,
                                       std::size_t joints, double fx, double fy, double cx, double cy) {
  const double focal[2] = {fx, fy}, centre[2] = {cx, cy};
  if (!(fx > 0 && fx < HUGE_VAL && fy > 0 && fy < HUGE_VAL && std::isfinite(cx) && std::isfinite(cy)))
    throw std::invalid_argument("fx, fy, cx, cy are " + text(fx) + ", " + text(fy) + ", " + text(cx) + ", " + text(cy)
                                + "; wanted four finite numbers, fx and fy positive");
  Axis axes[2];
  std::size_t used = 0;
  const auto each = [&](auto look) {
    for (std::size_t j = 0; j < joints; j++) {
      if (!(confidence[j] > 0)) continue;
      for (int c = 0; c < 2; c++) {
        const double slope = ((double)keypoints[2 * j + (std::size_t)c] - centre[c]) / focal[c];
        const double offset = slope * (double)joints_m[3 * j + 2] - (double)joints_m[3 * j + (std::size_t)c];
        look(axes[c], (double)confidence[j] * focal[c] * focal[c], slope, offset);
      }
    }
  };
  each([&](Axis& axis, double weight, double slope, double offset) {
    if (!std::isfinite(slope) || !std::isfinite(offset))
      throw std::invalid_argument("the pose or its keypoints are NaN or infinite in a joint with a confidence above 0");
    axis.weight += weight, axis.slope += weight * slope, axis.offset += weight * offset;
    used += &axis == axes;
  });
  for (Axis& axis : axes) axis.slope /= axis.weight, axis.offset /= axis.weight;
  each([&](Axis& axis, double weight, double slope, double offset) {
    axis.spread += weight * (slope - axis.slope) * (slope - axis.slope);
    axis.product += weight * (slope - axis.slope) * (offset - axis.offset);
  });
  const double spread = axes[0].spread + axes[1].spread, weight = axes[0].weight + axes[1].weight;
  if (!(spread > kLeastSpread * kLeastSpread * weight))
    throw std::invalid_argument(std::to_string(used) + " joints with a confidence above 0 do not determine the place "
                                "of the root; wanted at least 2 that are apart in the picture");
  const double z = -(axes[0].product + axes[1].product) / spread;
  return {axes[0].offset + axes[0].slope * z, axes[1].offset + axes[1].slope * z, z};
}

template std::array<double, 3> root_translation(const float*, const float*, const float*, std::size_t, double, double,
                                                double, double);
template std::array<double, 3> root_translation(const double*, const double*, const double*, std::size_t, double,
                                                double, double, double);

}  // namespace edgepose
