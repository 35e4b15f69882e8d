// Skeletons, detector layouts, and the mapping from a layout's keypoints to a model's joints. Layouts are data:
// layouts() lists those that ship.
#pragma once

#include <cmath>
#include <string>
#include <vector>

namespace edgepose {

constexpr double kSure = HUGE_VAL;
// A face keypoint below this confidence is not trusted; the published demo uses 0.3 too.
constexpr double kFaceSeen = 0.3;

struct Skeleton {
  std::string name;
  int joints;
  std::vector<std::string> names;
  std::vector<int> parents;  // -1: the root

  int index(const std::string& joint) const;  // -1 if there is no such joint
  int root() const;
};

// Throws std::invalid_argument, listing the known names, for an unknown name.
const Skeleton& skeleton_named(const std::string& name);

struct Term {
  int keypoint;
  double x, y;  // weights
};

struct JointSources {
  std::vector<Term> terms;
  double most_confidence = kSure;  // upper limit of the joint's confidence
};

// Possible sources of a joint, best first. The first is used whose keypoints have at least kFaceSeen, not counting
// those that the last needs too; else the last.
using Alternatives = std::vector<JointSources>;

// Mapping from a detector's keypoints to joints. Every joint is a weighted sum of keypoints.
struct Layout {
  std::string name;
  std::vector<std::string> keypoints, joints;  // names
  std::vector<Alternatives> sources;           // for each joint
};

// The layouts that ship.
const std::vector<Layout>& layouts();

// Throws std::invalid_argument, listing the known names, for an unknown name.
const Layout& layout_named(const std::string& name);

constexpr int kNotDetected = INT32_MIN;  // keypoint of a joint that the detector does not give; EDGEPOSE_NOT_DETECTED

struct NamedSource {
  std::string joint;
  Term term;
};

// The layout of a detector with `keypoints` keypoints. Every joint of a model has sources, whose weights sum to 1, or
// is not detected; the nose may be left out. Throws std::invalid_argument if a joint is missing or unknown, or neither
// a hip nor both shoulders are detected.
Layout own_layout(const std::string& name, int keypoints, const std::vector<NamedSource>& sources);

// Turns keypoints in a layout into the joints of a skeleton.
class Adapter {
 public:
  // Throws std::invalid_argument if the layout lacks a joint of the skeleton, or a source is not a keypoint.
  Adapter(const Layout& layout, const Skeleton& skeleton);

  const std::string& layout() const { return layout_; }
  int keypoints() const { return keypoints_; }

  // Fills xy_px[J][2] and confidence[J] from keypoints_px[K][3], and joint_depth_m[J] from depth_m[K] unless that is
  // null. A joint has the least confidence of its sources, and a depth if all its sources have one, else NaN.
  void operator()(const double* keypoints_px, double* xy_px, double* confidence, const double* depth_m = nullptr,
                  double* joint_depth_m = nullptr) const;

 private:
  struct Source {
    Term term;
    bool must_be_seen;  // its line is used only if this source is seen
  };
  struct Line {
    int begin, end;  // the range of its sources
    double most_confidence;
  };

  std::string layout_;
  int keypoints_;
  // The skeleton's joints in few blocks of memory: those of 20 people are read between two engine calls.
  std::vector<int> joint_ends_;  // end of each joint's lines; they begin where the previous joint's end
  std::vector<Line> lines_;
  std::vector<Source> sources_;
};

}  // namespace edgepose
