#include "layouts.h"

#include <stdexcept>

namespace edgepose {

int Skeleton::index(const std::string& joint) const {
  for (int j = 0; j < joints; j++)
    if (joint == names[j]) return j;
  return -1;
}

int Skeleton::root() const {
  int j = 0;
  while (parents[j] != -1) j++;
  return j;
}

const Skeleton& skeleton_named(const std::string& name) {
  std::string names;
  for (const Skeleton& skeleton : kSkeletons) {
    if (name == skeleton.name) return skeleton;
    names += (names.empty() ? "" : ", ") + std::string(skeleton.name);
  }
  throw std::invalid_argument("skeleton '" + name + "'; there are " + names);
}

static const Layout& layout_named(const std::string& name) {
  std::string names;
  for (int i = 0; i < kLayoutCount; i++) {
    if (name == kLayouts[i].name) return kLayouts[i];
    names += (i ? ", " : "") + std::string(kLayouts[i].name);
  }
  throw std::invalid_argument("there is no layout \"" + name + "\"; wanted one of " + names);
}

Adapter::Adapter(const std::string& layout, const Skeleton& skeleton) : layout_(layout_named(layout)) {
  for (int j = 0; j < skeleton.joints; j++) rows_.push_back(kSkeletons[0].index(skeleton.names[j]));
}

void Adapter::operator()(const double* keypoints_px, double* xy_px, double* confidence) const {
  const Layout* layout = &layout_;
  if (layout->when_face_hidden >= 0)
    for (int keypoint : kFace)
      if (keypoints_px[3 * keypoint + 2] < kFaceSeen) {
        layout = &kLayouts[layout->when_face_hidden];
        break;
      }
  for (int row : rows_) {
    const JointSources& sources = layout->joints[row];
    double x = 0, y = 0, least = sources.most_confidence;
    for (int i = 0; i < sources.count; i++) {
      const Term& term = sources.terms[i];
      const double* keypoint = keypoints_px + 3 * term.source;
      x += keypoint[0] * term.x, y += keypoint[1] * term.y;
      if (keypoint[2] < least) least = keypoint[2];
    }
    *xy_px++ = x, *xy_px++ = y, *confidence++ = least;
  }
}

}  // namespace edgepose
