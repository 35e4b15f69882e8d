#include "person.h"

#include <algorithm>

#include "columns.h"
#include "text.h"

namespace edgepose {

namespace {

constexpr double kLostShare = 2.0 / 3;  // part of seen_above: a joint that was seen stays so until its confidence is below this
constexpr double kH36mFocal = 2.29;     // 2 f / w of the Human3.6M cameras, f = 1145 px in a picture w = 1000 px wide

Note blank(int joints) { return {std::vector<double>((std::size_t)joints), std::vector<unsigned char>((std::size_t)joints)}; }

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
                              + std::to_string(known.published) + " and any others of " + listed(known.names) + ", in this order");
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

}  // namespace

std::vector<Person::Input> Person::inputs_of(const Lifter& lifter) {
  check_columns(kInputs, lifter.inputs, "takes");
  std::vector<Input> inputs;
  for (const std::string& name : lifter.inputs)
    inputs.push_back((Input)(std::find(kInputs.names.begin(), kInputs.names.end(), name) - kInputs.names.begin()));
  return inputs;
}

Person::Person(const Lifter& lifter, const Layout& layout, double width_px, double height_px, const PersonOptions& options)
    : frames_(lifter.frames),
      joints_(lifter.skeleton.joints),
      root_(lifter.skeleton.root()),
      picture_{width_px, height_px},
      adapter_(layout, lifter.skeleton),
      inputs_(inputs_of(lifter)),
      has_error_(edgepose::has_error(lifter.outputs)),
      has_lens_(options.fx != 0 || options.fy != 0 || options.cx != 0 || options.cy != 0),
      rate_hz_(rate_of(lifter, options.rate_hz)),
      on_bad_time_(options.on_bad_time),
      length_(length_column(options.lengths_m, lifter.skeleton)),
      seen_above_(seen_above_of(lifter, options.seen_above)),
      hold_(lifter.skeleton, seen_above_, kLostShare * seen_above_, options.hold_s),
      window_(lifter.frames, lifter.skeleton, (int)inputs_.size(), rate_hz_, options.delay_frames, options.max_gap_s, lifter.is_causal),
      undetected_(blank(joints_)),
      doubts_(lifter.skeleton, picture_),
      note_(undetected_) {
  if (!(width_px >= 1 && width_px <= kMostPx && height_px >= 1 && height_px <= kMostPx))
    throw std::invalid_argument("image_size is (" + text(width_px) + ", " + text(height_px)
                                + "); wanted two numbers of pixels from 1 to " + text(kMostPx));
  const bool is_lens = options.fx > 0 && options.fx < HUGE_VAL && options.fy > 0 && options.fy < HUGE_VAL && std::isfinite(options.cx)
                       && std::isfinite(options.cy);
  if (has_lens_ && !is_lens)
    throw std::invalid_argument("fx, fy, cx, cy are " + text(options.fx) + ", " + text(options.fy) + ", " + text(options.cx) + ", "
                                + text(options.cy) + "; wanted four finite numbers of pixels, fx and fy positive");
  if (options.lengths_m != Lengths{} && std::find(inputs_.begin(), inputs_.end(), Input::length) == inputs_.end())
    throw std::invalid_argument("the model takes no lengths of a person; wanted none, or a model that does");
  scale_[0] = has_lens_ ? kH36mFocal / options.fx : 2.0 / width_px, scale_[1] = has_lens_ ? kH36mFocal / options.fy : 2.0 / width_px;
  centre_[0] = has_lens_ ? options.cx : 1.0, centre_[1] = has_lens_ ? options.cy : height_px / width_px;
  if (options.mend_sides) sides_.emplace(lifter.skeleton, seen_above_);
  if (options.min_cutoff_hz != 0) smoothing_.emplace(options.min_cutoff_hz, options.beta, options.d_cutoff_hz, 3 * joints_);
  keypoints_.resize((std::size_t)(3 * adapter_.keypoints()));
  joints_norm_.resize((std::size_t)(2 * joints_));
  frame_.resize((std::size_t)joints_ * inputs_.size());
  reset();
}

void Person::reset() {
  end_clip();
  window_.reset();
  pushed_at_s_ = -HUGE_VAL;
  is_flushing_ = false;
}

// What is remembered of one clip must not fill in another.
void Person::end_clip() {
  window_.end_clip();
  hold_.reset();
  if (sides_) sides_->reset();
}

void Person::mend_sides() {
  (*sides_)(joints_norm_.data(), note_.confidence.data(), pushed_at_s_);
  if (sides_->gave_up()) end_clip();
  if (sides_->has_exchanged())
    notices_.add(Notice::exchanged_sides, [&] {
      return "left and right are exchanged between two frames, at " + text(pushed_at_s_)
             + " s: they are exchanged back (option mend_sides)";
    });
}

bool Person::flush() {
  is_flushing_ = window_.flush();
  if (!is_flushing_) reset();
  return is_flushing_;
}

template <class Real>
void Person::check(const Real* keypoints_px, long keypoints, long columns, double timestamp_s) {
  if (is_flushing_) throw std::invalid_argument("the stream is being flushed; flush it until there is no pose, or reset it");
  const bool is_taken = on_bad_time_ != BadTime::refuse && std::isfinite(timestamp_s);
  if (!is_taken && !(timestamp_s > pushed_at_s_ && timestamp_s < HUGE_VAL))
    throw std::invalid_argument("timestamp_s is " + text(timestamp_s) + " after " + text(pushed_at_s_) + "; wanted a later, finite time");
  if (keypoints_px) check_keypoints(keypoints_px, keypoints, columns);
  is_detected_ = keypoints_px != nullptr;
  checked_at_s_ = timestamp_s;
}

template void Person::check(const float*, long, long, double);
template void Person::check(const double*, long, long, double);

template <class Real>
void Person::check_keypoints(const Real* keypoints_px, long keypoints, long columns) {
  const long wanted = adapter_.keypoints();
  if (keypoints != wanted || (columns != 2 && columns != 3)) {
    const std::string k = std::to_string(wanted);
    throw std::invalid_argument("keypoints_px has shape (" + std::to_string(keypoints) + ", " + std::to_string(columns) + "); layout \""
                                + adapter_.layout() + "\" needs (" + k + ", 2) or (" + k + ", 3)");
  }
  reading_ = read_keypoints(keypoints_px, (int)keypoints, (int)columns, picture_, keypoints_.data());
}

// Whether a frame whose time is not later is left out; if not, another recording begins with it.
bool Person::is_left_out() {
  const bool is_dropped = on_bad_time_ == BadTime::drop || checked_at_s_ == pushed_at_s_;
  notices_.add(Notice::bad_time, [&] {
    return "timestamp_s is " + text(checked_at_s_) + " after " + text(pushed_at_s_)
           + (is_dropped ? ": the frame is left out" : ": the stream starts over, as for another recording");
  });
  if (!is_dropped) end_clip();
  return is_dropped;
}

bool Person::take() {
  if (checked_at_s_ <= pushed_at_s_ && is_left_out()) return false;
  if (pushed_at_s_ != -HUGE_VAL) doubts_.look_at_time(checked_at_s_ - pushed_at_s_, notices_);
  pushed_at_s_ = checked_at_s_;
  if (is_detected_) {
    adapter_(keypoints_.data(), joints_norm_.data(), note_.confidence.data());
    doubts_.look_at_frame(reading_, joints_norm_.data(), note_.confidence.data(), notices_);
    for (std::size_t i = 0; i < joints_norm_.size(); i += 2)
      for (std::size_t c = 0; c < 2; c++)
        joints_norm_[i + c] = has_lens_ ? (joints_norm_[i + c] - centre_[c]) * scale_[c] : joints_norm_[i + c] * scale_[c] - centre_[c];
    const bool root_is_seen = note_.confidence[(std::size_t)root_] >= seen_above_;
    if (!window_.is_continued_by(root_is_seen ? joints_norm_.data() + 2 * root_ : nullptr, pushed_at_s_)) end_clip();
    if (sides_) mend_sides();
    if (hold_(joints_norm_.data(), note_.confidence.data(), pushed_at_s_)) {
      note_.is_seen = hold_.is_seen();
      fill(true);
      return window_.push(frame_.data(), pushed_at_s_, note_);
    }
  }
  fill(false);
  const bool is_new = window_.repeat(frame_.data(), pushed_at_s_, undetected_);
  if (window_.is_empty()) end_clip();
  return is_new;
}

// The columns of the frame that the window takes. Not detected, the joints stand where they last were, and nothing is known of them.
// The person's own lengths are the same in every frame. The place where depth and elevation come in; until then they are 0, not known.
void Person::fill(bool is_detected) {
  double* to = frame_.data();
  for (std::size_t j = 0; j < (std::size_t)joints_; j++) {
    for (const Input input : inputs_) {
      if (input == Input::x || input == Input::y) {
        if (is_detected) *to = hold_.placed()[2 * j + (input == Input::y)];
      } else if (input == Input::length || input == Input::length_known) {
        *to = input == Input::length ? length_[j] : length_[j] > 0;
      } else {
        *to = input == Input::confidence && is_detected && note_.is_seen[j] ? note_.confidence[j] : 0.0;
      }
      to++;
    }
  }
}

void Person::keypoints_norm(float* to) const {
  const float* from = window_.target();
  for (int j = 0; j < joints_; j++, from += inputs_.size()) *to++ = from[0], *to++ = from[1];
}

void Person::answer(const float* answer, double timestamp_s, bool was_reset, float* joints_m, float* error_m) {
  for (int j = 0; j < joints_; j++, answer += outputs()) {
    std::copy(answer, answer + 3, joints_m + 3 * j);
    if (has_error_) error_m[j] = answer[3];
  }
  if (!smoothing_) return;
  if (was_reset) smoothing_->reset();
  (*smoothing_)(joints_m, timestamp_s);
}

}  // namespace edgepose
