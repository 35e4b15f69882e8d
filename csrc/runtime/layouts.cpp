#include "layouts.h"

#include <algorithm>
#include <initializer_list>
#include <map>
#include <stdexcept>

#include "text.h"

namespace edgepose {

namespace {

constexpr double kWeightError = 1e-5;  // a joint whose weights sum to anything but 1 would not move with the person

using Names = std::vector<std::string>;

const Skeleton kSkeletons[] = {
    {"h36m17", 17,
     {"pelvis", "right_hip", "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle", "spine", "thorax",
      "nose", "head", "left_shoulder", "left_elbow", "left_wrist", "right_shoulder", "right_elbow", "right_wrist"},
     {-1, 0, 1, 2, 0, 4, 5, 0, 7, 8, 9, 8, 11, 12, 8, 14, 15}},
    {"h36m16", 16,
     {"pelvis", "right_hip", "right_knee", "right_ankle", "left_hip", "left_knee", "left_ankle", "spine", "thorax",
      "head", "left_shoulder", "left_elbow", "left_wrist", "right_shoulder", "right_elbow", "right_wrist"},
     {-1, 0, 1, 2, 0, 4, 5, 0, 7, 8, 8, 10, 11, 8, 13, 14}},
};

const Names kCoco = {"nose", "left_eye", "right_eye", "left_ear", "right_ear", "left_shoulder", "right_shoulder",
                     "left_elbow", "right_elbow", "left_wrist", "right_wrist", "left_hip", "right_hip", "left_knee",
                     "right_knee", "left_ankle", "right_ankle"};
// AlphaPose, RTMPose body-26: the keypoints of COCO, then these.
const Names kHalpeMore = {"head", "neck", "hip", "left_big_toe", "right_big_toe", "left_small_toe", "right_small_toe",
                          "left_heel", "right_heel"};
// OpenPose's COCO model, lightweight OpenPose, tf-pose.
const Names kOpenpose18 = {"nose", "neck", "right_shoulder", "right_elbow", "right_wrist", "left_shoulder",
                           "left_elbow", "left_wrist", "right_hip", "right_knee", "right_ankle", "left_hip",
                           "left_knee", "left_ankle", "right_eye", "left_eye", "right_ear", "left_ear"};
// OpenPose; right comes first. A keypoint it did not find is (0, 0, 0).
const Names kBody25 = {"nose", "neck", "right_shoulder", "right_elbow", "right_wrist", "left_shoulder", "left_elbow",
                       "left_wrist", "mid_hip", "right_hip", "right_knee", "right_ankle", "left_hip", "left_knee",
                       "left_ankle", "right_eye", "left_eye", "right_ear", "left_ear", "left_big_toe",
                       "left_small_toe", "left_heel", "right_big_toe", "right_small_toe", "right_heel"};
// OpenPose's BODY_25B: the keypoints of COCO, then these. It has as many as BODY_25, in another order.
const Names kBody25bMore = {"upper_neck", "head_top", "left_big_toe", "left_small_toe", "left_heel", "right_big_toe",
                            "right_small_toe", "right_heel"};
// MediaPipe divides x by the width and y by the height: multiply back to pixels first. visibility is the confidence.
const Names kMediapipe33 = {"nose", "left_eye_inner", "left_eye", "left_eye_outer", "right_eye_inner", "right_eye",
                            "right_eye_outer", "left_ear", "right_ear", "left_mouth", "right_mouth", "left_shoulder",
                            "right_shoulder", "left_elbow", "right_elbow", "left_wrist", "right_wrist", "left_pinky",
                            "right_pinky", "left_index", "right_index", "left_thumb", "right_thumb", "left_hip",
                            "right_hip", "left_knee", "right_knee", "left_ankle", "right_ankle", "left_heel",
                            "right_heel", "left_foot_index", "right_foot_index"};
const Names kMpii16 = {"right_ankle", "right_knee", "right_hip", "left_hip", "left_knee", "left_ankle", "pelvis",
                       "thorax", "upper_neck", "head_top", "right_wrist", "right_elbow", "right_shoulder",
                       "left_shoulder", "left_elbow", "left_wrist"};

Names numbered(const std::string& name, int count) {
  Names names;
  for (int i = 0; i < count; i++) names.push_back(name + std::to_string(i));
  return names;
}

// COCO-WholeBody (RTMW, DWPose): the keypoints of COCO, feet, face and hands.
Names wholebody() {
  Names names = kCoco;
  for (const Names& more :
       {Names{"left_big_toe", "left_small_toe", "left_heel", "right_big_toe", "right_small_toe", "right_heel"},
        numbered("face_", 68), numbered("left_hand_", 21), numbered("right_hand_", 21)})
    names.insert(names.end(), more.begin(), more.end());
  return names;
}

struct Weighted {
  std::string keypoint;
  double x, y;
};
using Sources = std::vector<Weighted>;
struct Line {
  Line(Sources sources, double most_confidence = kSure)
      : sources(std::move(sources)), most_confidence(most_confidence) {}
  Sources sources;
  double most_confidence;
};
using Lines = std::vector<Line>;               // as Alternatives
using Mapping = std::map<std::string, Lines>;  // joints by name

Sources mean(const Names& keypoints) {
  Sources sources;
  for (const std::string& keypoint : keypoints)
    sources.push_back({keypoint, 1.0 / (double)keypoints.size(), 1.0 / (double)keypoints.size()});
  return sources;
}

Sources operator+(Sources a, const Sources& b) {
  a.insert(a.end(), b.begin(), b.end());
  return a;
}

Sources each(const Names& keypoints, double x, double y) {
  Sources sources;
  for (const std::string& keypoint : keypoints) sources.push_back({keypoint, x, y});
  return sources;
}

const Names kHips = {"left_hip", "right_hip"}, kShoulders = {"left_shoulder", "right_shoulder"},
            kEyes = {"left_eye", "right_eye"}, kEars = {"left_ear", "right_ear"};

// The limbs under their own names, and the joints passed.
Mapping limbs_and(const Mapping& joints) {
  Mapping mapping = joints;
  for (const std::string& joint : kSkeletons[0].names)
    if (joint.rfind("left_", 0) == 0 || joint.rfind("right_", 0) == 0) mapping[joint] = {mean({joint})};
  return mapping;
}

// A point above the shoulders, beyond the trunk by this share of its length. A guess from this frame: its confidence is
// just enough to count as seen.
Line above_trunk(double share) {
  return {each(kShoulders, (1 + share) / 2, (1 + share) / 2) + each(kHips, -share / 2, -share / 2), kFaceSeen};
}

// The limbs, the joints passed, and nose and head from the visible keypoints of a face. The head is the middle of the
// eyes, as in the training of the shipped weights, in every layout with eyes: halpe26's own head keypoint and
// MediaPipe's ears are other points.
Mapping limbs_face_and(const Mapping& joints) {
  const auto either = [](const Names& pair) { return Lines{mean(pair), mean({pair[0]}), mean({pair[1]})}; };
  const Lines eyes = either(kEyes), ears = either(kEars);
  Mapping mapping = limbs_and(joints);
  Lines& nose = mapping["nose"] = {mean({"nose"})};
  Lines& head = mapping["head"] = eyes;
  nose.insert(nose.end(), eyes.begin(), eyes.end());
  for (Lines* joint : {&nose, &head}) joint->insert(joint->end(), ears.begin(), ears.end());
  nose.push_back(above_trunk(0.30));
  head.push_back(mean({"nose"}));
  head.push_back(above_trunk(0.36));
  return mapping;
}

// Recipe A (mmpose, MotionBERT): midpoints.
Mapping midpoints() {
  return limbs_face_and({{"pelvis", {mean(kHips)}},
                         {"spine", {each(kHips, 0.25, 0.25) + each(kShoulders, 0.25, 0.25)}},
                         {"thorax", {mean(kShoulders)}}});
}

// Recipe B: the demo of GAST, MHFormer, Strided Transformer and PoseFormerV2, in closed form. Where the face keypoints
// it needs are hidden, from behind or from the side, midpoints stand in, and the head extends the back: our choice.
Mapping demo() {
  const Mapping middle = midpoints();
  return limbs_and(
      {{"pelvis", {mean(kHips)}},
       {"spine",
        {each(kShoulders, 5.0 / 12, 1.0 / 4) + each(kHips, 1.0 / 4, 1.0 / 4) + each({"nose"}, -1.0 / 3, 0.0),
         middle.at("spine")[0]}},
       {"thorax",
        {each(kShoulders, 1.0 / 3, 1.0 / 3) + each({"nose"}, 1.0 / 3, 1.0) + each(kEyes, 0.0, -1.0 / 3),
         mean(kShoulders)}},
       {"nose", {each({"nose"}, 3.0 / 4, 3.0 / 4) + each(kShoulders, 1.0 / 8, 1.0 / 8), above_trunk(0.25)}},
       {"head",
        {each(kEyes, 1.0 / 4, 1.0) + each(kEars, 1.0 / 4, 0.0) + each({"nose"}, 0.0, -1.0),
         each(kEyes, 1.0 / 2, 1.0) + each({"nose"}, 0.0, -1.0), above_trunk(0.5)}}});
}

std::vector<Alternatives> sources_of(const Mapping& mapping, const Names& keypoints) {
  std::vector<Alternatives> all;
  for (const std::string& joint : kSkeletons[0].names) {
    Alternatives alternatives;
    for (const Line& line : mapping.at(joint)) {
      JointSources sources{{}, line.most_confidence};
      for (const Weighted& from : line.sources)
        sources.terms.push_back(
            {(int)(std::find(keypoints.begin(), keypoints.end(), from.keypoint) - keypoints.begin()), from.x, from.y});
      alternatives.push_back(sources);
    }
    all.push_back(alternatives);
  }
  return all;
}

Layout layout(const std::string& name, const Names& keypoints, const Mapping& mapping) {
  return {name, keypoints, kSkeletons[0].names, sources_of(mapping, keypoints)};
}

// The layout of a detector that gives the model's own joints.
Layout identity(const Skeleton& skeleton) {
  Mapping mapping = {{"nose", {mean({"thorax", "head"})}}};
  for (const std::string& joint : skeleton.names) mapping[joint] = {mean({joint})};
  return layout(skeleton.name, skeleton.names, mapping);
}

// "coco17" is recipe A, for mmpose checkpoints; "coco17-demo" is recipe B, for Strided Transformer and its family.
// BODY_25, MPII (its neck and head as mmpose does for AIC) and the nose of h36m16 are ours.
std::vector<Layout> all_layouts() {
  const auto coco_and = [](const Names& more) {
    Names names = kCoco;
    names.insert(names.end(), more.begin(), more.end());
    return names;
  };
  return {
      layout("coco17", kCoco, midpoints()),
      layout("coco17-demo", kCoco, demo()),
      layout("halpe26", coco_and(kHalpeMore),
             limbs_face_and(
                 {{"pelvis", {mean({"hip"})}}, {"spine", {mean({"neck", "hip"})}}, {"thorax", {mean({"neck"})}}})),
      layout(
          "body25", kBody25,
          limbs_face_and(
              {{"pelvis", {mean({"mid_hip"})}}, {"spine", {mean({"mid_hip", "neck"})}}, {"thorax", {mean({"neck"})}}})),
      layout("body25b", coco_and(kBody25bMore), midpoints()),
      layout("mediapipe33", kMediapipe33, midpoints()),
      layout("openpose18", kOpenpose18, midpoints()),
      layout("wholebody133", wholebody(), midpoints()),
      layout("mpii16", kMpii16,
             limbs_and({{"pelvis", {mean({"pelvis"})}},
                        {"spine", {mean({"pelvis", "thorax"})}},
                        {"thorax", {mean({"thorax"})}},
                        {"nose", {each({"thorax"}, 3.0 / 4, 3.0 / 4) + each({"head_top"}, 1.0 / 4, 1.0 / 4)}},
                        {"head", {each({"thorax"}, 5.0 / 12, 5.0 / 12) + each({"head_top"}, 7.0 / 12, 7.0 / 12)}}})),
      identity(kSkeletons[0]),
      identity(kSkeletons[1])};
}

template <class Named>
const Named& named(const Named* begin, const Named* end, const std::string& name, const std::string& otherwise) {
  std::string names;
  for (const Named* one = begin; one != end; one++) {
    if (one->name == name) return *one;
    names += (one == begin ? "" : ", ") + one->name;
  }
  throw std::invalid_argument(otherwise + names);
}

}  // namespace

int Skeleton::index(const std::string& joint) const {
  const auto found = std::find(names.begin(), names.end(), joint);
  return found == names.end() ? -1 : (int)(found - names.begin());
}

int Skeleton::root() const { return (int)(std::find(parents.begin(), parents.end(), -1) - parents.begin()); }

const Skeleton& skeleton_named(const std::string& name) {
  return named(std::begin(kSkeletons), std::end(kSkeletons), name, "skeleton '" + name + "'; there are ");
}

const std::vector<Layout>& layouts() {
  static const std::vector<Layout> all = all_layouts();
  return all;
}

const Layout& layout_named(const std::string& name) {
  return named(layouts().data(), layouts().data() + layouts().size(), name,
               "there is no layout \"" + name + "\"; wanted one of ");
}

Layout own_layout(const std::string& name, int keypoints, const std::vector<NamedSource>& sources) {
  const Skeleton& all = kSkeletons[0];
  Layout own{name, {}, all.names, std::vector<Alternatives>(all.names.size(), Alternatives(1))};
  const auto terms = [&own](int joint) -> std::vector<Term>& { return own.sources[(std::size_t)joint][0].terms; };
  std::vector<bool> is_detected(all.names.size(), true);
  for (int k = 0; k < keypoints; k++) own.keypoints.push_back(std::to_string(k));
  for (const NamedSource& source : sources) {
    const int joint = all.index(source.joint);
    if (joint < 0) throw std::invalid_argument("layout \"" + name + "\" has the unknown joint '" + source.joint + "'");
    if (source.term.keypoint == kNotDetected) {
      is_detected[(std::size_t)joint] = false;
      continue;
    }
    if (source.term.keypoint < 0 || source.term.keypoint >= keypoints)
      throw std::invalid_argument("joint '" + source.joint + "' comes from keypoint "
                                  + std::to_string(source.term.keypoint) + ", and the detector has "
                                  + std::to_string(keypoints));
    terms(joint).push_back(source.term);
  }
  const int nose = all.index("nose"), thorax = all.index("thorax"), head = all.index("head");
  if (terms(nose).empty() && !(is_detected[(std::size_t)thorax] && is_detected[(std::size_t)head]))
    is_detected[(std::size_t)nose] = false;
  if (terms(nose).empty() && is_detected[(std::size_t)nose])
    for (const int end : {thorax, head})
      for (const Term& term : terms(end)) terms(nose).push_back({term.keypoint, term.x / 2, term.y / 2});
  for (int j = 0; j < all.joints; j++)
    if (terms(j).empty() && is_detected[(std::size_t)j] && j != nose)
      throw std::invalid_argument("layout \"" + name + "\" leaves out '" + all.names[j] + "'");
  for (int j = 0; j < all.joints; j++) {
    double x = is_detected[(std::size_t)j] ? 0 : 1, y = x;
    if (!is_detected[(std::size_t)j]) own.sources[(std::size_t)j][0].most_confidence = 0;
    for (const Term& term : terms(j)) x += term.x, y += term.y;
    if (!(std::fabs(x - 1) <= kWeightError && std::fabs(y - 1) <= kWeightError))
      throw std::invalid_argument("the weights of '" + all.names[j] + "' sum to " + text(x) + " and " + text(y)
                                  + " for x and y; wanted 1");
  }
  const auto has = [&](const char* joint) { return is_detected[(std::size_t)all.index(joint)]; };
  if (!has("pelvis") && !has("left_hip") && !has("right_hip") && !(has("left_shoulder") && has("right_shoulder")))
    throw std::invalid_argument("layout \"" + name
                                + "\" detects no hip and not both shoulders, so it can place nobody");
  return own;
}

Adapter::Adapter(const Layout& layout, const Skeleton& skeleton)
    : layout_(layout.name), keypoints_((int)layout.keypoints.size()) {
  for (const std::string& joint : skeleton.names) {
    const std::size_t row =
        (std::size_t)(std::find(layout.joints.begin(), layout.joints.end(), joint) - layout.joints.begin());
    if (row >= layout.sources.size() || layout.sources[row].empty())
      throw std::invalid_argument("layout \"" + layout.name + "\" gives no joint '" + joint
                                  + "', which the model takes");
    const std::vector<Term>& last = layout.sources[row].back().terms;
    for (const JointSources& line : layout.sources[row]) {
      const int begin = (int)sources_.size();
      for (const Term& term : line.terms) {
        if (term.keypoint < 0 || term.keypoint >= keypoints_)
          throw std::invalid_argument("layout \"" + layout.name + "\" has no keypoint "
                                      + std::to_string(term.keypoint));
        sources_.push_back({term, std::none_of(last.begin(), last.end(), [&](const Term& of_last) {
                              return of_last.keypoint == term.keypoint;
                            })});
      }
      lines_.push_back({begin, (int)sources_.size(), line.most_confidence});
    }
    joint_ends_.push_back((int)lines_.size());
  }
}

void Adapter::operator()(const double* keypoints_px, double* xy_px, double* confidence, const double* depth_m,
                         double* joint_depth_m) const {
  const auto is_taken = [&](const Line& line) {
    for (int i = line.begin; i < line.end; i++)
      if (sources_[(std::size_t)i].must_be_seen
          && !(keypoints_px[3 * sources_[(std::size_t)i].term.keypoint + 2] >= kFaceSeen))
        return false;
    return true;
  };
  int first = 0;
  for (const int end : joint_ends_) {
    while (first < end - 1 && !is_taken(lines_[(std::size_t)first])) first++;
    const Line& line = lines_[(std::size_t)first];
    first = end;
    double x = 0, y = 0, depth = 0, least = line.most_confidence;
    for (int i = line.begin; i < line.end; i++) {
      const Term& term = sources_[(std::size_t)i].term;
      const double* keypoint = keypoints_px + 3 * term.keypoint;
      x += keypoint[0] * term.x, y += keypoint[1] * term.y;
      if (keypoint[2] < least) least = keypoint[2];
      if (depth_m) depth += depth_m[term.keypoint] * term.x;
    }
    *xy_px++ = x, *xy_px++ = y, *confidence++ = least;
    if (depth_m) *joint_depth_m++ = depth;
  }
}

}  // namespace edgepose
