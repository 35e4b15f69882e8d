#include "stream.h"

#include <algorithm>
#include <stdexcept>

#include "text.h"

namespace edgepose {

namespace {

Note blank(const Skeleton& skeleton) {
  return {std::vector<double>((std::size_t)skeleton.joints), std::vector<unsigned char>((std::size_t)skeleton.joints)};
}

}  // namespace

Stream::Stream(std::shared_ptr<const Engine> engine, const std::string& layout, double width_px, double height_px,
               const StreamOptions& options)
    : engine_(std::move(engine)),
      adapter_(layout, engine_->skeleton()),
      has_lens_(options.fx != 0 || options.fy != 0 || options.cx != 0 || options.cy != 0),
      root_(engine_->skeleton().root()),
      hold_(engine_->skeleton(), options.seen_above, kLostShare * options.seen_above, options.hold_s),
      window_(engine_->frames(), engine_->skeleton(), options.rate_hz, options.delay_frames, options.max_gap_s, engine_->is_causal()),
      undetected_(blank(engine_->skeleton())),
      note_(undetected_) {
  if (engine_->inputs().size() != 2 || engine_->outputs().size() != 3)
    throw std::invalid_argument("the model takes " + std::to_string(engine_->inputs().size()) + " columns and answers "
                                + std::to_string(engine_->outputs().size()) + "; a stream is for models of x, y and x, y, z");
  if (!(width_px > 0 && width_px < HUGE_VAL && height_px > 0 && height_px < HUGE_VAL))
    throw std::invalid_argument("image_size is (" + text(width_px) + ", " + text(height_px) + "); wanted two positive numbers of pixels");
  const bool is_lens = options.fx > 0 && options.fx < HUGE_VAL && options.fy > 0 && options.fy < HUGE_VAL && std::isfinite(options.cx)
                       && std::isfinite(options.cy);
  if (has_lens_ && !is_lens)
    throw std::invalid_argument("fx, fy, cx, cy are " + text(options.fx) + ", " + text(options.fy) + ", " + text(options.cx) + ", "
                                + text(options.cy) + "; wanted four finite numbers of pixels, fx and fy positive");
  scale_[0] = has_lens_ ? kH36mFocal / options.fx : 2.0 / width_px, scale_[1] = has_lens_ ? kH36mFocal / options.fy : 2.0 / width_px;
  centre_[0] = has_lens_ ? options.cx : 1.0, centre_[1] = has_lens_ ? options.cy : height_px / width_px;
  const std::size_t joints = (std::size_t)engine_->skeleton().joints;
  if (options.min_cutoff_hz != 0) smoothing_.emplace(options.min_cutoff_hz, options.beta, options.d_cutoff_hz, (int)(3 * joints));
  keypoints_.resize((std::size_t)3 * adapter_.layout().keypoints);
  joints_.resize(2 * joints);
  joints_m_.resize(3 * joints);
  confidence_.resize(joints);
  reset();
}

void Stream::reset() {
  window_.reset();
  hold_.reset();
  pushed_at_s_ = -HUGE_VAL;
  is_flushing_ = false;
}

bool Stream::push(const float* keypoints_px, long keypoints, long columns, double timestamp_s) {
  check(keypoints_px, keypoints, columns, timestamp_s);
  const Engine::Turn turn(*engine_);  // before anything changes: nothing after it can fail
  if (!take(keypoints_px, timestamp_s)) return false;
  answer(turn);
  return true;
}

bool Stream::flush() {
  const Engine::Turn turn(*engine_);
  is_flushing_ = window_.flush();
  if (is_flushing_) answer(turn);
  else reset();
  return is_flushing_;
}

void Stream::answer(const Engine::Turn& turn) {
  turn->run(window_.keypoints_norm(), joints_m_.data(), 1);
  if (smoothing_) {
    if (window_.was_reset()) smoothing_->reset();
    (*smoothing_)(joints_m_.data(), window_.timestamp_s());
  }
  std::copy(window_.note().confidence.begin(), window_.note().confidence.end(), confidence_.begin());
}

// The frame into keypoints_. What is refused here is as if never pushed.
void Stream::check(const float* keypoints_px, long keypoints, long columns, double timestamp_s) {
  if (is_flushing_) throw std::invalid_argument("the stream is being flushed; flush it until there is no pose, or reset it");
  if (!(timestamp_s > pushed_at_s_ && timestamp_s < HUGE_VAL))
    throw std::invalid_argument("timestamp_s is " + text(timestamp_s) + " after " + text(pushed_at_s_) + "; wanted a later, finite time");
  if (!keypoints_px) return;
  const long wanted = adapter_.layout().keypoints;
  if (keypoints != wanted || (columns != 2 && columns != 3)) {
    const std::string k = std::to_string(wanted);
    throw std::invalid_argument("keypoints_px has shape (" + std::to_string(keypoints) + ", " + std::to_string(columns) + "); layout \""
                                + adapter_.layout().name + "\" needs (" + k + ", 2) or (" + k + ", 3)");
  }
  const auto is_whole = [](double value) { return std::fabs(value) <= kMostPx; };
  bool all = true;
  for (long k = 0; k < keypoints; k++) {
    double* to = keypoints_.data() + 3 * k;
    std::copy(keypoints_px + k * columns, keypoints_px + (k + 1) * columns, to);
    if (columns == 2) to[2] = to[0] != 0 || to[1] != 0;  // detectors mark what they did not find as (0, 0)
    all = all && is_whole(to[0]) && is_whole(to[1]) && is_whole(to[2]);
  }
  double most = 0;
  for (long k = 0; k < keypoints; k++) {
    double* to = keypoints_.data() + 3 * k;
    if (!all && columns == 3 && to[2] == 0) to[0] = to[1] = 0;  // not found: it may hold anything
    if (!is_whole(to[0]) || !is_whole(to[1]) || !is_whole(to[2]))
      throw std::invalid_argument("keypoint " + std::to_string(k) + " is (" + text(to[0]) + ", " + text(to[1])
                                  + (columns == 3 ? ", " + text(to[2]) : "") + "); wanted finite pixels within " + text(kMostPx)
                                  + ", or confidence 0 if it was not found");
    most = std::max({most, std::fabs(to[0]), std::fabs(to[1])});
  }
  if (most > 0 && most <= kLeastPx)
    throw std::invalid_argument("keypoints_px are all within " + text(kLeastPx) + " px of the corner, as normalised ones are; wanted pixels: "
                                "coordinates from 0 to 1 times the picture's width and height");
}

bool Stream::take(bool is_detected, double timestamp_s) {
  pushed_at_s_ = timestamp_s;
  if (is_detected) {
    adapter_(keypoints_.data(), joints_.data(), note_.confidence.data());
    for (std::size_t i = 0; i < joints_.size(); i += 2) {
      for (int c = 0; c < 2; c++)
        joints_[i + c] = has_lens_ ? (joints_[i + c] - centre_[c]) * scale_[c] : joints_[i + c] * scale_[c] - centre_[c];
    }
    // Before Hold: what it remembers of one person must not fill in another.
    const bool root_is_seen = note_.confidence[root_] >= hold_.seen_above();
    if (!window_.is_continued_by(root_is_seen ? joints_.data() + 2 * root_ : nullptr, timestamp_s)) hold_.reset();
    if (hold_(joints_.data(), note_.confidence.data(), timestamp_s)) {
      note_.is_seen = hold_.is_seen();
      return window_.push(hold_.placed(), timestamp_s, note_);
    }
  }
  const bool is_new = window_.repeat_last(timestamp_s, undetected_);
  if (window_.is_empty()) hold_.reset();
  return is_new;
}

}  // namespace edgepose
