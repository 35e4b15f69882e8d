#include "doubts.h"

#include <algorithm>
#include <cstdio>

#include "text.h"

namespace edgepose {

namespace {

constexpr int kSpacings = 10;          // the number of frame spacings that show the unit of the times
// No camera's frames are further apart; frame numbers are 1 apart, milliseconds more.
constexpr double kSlowestS = 1.0;
constexpr int kFrames = 51;            // number of frames judged together
constexpr double kMostOutside = 0.5;   // share of the keypoints; if more lie outside the picture, its size is wrong
constexpr double kLying = 2.0;         // lying: the head's distance to the left of the ankles over its vertical one
constexpr double kAlwaysLying = 0.9;   // share of the frames
constexpr double kSeen = 0.3;          // least confidence of all joints where proportions are judged

// Limits of a part's length in the picture, over the longer side of the box around all joints, median over a second.
// One window in a thousand of motion capture exceeds them, through any camera and with a detector's errors:
// python -m edgepose.training.proportions --motion DIR
struct Part {
  const char* name;
  double limit;
  const char* ends[2];
};
constexpr Part kParts[] = {
    {"the trunk is", 0.65, {"pelvis", "thorax"}},
    {"the shoulders are", 0.73, {"left_shoulder", "right_shoulder"}},
    {"the hips are", 0.46, {"left_hip", "right_hip"}},
    {"the left upper arm is", 0.44, {"left_shoulder", "left_elbow"}},
    {"the right upper arm is", 0.44, {"right_shoulder", "right_elbow"}},
    {"the left forearm is", 0.69, {"left_elbow", "left_wrist"}},
    {"the right forearm is", 0.69, {"right_elbow", "right_wrist"}},
    {"the left thigh is", 0.57, {"left_hip", "left_knee"}},
    {"the right thigh is", 0.57, {"right_hip", "right_knee"}},
    {"the left shank is", 0.58, {"left_knee", "left_ankle"}},
    {"the right shank is", 0.58, {"right_knee", "right_ankle"}},
    {"the head is", 0.40, {"thorax", "head"}},
};

std::string rounded(double value, int digits) {
  char buffer[32];
  std::snprintf(buffer, sizeof buffer, "%.*f", digits, value);
  return buffer;
}

}  // namespace

Doubts::Doubts(const Skeleton& skeleton, const Picture& picture)
    : picture_(picture),
      joints_(skeleton.joints),
      head_(skeleton.index("head")),
      ankles_{skeleton.index("left_ankle"), skeleton.index("right_ankle")} {
  int part = 0;
  for (const Part& of : kParts) {
    const int a = skeleton.index(of.ends[0]), b = skeleton.index(of.ends[1]);
    if (a >= 0 && b >= 0) bones_.push_back({part, a, b});
    part++;
  }
}

void Doubts::look_at_time(double spacing_s, Notices& notices) {
  if (is_timed_) return;
  shortest_s_ = std::min(shortest_s_, spacing_s);
  is_timed_ = spacing_s < kSlowestS || ++long_spacings_ == kSpacings;
  if (long_spacings_ < kSpacings) return;
  notices.add(Notice::time_unit, [&] {
    return "the first frames are " + text(shortest_s_)
           + " seconds or more apart, so that nothing follows from one to the next; timestamp_s wants "
           "seconds: divide milliseconds by 1e3, nanoseconds by 1e9, frame numbers by the frames a second";
  });
}

void Doubts::look_at_frame(const Reading& reading, const double* joints, const double* confidence, Notices& notices) {
  frames_++;
  sum_.found += reading.found, sum_.outside += reading.outside;
  sum_.right_px = std::max(sum_.right_px, reading.right_px),
  sum_.bottom_px = std::max(sum_.bottom_px, reading.bottom_px);
  look_at_proportions(joints, confidence);
  if (frames_ == kFrames) judge(notices);
}

void Doubts::look_at_proportions(const double* joints, const double* confidence) {
  if (std::any_of(confidence, confidence + joints_, [](double sure) { return !(sure >= kSeen); })) return;
  double least[2] = {HUGE_VAL, HUGE_VAL}, most[2] = {-HUGE_VAL, -HUGE_VAL};
  for (int j = 0; j < joints_; j++)
    for (int c = 0; c < 2; c++)
      least[c] = std::min(least[c], joints[2 * j + c]), most[c] = std::max(most[c], joints[2 * j + c]);
  const double size = std::max(most[0] - least[0], most[1] - least[1]);
  whole_frames_++;
  if (head_ >= 0 && ankles_[0] >= 0 && ankles_[1] >= 0) {
    const auto from_ankles = [&](int c) {
      return joints[2 * head_ + c] - 0.5 * (joints[2 * ankles_[0] + c] + joints[2 * ankles_[1] + c]);
    };
    lying_frames_ += -from_ankles(0) > kLying * std::fabs(from_ankles(1));
  }
  for (Bone& bone : bones_) {
    const double x = joints[2 * bone.a] - joints[2 * bone.b], y = joints[2 * bone.a + 1] - joints[2 * bone.b + 1];
    const double length = std::sqrt(x * x + y * y) / size;
    if (length > kParts[bone.part].limit) bone.beyond++, bone.longest = std::max(bone.longest, length);
  }
}

void Doubts::judge(Notices& notices) {
  if (sum_.outside > kMostOutside * sum_.found)
    notices.add(Notice::outside_picture, [&] {
      const bool fits_exchanged = sum_.right_px <= picture_.height_px && sum_.bottom_px <= picture_.width_px;
      return rounded(100.0 * sum_.outside / sum_.found, 0) + " % of the keypoints of " + std::to_string(kFrames)
             + " frames lie outside of the picture, " + text(picture_.width_px) + " x " + text(picture_.height_px)
             + ", up to (" + rounded(sum_.right_px, 0) + ", " + rounded(sum_.bottom_px, 0)
             + "), and count as not seen. Likely "
             + (fits_exchanged ? "image_size is (height, width), or the keypoints are (y, x)"
                               : "image_size is that of a resized picture")
             + "; wanted the (width, height) of the picture that the keypoints are pixels of, and them as (x, y)";
    });
  if (2 * whole_frames_ >= kFrames && lying_frames_ > kAlwaysLying * whole_frames_)
    notices.add(Notice::lying, [&] {
      return "the person lies with the head to the left in nearly all of " + std::to_string(whole_frames_)
             + " frames; if it does not, the keypoints are (y, x): wanted (x, y)";
    });
  for (const Bone& bone : bones_) {
    if (2 * whole_frames_ < kFrames || 2 * bone.beyond <= whole_frames_) continue;
    notices.add(Notice::proportions, [&] {
      const Part& part = kParts[bone.part];
      return std::string("in most of ") + std::to_string(whole_frames_) + " frames " + part.name + " up to "
             + rounded(bone.longest, 2) + " of the person's size, where people show " + rounded(part.limit, 2)
             + " at most. Likely the keypoints are in another order than the "
             + "layout's, or x and y are of pictures of different sizes";
    });
    break;
  }
  frames_ = whole_frames_ = lying_frames_ = 0, sum_ = {};
  for (Bone& bone : bones_) bone.beyond = 0, bone.longest = 0;
}

}  // namespace edgepose
