// A person's body lengths, and the joints that carry them in the `length` column, as in edgepose/columns.py.
#pragma once

#include <array>
#include <cstddef>
#include <vector>

#include "layouts.h"

namespace edgepose {

struct NamedLength {
  const char *name, *joint, *twin;  // twin: the joint on the other side; null if there is none
  int bones;                        // the bones to such joints that make up the length; 0: it is none of bones
};

constexpr NamedLength kLengths[] = {{"upper_arm", "left_elbow", "right_elbow", 1},
                                    {"forearm", "left_wrist", "right_wrist", 1},
                                    {"thigh", "left_knee", "right_knee", 1},
                                    {"shank", "left_ankle", "right_ankle", 1},
                                    {"shoulder_width", "left_shoulder", "right_shoulder", 0},
                                    {"hip_width", "left_hip", "right_hip", 2},
                                    {"trunk", "thorax", nullptr, 0}};
constexpr std::size_t kLengthCount = sizeof kLengths / sizeof *kLengths;
using Lengths = std::array<double, kLengthCount>;  // m, in the order of kLengths; 0: unknown

// The `length` column of a skeleton, (J,) m; 0 where a joint carries no length or it is unknown. Throws
// std::invalid_argument, naming the length, for one that no person has.
std::vector<double> length_column(const Lengths& lengths_m, const Skeleton& skeleton);

}  // namespace edgepose
