// Skeletons and layouts, as edgepose/skeleton.py and adapters.py have them, and keypoints in a layout -> joints of a model.
#pragma once

#include <cmath>
#include <string>
#include <vector>

namespace edgepose {

constexpr int kMaxJoints = 17, kMaxTerms = 5;
constexpr double kSure = HUGE_VAL;

struct Skeleton {
  const char* name;
  int joints;
  const char* names[kMaxJoints];
  int parents[kMaxJoints];  // -1: the root

  int index(const std::string& joint) const;  // -1 if it has no such joint
  int root() const;
};

struct Term {
  int source;   // a keypoint of the layout
  double x, y;  // its weights
};

struct JointSources {
  double most_confidence;  // a joint is never surer than this
  int count;
  Term terms[kMaxTerms];
};

struct Layout {
  const char* name;
  int keypoints;
  int when_face_hidden;  // the layout that stands in where one of kFace is below kFaceSeen, or -1
  JointSources joints[kMaxJoints];  // of kSkeletons[0], which has all joints that a model can have
};

#include "layouts.inl"

// Throws std::invalid_argument, listing what there is, for an unknown name.
const Skeleton& skeleton_named(const std::string& name);

// Turns keypoints in a layout into the joints of a skeleton.
class Adapter {
 public:
  // Throws std::invalid_argument, listing what there is, for an unknown layout.
  Adapter(const std::string& layout, const Skeleton& skeleton);

  const Layout& layout() const { return layout_; }

  // xy_px[J][2] and confidence[J] from keypoints_px[K][3].
  void operator()(const double* keypoints_px, double* xy_px, double* confidence) const;

 private:
  const Layout& layout_;
  std::vector<int> rows_;  // for each joint of the model its place among the layout's joints
};

}  // namespace edgepose
