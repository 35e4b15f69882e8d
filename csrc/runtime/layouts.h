// Skeletons and layouts, and keypoints in a layout -> joints of a model. Layouts are data: a table by names has those
// that ship.
#pragma once

#include <cmath>
#include <string>
#include <vector>

namespace edgepose {

constexpr double kSure = HUGE_VAL;
// Below this confidence a keypoint of the face is not trusted; the published demo uses 0.3 too.
constexpr double kFaceSeen = 0.3;

struct Skeleton {
  std::string name;
  int joints;
  std::vector<std::string> names;
  std::vector<int> parents;  // -1: the root

  int index(const std::string& joint) const;  // -1 if it has no such joint
  int root() const;
};

// Throws std::invalid_argument, listing what there is, for an unknown name.
const Skeleton& skeleton_named(const std::string& name);

struct Term {
  int keypoint;
  double x, y;  // its weights
};

struct JointSources {
  std::vector<Term> terms;
  double most_confidence = kSure;  // a joint is never surer than this
};

// Where a joint comes from, best first: the first whose keypoints are seen from kFaceSeen on, those aside that the last
// needs too; else the last.
using Alternatives = std::vector<JointSources>;

// How a detector's keypoints become joints. Every joint is a weighted sum of keypoints.
struct Layout {
  std::string name;
  std::vector<std::string> keypoints, joints;  // their names
  std::vector<Alternatives> sources;           // for each joint
};

// The layouts that ship.
const std::vector<Layout>& layouts();

// Throws std::invalid_argument, listing what there is, for an unknown name.
const Layout& layout_named(const std::string& name);

constexpr int kNotDetected = INT32_MIN;  // the keypoint of a joint that a detector does not give; EDGEPOSE_NOT_DETECTED

struct NamedSource {
  std::string joint;
  Term term;
};

// The layout of a detector with so many keypoints. Every joint of a model has sources, whose weights sum to 1, or is
// not detected; the nose may be left out. Throws std::invalid_argument if one is missing or unknown, or neither a hip
// nor both shoulders are detected.
Layout own_layout(const std::string& name, int keypoints, const std::vector<NamedSource>& sources);

// Turns keypoints in a layout into the joints of a skeleton.
class Adapter {
 public:
  // Throws std::invalid_argument if the skeleton has a joint that the layout does not give, or sources are not
  // keypoints.
  Adapter(const Layout& layout, const Skeleton& skeleton);

  const std::string& layout() const { return layout_; }
  int keypoints() const { return keypoints_; }

  // xy_px[J][2] and confidence[J] from keypoints_px[K][3], and joint_depth_m[J] from depth_m[K] unless that is null. A
  // joint is as sure as its least sure source, and has a depth, not NaN, if all its sources have.
  void operator()(const double* keypoints_px, double* xy_px, double* confidence, const double* depth_m = nullptr,
                  double* joint_depth_m = nullptr) const;

 private:
  struct Source {
    Term term;
    bool must_be_seen;  // for its line to be taken
  };
  struct Line {
    int begin, end;  // where its sources are
    double most_confidence;
  };

  std::string layout_;
  int keypoints_;
  // Of the skeleton's joints, in few pieces of memory: those of 20 people are read between two calls of an engine.
  std::vector<int> joint_ends_;  // where a joint's lines end; they begin where those of the joint before it end
  std::vector<Line> lines_;
  std::vector<Source> sources_;
};

}  // namespace edgepose
