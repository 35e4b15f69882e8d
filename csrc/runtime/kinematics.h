// Rotations, joint angles, centre of mass and speeds of a person's poses.
#pragma once

#include <array>
#include <cstddef>
#include <vector>

#include "layouts.h"

namespace edgepose {

// An angle, in degrees from `least` to `most`.
struct AngleName {
  const char* name;
  double least, most;
};

// The pelvis in the axes of the camera, upright and facing it, and the trunk in the pelvis: turns about z (to the
// right), x (forward) and y (up), in this order. Hips: the same in the pelvis, positive in flexion, adduction and
// internal rotation (Wu et al., J. Biomechanics 35, 2002). Shoulders: plane of elevation (0 abduction, 90 forward
// flexion), elevation and internal rotation of the upper arm in the trunk, turns about y, x and y (Wu et al., J.
// Biomechanics 38, 2005); `arm` is the same arm by turns about z, x and y, as OpenSim's models have it. Knees and
// elbows: flexion.
inline constexpr AngleName kAngles[] = {
    {"pelvis_tilt", -180, 180},          {"pelvis_list", -90, 90},
    {"pelvis_rotation", -180, 180},      {"trunk_extension", -180, 180},
    {"trunk_bending", -90, 90},          {"trunk_rotation", -180, 180},
    {"left_hip_flexion", -180, 180},     {"left_hip_adduction", -90, 90},
    {"left_hip_rotation", -180, 180},    {"left_knee_flexion", 0, 180},
    {"left_shoulder_plane", -180, 180},  {"left_shoulder_elevation", 0, 180},
    {"left_shoulder_rotation", -180, 180}, {"left_arm_flexion", -180, 180},
    {"left_arm_adduction", -90, 90},     {"left_arm_rotation", -180, 180},
    {"left_elbow_flexion", 0, 180},      {"right_hip_flexion", -180, 180},
    {"right_hip_adduction", -90, 90},    {"right_hip_rotation", -180, 180},
    {"right_knee_flexion", 0, 180},      {"right_shoulder_plane", -180, 180},
    {"right_shoulder_elevation", 0, 180}, {"right_shoulder_rotation", -180, 180},
    {"right_arm_flexion", -180, 180},    {"right_arm_adduction", -90, 90},
    {"right_arm_rotation", -180, 180},   {"right_elbow_flexion", 0, 180}};
inline constexpr std::size_t kAngleCount = sizeof kAngles / sizeof *kAngles;

// A moment of a person. Arrays belong to the Kinematics.
struct Movement {
  // (J, 4), w, x, y, z: the rotation of the bone that ends in each joint, in that of the bone before it; of the root:
  // of the pelvis in camera axes. All are (1, 0, 0, 0) while the person stands upright, faces the camera and has the
  // arms stretched out sideways. A joint lies at its parent plus the product of the rotations from the root to it,
  // times its rest direction, times the bone's length.
  std::vector<double> rotations;
  std::array<double, kAngleCount> angles_deg{};
  std::vector<double> velocity_m_s;  // (J, 3), low-passed; 0 in the first pose
  std::array<double, 3> centre_of_mass_m{};  // from the root
};

// One person's poses over time. Two points do not show how a bone is turned about itself, so thighs and upper arms are
// turned as their knees and elbows bend; where these are nearly straight, by as much as before.
class Kinematics {
 public:
  // Throws std::invalid_argument for a skeleton that lacks a joint of h36m16.
  explicit Kinematics(const Skeleton& skeleton);

  void reset();

  // Takes a pose, (J, 3) m from the root. root_m: where the root is; null: unknown, speeds are then from the root.
  // After an earlier time the past is forgotten.
  const Movement& operator()(const float* joints_m, const double* root_m, double timestamp_s);

  // (J, 3): the direction of each bone at rest, in camera axes; 0 for the root.
  const std::vector<double>& rest() const { return rest_; }

 private:
  enum Joint { pelvis, spine, thorax, head, hip, knee, ankle, shoulder, elbow, wrist };

  const float* joint(int which, int side = 0) const;
  void turn_bones();
  void turn_limb(int side, bool is_arm, const std::array<double, 9>& trunk);
  void move(const double* root_m, double timestamp_s);
  void weigh();

  const std::vector<int> parents_;
  int at_[4], limbs_[2][6];  // joints; limbs_: left and right hip, knee, ankle, shoulder, elbow, wrist
  std::vector<double> rest_, body_rest_;
  std::vector<std::array<double, 9>> bones_;  // (J): rotation matrices from the body's axes to the camera's
  std::vector<int> order_;
  const float* joints_m_ = nullptr;
  double twist_[2][2] = {}, plane_[2] = {};  // each side's thigh and upper arm, as last seen
  std::vector<double> last_m_;
  double last_s_ = 0;
  bool has_last_ = false, had_root_ = false, has_speed_ = false;
  Movement movement_;
};

}  // namespace edgepose
