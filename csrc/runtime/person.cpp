#include "person.h"

#include <algorithm>
#include <cstring>

#include "columns.h"
#include "text.h"

namespace edgepose {

namespace {

// Share of seen_above. A joint that was seen stays so until its confidence is below this.
constexpr double kLostShare = 2.0 / 3;
constexpr double kMostRelativeDepthM = 1.5;  // MOST_DEPTH_M of edgepose/training/observation.py
constexpr double kMostPredictedS = 0.1;  // a movement goes on for so long
constexpr double kMostStepS = 0.25;      // between two answers that show a movement
constexpr double kLeastHeightM = 0.5, kMostHeightM = 2.5;
constexpr double kSizeError = 0.08, kHeightSizeError = 0.06;  // relative errors: people differ by 6 %, lifters too
constexpr double kH36mFocal = 2.29;     // 2 f / w of the Human3.6M cameras, f = 1145 px in a picture w = 1000 px wide

Note blank(int joints) {
  return {std::vector<double>((std::size_t)joints), std::vector<unsigned char>((std::size_t)joints),
          std::vector<double>((std::size_t)joints, NAN)};
}

std::string listed(const std::vector<const char*>& names) {
  std::string all;
  for (const char* name : names) all += (all.empty() ? "" : ", ") + std::string(name);
  return all;
}

// Throws std::invalid_argument for columns that are not the published ones and some of the others, in their order.
void check_columns(const Columns& known, const std::vector<std::string>& names, const char* does) {
  if (known.are(names)) return;
  std::string came;
  for (const std::string& name : names) came += (came.empty() ? "" : ", ") + name;
  throw std::invalid_argument(std::string("the model ") + does + " the columns " + came + "; wanted the first "
                              + std::to_string(known.published) + " and any others of " + listed(known.names)
                              + ", in this order");
}

bool has_error(const std::vector<std::string>& outputs) {
  check_columns(kOutputs, outputs, "answers with");
  return outputs.back() == "error";
}

double rate_of(const Lifter& lifter, double rate_hz) {
  if (rate_hz != kFileRateHz) return rate_hz;
  return lifter.rate_hz > 0 ? lifter.rate_hz : kPublishedRateHz;
}

double seen_above_of(const Lifter& lifter, double seen_above) {
  if (seen_above != kModelSeenAbove) return seen_above;
  const bool takes_confidence = std::count(lifter.inputs.begin(), lifter.inputs.end(), "confidence") > 0;
  return takes_confidence ? kFoundAbove : kSureAbove;
}

// The unit vector against gravity. Throws std::invalid_argument for a vector without direction.
std::array<double, 3> against(const std::array<double, 3>& gravity) {
  if (gravity == std::array<double, 3>{}) return {};
  const double size = std::hypot(gravity[0], gravity[1], gravity[2]);
  if (!(size > 0 && size < HUGE_VAL))
    throw std::invalid_argument("gravity is (" + text(gravity[0]) + ", " + text(gravity[1]) + ", " + text(gravity[2])
                                + "); wanted where it points: three finite numbers, not all 0");
  return {-gravity[0] / size, -gravity[1] / size, -gravity[2] / size};
}

}  // namespace

std::vector<Person::Input> Person::inputs_of(const Lifter& lifter) {
  check_columns(kInputs, lifter.inputs, "takes");
  std::vector<Input> inputs;
  for (const std::string& name : lifter.inputs)
    inputs.push_back((Input)(std::find(kInputs.names.begin(), kInputs.names.end(), name) - kInputs.names.begin()));
  return inputs;
}

Person::Person(const Lifter& lifter, const Layout& layout, double width_px, double height_px,
               const PersonOptions& options, Notices* notices)
    : frames_(lifter.state > 0 ? 1 : lifter.frames),
      joints_(lifter.skeleton.joints),
      root_(lifter.skeleton.root()),
      picture_{width_px, height_px},
      adapter_(layout, lifter.skeleton),
      inputs_(inputs_of(lifter)),
      has_error_(edgepose::has_error(lifter.outputs)),
      lens_(options.fx, options.fy, options.cx, options.cy, options.distortion, width_px, height_px),
      rate_hz_(rate_of(lifter, options.rate_hz)),
      clock_(options.on_bad_time),
      length_(length_column(options.lengths_m, lifter.skeleton)),
      up_(against(options.gravity)),
      has_gravity_(options.gravity != std::array<double, 3>{}),
      seen_above_(seen_above_of(lifter, options.seen_above)),
      hold_(lifter.skeleton, seen_above_, kLostShare * seen_above_, options.hold_s),
      window_(frames_, lifter.skeleton, (int)inputs_.size(), rate_hz_, options.delay_frames, options.max_gap_s,
              lifter.is_causal, options.is_one_person),
      max_gap_s_(options.max_gap_s),
      state_((std::size_t)lifter.state),
      height_m_(options.height_m),
      has_constant_bones_(options.constant_bones),
      is_one_person_(options.is_one_person),
      bones_(lifter.skeleton, options.lengths_m),
      place_(joints_, kH36mFocal),
      undetected_(blank(joints_)),
      notices_(notices ? *notices : own_notices_),
      doubts_(lifter.skeleton, picture_),
      deadline_(options.deadline_ms),
      note_(undetected_) {
  if (!(width_px >= 1 && width_px <= kMostPx && height_px >= 1 && height_px <= kMostPx))
    throw std::invalid_argument("image_size is (" + text(width_px) + ", " + text(height_px)
                                + "); wanted two numbers of pixels from 1 to " + text(kMostPx));
  if (options.lengths_m != Lengths{} && !takes(Input::length) && !options.constant_bones)
    throw std::invalid_argument("the model takes no lengths of a person; wanted none, a model that does, or constant "
                                "bones");
  const bool is_height = options.height_m == 0 || options.height_m == kLearnHeight
                         || (options.height_m >= kLeastHeightM && options.height_m <= kMostHeightM);
  if (!is_height)
    throw std::invalid_argument("height_m is " + text(options.height_m) + "; wanted a standing height from "
                                + text(kLeastHeightM) + " to " + text(kMostHeightM) + " m");
  if (options.height_m == kLearnHeight && !lens_.is_known())
    throw std::invalid_argument("the height is to be learnt and the lens is not known; wanted both");
  if (has_gravity_ && !(takes(Input::elevation) && lens_.is_known()))
    throw std::invalid_argument(takes(Input::elevation)
                                    ? "gravity is known and the lens is not; wanted both"
                                    : "the model takes no gravity; wanted none, or a model that does");
  if (lifter.state > 0 && !takes(Input::gap))
    throw std::invalid_argument("the model remembers frames and takes no gap between them; wanted one that does");
  const bool has_lens = lens_.is_known();
  scale_[0] = has_lens ? kH36mFocal / options.fx : 2.0 / width_px;
  scale_[1] = has_lens ? kH36mFocal / options.fy : 2.0 / width_px;
  centre_[0] = has_lens ? options.cx : 1.0, centre_[1] = has_lens ? options.cy : height_px / width_px;
  if (options.mend_sides) sides_.emplace(lifter.skeleton, seen_above_);
  if (options.min_cutoff_hz != 0)
    smoothing_.emplace(options.min_cutoff_hz, options.beta, options.d_cutoff_hz, 3 * joints_);
  keypoints_.resize((std::size_t)(3 * adapter_.keypoints()));
  joints_norm_.resize((std::size_t)(2 * joints_));
  depth_m_.resize((std::size_t)adapter_.keypoints()), joint_depth_m_.resize((std::size_t)joints_);
  known_m_.reserve((std::size_t)joints_);
  frame_.resize((std::size_t)joints_ * inputs_.size());
  answered_m_.resize((std::size_t)(3 * joints_)), velocity_m_s_.resize(answered_m_.size());
  answered_error_m_.resize((std::size_t)joints_);
  deadline_.reserve(1);
  if (has_state()) frame_input_.resize(frame_.size());
  reset();
}

void Person::reset() {
  end_clip();
  window_.reset();
  clock_.reset();
  bones_.reset();
  place_.reset();
  is_flushing_ = goes_on_ = false;
  answered_at_s_ = -HUGE_VAL, missed_reset_ = false;
}

// Forgets the clip: its memory must not fill in joints of another.
void Person::end_clip() {
  window_.end_clip();
  hold_.reset();
  if (sides_) sides_->reset();
}

void Person::mend_sides() {
  (*sides_)(joints_norm_.data(), note_.confidence.data(), checked_at_s_);
  if (sides_->gave_up()) end_clip();
  if (sides_->has_exchanged())
    notices_.add(Notice::exchanged_sides, [&] {
      return "left and right are exchanged between two frames, at " + text(checked_at_s_)
             + " s: they are exchanged back (option mend_sides)";
    });
}

bool Person::flush() {
  is_flushing_ = window_.flush();  // a model with a state has no delay: nothing waits
  if (!is_flushing_) reset();
  return is_flushing_;
}

template <class Real>
void Person::check(const Real* keypoints_px, long keypoints, long columns, double timestamp_s) {
  if (is_flushing_)
    throw std::invalid_argument("the stream is being flushed; flush it until there is no pose, or reset it");
  clock_.check(timestamp_s);
  if (keypoints_px) check_keypoints(keypoints_px, keypoints, columns);
  is_detected_ = keypoints_px != nullptr;
  checked_at_s_ = timestamp_s;
}

template void Person::check(const float*, long, long, double);
template void Person::check(const double*, long, long, double);

template <class Real>
void Person::check_keypoints(const Real* keypoints_px, long keypoints, long columns) {
  const long wanted = adapter_.keypoints();
  const long most_columns = takes(Input::depth) || lens_.is_known() ? 4 : 3;
  if (keypoints != wanted || columns < 2 || columns > most_columns) {
    const std::string k = "(" + std::to_string(wanted) + ", ";
    throw std::invalid_argument("keypoints_px has shape (" + std::to_string(keypoints) + ", " + std::to_string(columns)
                                + "); layout \"" + adapter_.layout() + "\" needs " + k + "2) or " + k + "3)"
                                + (most_columns == 4 ? ", or with depths " + k + "4)"
                                   : columns == 4    ? ": the model takes no depths, and a place needs a lens too"
                                                     : ""));
  }
  has_depths_ = columns == 4;
  reading_ = read_keypoints(keypoints_px, (int)keypoints, (int)columns, picture_, keypoints_.data(), depth_m_.data());
  if (lens_.is_distorted()) undistort();
}

// Moves the checked keypoints to where a lens without distortion would show them.
void Person::undistort() {
  for (std::size_t k = 0; k < depth_m_.size(); k++) {
    double* keypoint = keypoints_.data() + 3 * k;
    if (keypoint[2] > 0 && !lens_.undistort(keypoint)) keypoint[2] = 0;
  }
}

bool Person::take() {
  const bool is_new = take_frame();
  if (is_new && has_state()) take_input();
  return is_new;
}

// Makes the input of a model with a state: the frame, and the time since the last one that the engine lifted.
void Person::take_input() {
  std::copy_n(window_.input(), frame_input_.size(), frame_input_.begin());
  const double since_s = timestamp_s() - last_input_s_;
  if (was_reset()) begins_anew_ = !(goes_on_ && since_s > 0 && since_s <= max_gap_s_);
  goes_on_ = false;
  const auto gap = (std::size_t)(std::find(inputs_.begin(), inputs_.end(), Input::gap) - inputs_.begin());
  for (std::size_t i = gap; i < frame_input_.size(); i += inputs_.size())
    frame_input_[i] = begins_anew_ ? 0.f : (float)since_s;
}

std::string Person::memory() const {
  if (!has_state()) throw std::invalid_argument("the model remembers nothing of a person; wanted one with a state");
  std::string bytes(memory_size(), '\0');
  std::memcpy(bytes.data(), &last_input_s_, sizeof last_input_s_);
  std::memcpy(bytes.data() + sizeof last_input_s_, state_.data(), state_.size() * sizeof(float));
  return bytes;
}

void Person::remember(std::string_view memory) {
  if (!has_state()) throw std::invalid_argument("the model remembers nothing of a person; wanted one with a state");
  if (memory.size() != memory_size())
    throw std::invalid_argument("the memory has " + std::to_string(memory.size()) + " bytes; this model's has "
                                + std::to_string(memory_size()));
  double last_s;
  std::memcpy(&last_s, memory.data(), sizeof last_s);
  bool is_finite = std::isfinite(last_s);
  for (std::size_t at = sizeof last_s; at < memory.size(); at += sizeof(float)) {
    float value;
    std::memcpy(&value, memory.data() + at, sizeof value);
    is_finite = is_finite && std::isfinite(value);
  }
  if (!is_finite)
    throw std::invalid_argument("the memory holds a number that is not finite; wanted one that was saved");
  reset();
  std::memcpy(&last_input_s_, memory.data(), sizeof last_input_s_);
  std::memcpy(state_.data(), memory.data() + sizeof last_input_s_, state_.size() * sizeof(float));
  goes_on_ = true;
}

bool Person::take_frame() {
  const double spacing_s = checked_at_s_ - clock_.last_s();
  switch (clock_.take(checked_at_s_, notices_)) {
    case Clock::Frame::left_out: return false;
    case Clock::Frame::of_another_recording: end_clip(); break;
    case Clock::Frame::next: break;
  }
  if (std::isfinite(spacing_s)) doubts_.look_at_time(spacing_s, notices_);
  else if (lens_.is_off_centre())
    notices_.add(Notice::other_lens, [] {
      return "the lens is centred far from the middle of the picture: are its intrinsics those of a picture of another "
             "size?";
    });
  if (is_detected_) {
    adapter_(keypoints_.data(), joints_norm_.data(), note_.confidence.data(), has_depths_ ? depth_m_.data() : nullptr,
             joint_depth_m_.data());
    doubts_.look_at_frame(reading_, joints_norm_.data(), note_.confidence.data(), notices_);
    for (std::size_t i = 0; i < joints_norm_.size(); i += 2)
      for (std::size_t c = 0; c < 2; c++)
        joints_norm_[i + c] = lens_.is_known() ? (joints_norm_[i + c] - centre_[c]) * scale_[c]
                                               : joints_norm_[i + c] * scale_[c] - centre_[c];
    const bool root_is_seen = note_.confidence[(std::size_t)root_] >= seen_above_;
    if (!window_.is_continued_by(root_is_seen ? joints_norm_.data() + 2 * root_ : nullptr, checked_at_s_)) end_clip();
    if (sides_) mend_sides();
    if (hold_(joints_norm_.data(), note_.confidence.data(), checked_at_s_)) {
      note_.is_seen = hold_.is_seen();
      note_.depth_m = has_depths_ ? joint_depth_m_ : undetected_.depth_m;
      if (has_depths_) measure_depths();
      fill(true);
      return window_.push(frame_.data(), checked_at_s_, note_);
    }
  }
  fill(false);
  const bool is_new = window_.repeat(frame_.data(), checked_at_s_, undetected_);
  if (window_.is_empty()) end_clip();
  return is_new;
}

bool Person::takes(Input input) const { return std::count(inputs_.begin(), inputs_.end(), input) > 0; }

// The joints' depths relative to the median of the known ones, as in training.
void Person::measure_depths() {
  for (std::size_t j = 0; j < joint_depth_m_.size(); j++)
    if (!note_.is_seen[j]) joint_depth_m_[j] = NAN;
  known_m_.clear();
  std::copy_if(joint_depth_m_.begin(), joint_depth_m_.end(), std::back_inserter(known_m_),
               [](double z) { return !std::isnan(z); });
  if (known_m_.empty()) return;
  const auto middle = known_m_.begin() + (std::ptrdiff_t)(known_m_.size() - 1) / 2;
  std::nth_element(known_m_.begin(), middle, known_m_.end());
  for (double& z : joint_depth_m_)
    if (!std::isnan(z)) z = std::clamp(z - *middle, -kMostRelativeDepthM, kMostRelativeDepthM);
}

// The angle of a joint's ray above the horizon.
double Person::elevation(const double* placed_norm) const {
  // The keypoints are already in the H36M lens.
  const double ray[3] = {placed_norm[0] / kH36mFocal, placed_norm[1] / kH36mFocal, 1};
  const double sine = (ray[0] * up_[0] + ray[1] * up_[1] + ray[2] * up_[2]) / std::hypot(ray[0], ray[1], ray[2]);
  return std::asin(std::clamp(sine, -1.0, 1.0));
}

// A column of the frame for the window, other than x and y.
double Person::column(Input input, std::size_t joint, bool is_placed) const {
  const bool is_measured = is_placed && has_depths_ && !std::isnan(joint_depth_m_[joint]);
  switch (input) {
    case Input::confidence: return is_placed && note_.is_seen[joint] ? note_.confidence[joint] : 0.0;
    case Input::length: return length_[joint];
    case Input::length_known: return length_[joint] > 0;
    case Input::depth: return is_measured ? joint_depth_m_[joint] : 0.0;
    case Input::depth_known: return is_measured;
    case Input::elevation: return has_gravity_ ? elevation(hold_.placed() + 2 * joint) : 0.0;
    case Input::gap: return rate_hz_ > 0 ? 1 / rate_hz_ : 0.0;  // in a window; take_input() knows the time itself
    default: return has_gravity_;
  }
}

// Makes the frame for the window. If the person was not detected, the joints stay where they last were.
void Person::fill(bool is_placed) {
  double* to = frame_.data();
  for (std::size_t j = 0; j < (std::size_t)joints_; j++) {
    for (const Input input : inputs_) {
      const bool is_place = input == Input::x || input == Input::y;
      if (!is_place) *to = column(input, j, is_placed);
      else if (is_placed) *to = hold_.placed()[2 * j + (input == Input::y)];
      to++;
    }
  }
}

void Person::keypoints_norm(float* to) const {
  const float* from = window_.target();
  for (int j = 0; j < joints_; j++, from += inputs_.size()) *to++ = from[0], *to++ = from[1];
}

bool Person::answer(const float* answer, double timestamp_s, bool was_reset, const Sight& sight, float* joints_m,
                    float* error_m, Root* root) {
  for (int j = 0; j < joints_; j++, answer += outputs()) {
    std::copy(answer, answer + 3, joints_m + 3 * j);
    if (has_error_) error_m[j] = answer[3];
  }
  if (was_reset) forget_motion();
  const bool has_height = height_m_ > 0;
  if (has_constant_bones_ || has_height) bones_.learn(joints_m, sight.is_seen, timestamp_s);
  if (smoothing_) (*smoothing_)(joints_m, timestamp_s);
  const double height_m = has_height ? bones_.height_m() : 0;
  double size = height_m > 0 ? height_m_ / height_m : 1;
  resize(size, joints_m, error_m);
  const double size_error = has_height ? kHeightSizeError : kSizeError;
  const bool is_placed = lens_.is_known() && place_(joints_m, sight, timestamp_s, size_error, root);
  if (height_m_ == kLearnHeight) resize(place_.size(), joints_m, error_m);
  last_input_s_ = timestamp_s, begins_anew_ = false;
  keep_answer(timestamp_s, was_reset, joints_m, error_m);
  return is_placed;
}

// What is known of a person's motion and, unless the caller tells people apart, of their body.
void Person::forget_motion() {
  if (smoothing_) smoothing_->reset();
  if (!is_one_person_) bones_.reset();
  place_.reset();
}

// Makes a pose `size` times as large; constant bones keep their lengths.
void Person::resize(double size, float* joints_m, float* error_m) {
  if (has_constant_bones_) bones_.project(joints_m, size);
  else if (size != 1)
    for (int i = 0; i < 3 * joints_; i++) joints_m[i] = (float)(joints_m[i] * size);
  if (size != 1 && has_error_)
    for (int j = 0; j < joints_; j++) error_m[j] = (float)(error_m[j] * size);
}

void Person::keep_answer(double timestamp_s, bool was_reset, const float* joints_m, const float* error_m) {
  const double step_s = timestamp_s - answered_at_s_;
  const bool is_moving = !was_reset && step_s > 0 && step_s <= kMostStepS;
  for (std::size_t i = 0; i < answered_m_.size(); i++) {
    velocity_m_s_[i] = is_moving ? (float)((joints_m[i] - answered_m_[i]) / step_s) : 0.0f;
    answered_m_[i] = joints_m[i];
  }
  if (has_error_) std::copy_n(error_m, joints_, answered_error_m_.begin());
  answered_at_s_ = timestamp_s, missed_reset_ = false;
}

double Person::predict(const Sight& sight, float* joints_m, float* error_m, Root* root, bool* is_placed) {
  notices_.add(Notice::not_lifted, [&] {
    return "somebody was not lifted at " + text(checked_at_s_) + " s, for the engine would have taken longer than "
           + text(1e3 * deadline_.limit_s()) + " ms: the pose is predicted (option deadline_ms)";
  });
  if (window_.was_reset()) answered_at_s_ = -HUGE_VAL, missed_reset_ = true;
  const double ahead_s = timestamp_s() - answered_at_s_;
  if (!(ahead_s > 0 && ahead_s < HUGE_VAL)) return 0;
  const float moved_s = (float)std::min(ahead_s, kMostPredictedS);
  for (std::size_t i = 0; i < answered_m_.size(); i++) joints_m[i] = answered_m_[i] + moved_s * velocity_m_s_[i];
  if (has_error_) std::copy(answered_error_m_.begin(), answered_error_m_.end(), error_m);
  if (has_constant_bones_) bones_.project(joints_m, 1);
  *is_placed = lens_.is_known() && place_(joints_m, sight, timestamp_s(), kSizeError, root);
  return ahead_s;
}

}  // namespace edgepose
