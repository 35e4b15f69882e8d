#include "window.h"

#include <algorithm>
#include <cstring>
#include <stdexcept>
#include <string>

#include "text.h"

namespace edgepose {

Window::Window(int frames, const Skeleton& skeleton, double rate_hz, int delay_frames, double max_gap_s, bool is_causal)
    : frames_(frames), width_(2 * skeleton.joints), max_gap_s_(max_gap_s) {
  const int after = is_causal ? 0 : frames / 2;
  if (frames < 1 || frames % 2 == 0)
    throw std::invalid_argument("frames is " + std::to_string(frames) + "; wanted an odd number: the answer is for the middle one");
  if (delay_frames < 0 || delay_frames > after)
    throw std::invalid_argument("delay_frames is " + std::to_string(delay_frames) + "; a " + (is_causal ? "causal " : "") + "window of "
                                + std::to_string(frames) + " frames takes 0 to " + std::to_string(after));
  if (!(rate_hz >= 0 && rate_hz < HUGE_VAL))
    throw std::invalid_argument("rate_hz is " + text(rate_hz) + "; wanted a positive number, or 0 for no resampling");
  if (!(max_gap_s >= 0)) throw std::invalid_argument("max_gap_s is " + text(max_gap_s) + "; wanted 0 or more seconds");
  period_s_ = rate_hz == 0 || frames == 1 ? 0.0 : 1.0 / rate_hz;
  target_ = frames - 1 - after;
  repeats_ = after - delay_frames;
  int i = 0;
  for (const char* joint : {"pelvis", "thorax", "left_shoulder", "right_shoulder"}) torso_[i++] = skeleton.index(joint);
  buffer_.resize((std::size_t)2 * frames * width_);
  last_.resize(width_), between_.resize(width_);
  last_note_ = {std::vector<double>(skeleton.joints), std::vector<unsigned char>(skeleton.joints)};
  answers_.assign((std::size_t)delay_frames + 1, {0, last_note_});
  reset();
}

void Window::reset() {
  grid_frames_ = 0;
  is_fresh_ = true;
  first_ = last_answer_ = 0;
  is_flushing_ = false;
}

bool Window::is_continued_by(const double* pelvis_norm, double timestamp_s) const {
  if (is_empty()) return true;
  const double gap_s = timestamp_s - seen_at_s_;
  if (gap_s > max_gap_s_) return false;
  if (!pelvis_norm) return true;
  const auto distance = [](const double* a, const double* b) { return std::hypot(a[0] - b[0], a[1] - b[1]); };
  const auto last = [&](int i) { return last_.data() + 2 * torso_[i]; };
  const double jump = distance(last(0), pelvis_norm);
  // From above, or bent towards the camera, a torso has no length; its width is left.
  const double torso = std::max(distance(last(0), last(1)), distance(last(2), last(3)));
  return !(jump > kMaxJumpTorsos * torso * std::max(1.0, gap_s / kJumpFrameS));
}

bool Window::push(const double* keypoints_norm, double timestamp_s, const Note& note) {
  if (!is_continued_by(keypoints_norm + 2 * torso_[0], timestamp_s)) reset();
  seen_at_s_ = timestamp_s;
  return advance(keypoints_norm, timestamp_s, note);
}

bool Window::repeat_last(double timestamp_s, const Note& note) {
  if (is_empty()) return false;
  if (timestamp_s - seen_at_s_ > max_gap_s_) {
    reset();
    return false;
  }
  return advance(last_.data(), timestamp_s, note);
}

bool Window::flush() {
  const long waiting = (long)answers_.size() - (last_answer_ - first_);
  const long copies = is_flushing_ || waiting == 0 ? 1 : waiting;
  if (is_flushing_ || waiting == 0) first_++;  // has been answered
  is_flushing_ = true;
  if (is_empty() || first_ == last_answer_) {
    reset();
    return false;
  }
  for (long i = 0; i < copies; i++) {
    slide();
    std::copy_n(buffer_.data() + (std::size_t)(end_ - 2) * width_, width_, buffer_.data() + (std::size_t)(end_ - 1) * width_);
  }
  was_reset_ = is_fresh_, is_fresh_ = false;
  return true;
}

bool Window::advance(const double* keypoints_norm, double timestamp_s, const Note& note) {
  const long before = grid_frames_;
  if (before == 0) {
    start_s_ = timestamp_s;
    end_ = frames_;
    write(0, frames_, keypoints_norm);
    grid_frames_ = 1;
    answer_for(timestamp_s, note);
  } else if (period_s_ == 0) {
    append(keypoints_norm, timestamp_s, note);
  } else {
    resample(keypoints_norm, timestamp_s, note);
  }
  if (keypoints_norm != last_.data()) std::copy(keypoints_norm, keypoints_norm + width_, last_.begin());
  last_s_ = timestamp_s;
  last_note_ = note;
  const bool is_new = grid_frames_ > before && last_answer_ - first_ == (long)answers_.size();
  if (is_new) was_reset_ = is_fresh_, is_fresh_ = false;
  return is_new;
}

void Window::write(int first, int end, const double* keypoints_norm) {
  for (float* to = buffer_.data() + (std::size_t)first * width_; first < end; first++)
    for (int i = 0; i < width_; i++) *to++ = (float)keypoints_norm[i];
}

void Window::answer_for(double timestamp_s, const Note& note) {
  Answer& answer = answers_[(std::size_t)(last_answer_ % (long)answers_.size())];
  answer.timestamp_s = timestamp_s;
  answer.note = note;
  last_answer_++;
  if (last_answer_ - first_ > (long)answers_.size()) first_++;
}

// Makes room for one frame more at the end.
void Window::slide() {
  if (end_ == 2 * frames_) {
    std::memmove(buffer_.data(), buffer_.data() + (std::size_t)(frames_ + 1) * width_, sizeof(float) * (frames_ - 1) * width_);
    end_ = frames_ - 1;
  }
  end_++;
}

void Window::append(const double* keypoints_norm, double timestamp_s, const Note& note) {
  slide();
  write(end_ - 1 - repeats_, end_, keypoints_norm);
  grid_frames_++;
  answer_for(timestamp_s, note);
}

void Window::resample(const double* keypoints_norm, double timestamp_s, const Note& note) {
  const double spacing_s = timestamp_s - last_s_;
  const bool is_slower = spacing_s > kSlower * period_s_;
  // The nearest frame to a grid point is known once no later one can be nearer: half a spacing before it.
  const double ahead_s = is_slower ? kSnap * period_s_ : 0.5 * std::min(spacing_s, period_s_);
  for (;;) {
    const double grid_s = start_s_ + (double)grid_frames_ * period_s_;
    if (!(grid_s <= timestamp_s + ahead_s)) return;
    const double share = std::min((grid_s - last_s_) / spacing_s, 1.0);
    const bool is_nearer = share >= 0.5;
    const double* frame = is_nearer ? keypoints_norm : last_.data();
    if (is_slower && share < 1.0) {
      for (int i = 0; i < width_; i++) between_[i] = last_[i] + share * (keypoints_norm[i] - last_[i]);
      frame = between_.data();
    }
    append(frame, grid_s, is_nearer ? note : last_note_);
  }
}

}  // namespace edgepose
