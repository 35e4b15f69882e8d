// A person's own lengths and the joints at whose `length` column they stand, as edgepose/columns.py has them.
#pragma once

#include <array>
#include <cstddef>
#include <vector>

#include "layouts.h"

namespace edgepose {

struct NamedLength {
  const char *name, *joint, *twin;  // twin: null where there is one joint
};

constexpr NamedLength kLengths[] = {{"upper_arm", "left_elbow", "right_elbow"},
                                    {"forearm", "left_wrist", "right_wrist"},
                                    {"thigh", "left_knee", "right_knee"},
                                    {"shank", "left_ankle", "right_ankle"},
                                    {"shoulder_width", "left_shoulder", "right_shoulder"},
                                    {"hip_width", "left_hip", "right_hip"},
                                    {"trunk", "thorax", nullptr}};
constexpr std::size_t kLengthCount = sizeof kLengths / sizeof *kLengths;
using Lengths = std::array<double, kLengthCount>;  // m, in the order of kLengths; 0: not known

// The `length` column of a skeleton, (J,) m; 0 where no length stands or it is not known. Throws std::invalid_argument,
// naming the length, for one that no person has.
std::vector<double> length_column(const Lengths& lengths_m, const Skeleton& skeleton);

}  // namespace edgepose
