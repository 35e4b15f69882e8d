#include "window.h"

#include <algorithm>
#include <cstring>
#include <stdexcept>
#include <string>

#include "text.h"

namespace edgepose {

namespace {

// A camera whose frames are further apart than this many grid periods is slower than the grid: its frames are interpolated. Below,
// each grid frame takes the nearest camera frame, so that jitter costs no waiting.
constexpr double kSlower = 1.25;
constexpr double kSnap = 0.1;            // of a slower camera, a frame this near to a grid point (in periods) stands for it
constexpr double kMaxJumpTorsos = 0.5;   // further in one frame than half a torso is another person
// Frames further apart than this may show a larger jump, in proportion: half a torso in 0.04 s is 6 m/s.
constexpr double kJumpFrameS = 0.04;

}  // namespace

Window::Window(int frames, const Skeleton& skeleton, int columns, double rate_hz, int delay_frames, double max_gap_s, bool is_causal)
    : frames_(frames), columns_(columns), width_(columns * skeleton.joints), max_gap_s_(max_gap_s) {
  const int after = is_causal ? 0 : frames / 2;
  if (frames < 1 || frames % 2 == 0)
    throw std::invalid_argument("frames is " + std::to_string(frames) + "; wanted an odd number: the answer is for the middle one");
  if (delay_frames < 0 || delay_frames > after)
    throw std::invalid_argument("delay_frames is " + std::to_string(delay_frames) + "; a " + (is_causal ? "causal " : "") + "window of "
                                + std::to_string(frames) + " frame" + (frames > 1 ? "s" : "")
                                + (after ? " takes 0 to " + std::to_string(after) : " has no later ones to wait for: wanted 0"));
  if (!(rate_hz >= 0 && rate_hz < HUGE_VAL))
    throw std::invalid_argument("rate_hz is " + text(rate_hz) + "; wanted a positive number, or 0 for no resampling");
  if (!(max_gap_s >= 0)) throw std::invalid_argument("max_gap_s is " + text(max_gap_s) + "; wanted 0 or more seconds");
  period_s_ = rate_hz == 0 || frames == 1 ? 0.0 : 1.0 / rate_hz;
  target_ = frames - 1 - after;
  repeats_ = after - delay_frames;
  int i = 0;
  for (const char* joint : {"pelvis", "thorax", "left_shoulder", "right_shoulder"}) {
    torso_[i] = skeleton.index(joint);
    if (torso_[i++] < 0) throw std::invalid_argument("skeleton '" + skeleton.name + "' has no joint '" + joint + "', by which people are told apart");
  }
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
  const auto last = [&](int i) { return last_.data() + columns_ * torso_[i]; };
  const double jump = distance(last(0), pelvis_norm);
  // From above, or bent towards the camera, a torso has no length; its width is left.
  const double torso = std::max(distance(last(0), last(1)), distance(last(2), last(3)));
  return !(jump > kMaxJumpTorsos * torso * std::max(1.0, gap_s / kJumpFrameS));
}

bool Window::push(const double* frame, double timestamp_s, const Note& note) {
  if (!is_continued_by(frame + columns_ * torso_[0], timestamp_s)) reset();
  seen_at_s_ = timestamp_s;
  return advance(frame, timestamp_s, note);
}

bool Window::repeat(const double* last_frame, double timestamp_s, const Note& note) {
  if (is_empty()) return false;
  if (timestamp_s - seen_at_s_ > max_gap_s_) {
    reset();
    return false;
  }
  return advance(last_frame, timestamp_s, note);
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

bool Window::advance(const double* frame, double timestamp_s, const Note& note) {
  const long before = grid_frames_;
  if (before == 0) {
    start_s_ = timestamp_s;
    end_ = frames_;
    write(0, frames_, frame);
    grid_frames_ = 1;
    answer_for(timestamp_s, note);
  } else if (period_s_ == 0) {
    append(frame, timestamp_s, note);
  } else {
    resample(frame, timestamp_s, note);
  }
  std::copy(frame, frame + width_, last_.begin());
  last_s_ = timestamp_s;
  last_note_ = note;
  const bool is_new = grid_frames_ > before && last_answer_ - first_ == (long)answers_.size();
  if (is_new) was_reset_ = is_fresh_, is_fresh_ = false;
  return is_new;
}

void Window::write(int first, int end, const double* frame) {
  for (float* to = buffer_.data() + (std::size_t)first * width_; first < end; first++)
    for (int i = 0; i < width_; i++) *to++ = (float)frame[i];
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

void Window::append(const double* frame, double timestamp_s, const Note& note) {
  slide();
  write(end_ - 1 - repeats_, end_, frame);
  grid_frames_++;
  answer_for(timestamp_s, note);
}

void Window::resample(const double* frame, double timestamp_s, const Note& note) {
  const double spacing_s = timestamp_s - last_s_;
  const bool is_slower = spacing_s > kSlower * period_s_;
  // The nearest frame to a grid point is known once no later one can be nearer: half a spacing before it.
  const double ahead_s = is_slower ? kSnap * period_s_ : 0.5 * std::min(spacing_s, period_s_);
  for (;;) {
    const double grid_s = start_s_ + (double)grid_frames_ * period_s_;
    if (!(grid_s <= timestamp_s + ahead_s)) return;
    const double share = std::min((grid_s - last_s_) / spacing_s, 1.0);
    const bool is_nearer = share >= 0.5;
    const double* grid_frame = is_nearer ? frame : last_.data();
    if (is_slower && share < 1.0) {
      for (int i = 0; i < width_; i++) between_[i] = last_[i] + share * (frame[i] - last_[i]);
      grid_frame = between_.data();
    }
    append(grid_frame, grid_s, is_nearer ? note : last_note_);
  }
}

}  // namespace edgepose
