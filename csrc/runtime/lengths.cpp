#include "lengths.h"

#include <stdexcept>
#include <string>

#include "text.h"

namespace edgepose {

namespace {

constexpr double kLeastM = 0.02, kMostM = 1.0;  // from a child's hips to a giant's trunk

}  // namespace

std::vector<double> length_column(const Lengths& lengths_m, const Skeleton& skeleton) {
  std::vector<double> column((std::size_t)skeleton.joints);
  for (std::size_t i = 0; i < kLengthCount; i++) {
    const double length_m = lengths_m[i];
    if (length_m == 0) continue;
    if (!(length_m >= kLeastM && length_m <= kMostM))
      throw std::invalid_argument(std::string("the length ") + kLengths[i].name + " is " + text(length_m)
                                  + "; wanted metres, " + text(kLeastM) + " to " + text(kMostM));
    for (const char* joint : {kLengths[i].joint, kLengths[i].twin})
      if (joint && skeleton.index(joint) >= 0) column[(std::size_t)skeleton.index(joint)] = length_m;
  }
  return column;
}

}  // namespace edgepose
