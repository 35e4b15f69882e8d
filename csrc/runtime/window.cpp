#include "window.h"

#include <algorithm>
#include <cstring>
#include <stdexcept>
#include <string>

#include "text.h"

namespace edgepose {

namespace {

// A camera whose frames are further apart than this many grid periods is slower than the grid: its frames are
// interpolated. Below, each grid frame takes the nearest camera frame, so that jitter costs no waiting.
constexpr double kSlower = 1.25;
// With a slower camera, a frame this near to a grid point (in periods) is used for it.
constexpr double kSnap = 0.1;
constexpr double kMaxJumpTorsos = 0.5;   // a longer jump in one frame means another person
// Frames further apart than this may show a larger jump, in proportion: half a torso in 0.04 s is 6 m/s.
constexpr double kJumpFrameS = 0.04;
// A camera that turns moves the whole picture: 60 degrees a second are 32 px a frame at 60 Hz, with people of 95 px. So
// a jump counts only if the motion between the last two frames, not further apart than this, does not predict it
// either, within a share of that motion.
constexpr double kMotionFrameS = 0.1;
constexpr double kMotionShare = 0.5;
constexpr double kMostGridFrames = 1e12;  // a longer gap, as from 0 to nanoseconds, exceeds a double's resolution

}  // namespace

Window::Window(int frames, const Skeleton& skeleton, int columns, double rate_hz, int delay_frames, double max_gap_s,
               bool is_causal, bool is_one_person)
    : frames_(frames),
      columns_(columns),
      width_(columns * skeleton.joints),
      max_gap_s_(max_gap_s),
      is_one_person_(is_one_person),
      after_(is_causal ? 0 : frames / 2),
      last_note_{std::vector<double>((std::size_t)skeleton.joints),
                 std::vector<unsigned char>((std::size_t)skeleton.joints),
                 std::vector<double>((std::size_t)skeleton.joints, NAN)},
      // The arguments are checked below: the limits here only prevent impossible sizes.
      ended_(std::max(frames, 1), width_, std::max(frames, 1) - 1 - after_, std::max(0, std::min(delay_frames, after_)),
             last_note_) {
  if (frames < 1 || frames % 2 == 0)
    throw std::invalid_argument("frames is " + std::to_string(frames)
                                + "; wanted an odd number: the answer is for the middle one");
  if (delay_frames < 0 || delay_frames > after_)
    throw std::invalid_argument(
        "delay_frames is " + std::to_string(delay_frames) + "; a " + (is_causal ? "causal " : "") + "window of "
        + std::to_string(frames) + " frame" + (frames > 1 ? "s" : "")
        + (after_ ? " takes 0 to " + std::to_string(after_) : " has no later ones to wait for: wanted 0"));
  if (!(rate_hz >= 0 && rate_hz <= kMostRateHz))
    throw std::invalid_argument("rate_hz is " + text(rate_hz) + "; wanted a positive number, at most "
                                + text(kMostRateHz) + ", or 0 for no resampling");
  if (!(max_gap_s >= 0)) throw std::invalid_argument("max_gap_s is " + text(max_gap_s) + "; wanted 0 or more seconds");
  period_s_ = rate_hz == 0 || frames == 1 ? 0.0 : 1.0 / rate_hz;
  target_ = frames - 1 - after_;
  repeats_ = after_ - delay_frames;
  int i = 0;
  for (const char* joint : {"pelvis", "thorax", "left_shoulder", "right_shoulder"}) {
    torso_[i] = skeleton.index(joint);
    if (torso_[i++] < 0)
      throw std::invalid_argument("skeleton '" + skeleton.name + "' has no joint '" + joint
                                  + "', by which people are told apart");
  }
  buffer_.resize((std::size_t)2 * frames * width_);
  last_.resize(width_), between_.resize(width_);
  answers_.assign((std::size_t)delay_frames + 1, {0, last_note_, 0});
  reset();
}

void Window::reset() {
  grid_frames_ = first_ = last_answer_ = 0;
  clip_++;
  ended_.clear();
  is_of_ended_ = false;
  seen_at_s_ = -HUGE_VAL;
}

void Window::end_clip() {
  const long held = last_answer_ - first_;
  const long waiting = held - (held == (long)answers_.size());  // the oldest of a full ring has been answered
  if (waiting) {
    const float* frame = buffer_.data() + (std::size_t)(end_ - repeats_ - waiting) * width_;
    const long past = ended_.waiting() ? 0 : target_;  // if others wait, no frame of this clip has been answered
    if (past) ended_.clear();
    for (long i = past; i > 0; i--) ended_.add_past(frame - i * width_, clip_);
    for (long i = last_answer_ - waiting; i < last_answer_; i++, frame += width_) ended_.add(frame, ring(i));
  }
  grid_frames_ = first_ = last_answer_ = 0;
  clip_++;
}

bool Window::is_continued_by(const double* pelvis_norm, double timestamp_s) const {
  if (is_empty()) return true;
  const double gap_s = timestamp_s - seen_at_s_;
  if (gap_s > max_gap_s_ || (period_s_ > 0 && gap_s > kMostGridFrames * period_s_)) return false;
  if (!pelvis_norm || is_one_person_) return true;
  const auto distance = [](const double* a, const double* b) { return std::hypot(a[0] - b[0], a[1] - b[1]); };
  const auto last = [&](int i) { return last_.data() + columns_ * torso_[i]; };
  const double jump = distance(last(0), pelvis_norm);
  // Seen from above, or bent towards the camera, a torso has no length; then its width counts.
  const double torso = std::max(distance(last(0), last(1)), distance(last(2), last(3)));
  const double most = kMaxJumpTorsos * torso * std::max(1.0, gap_s / kJumpFrameS);
  if (!(jump > most)) return true;
  const double led[2] = {speed_[0] * gap_s, speed_[1] * gap_s}, led_to[2] = {pelvis_[0] + led[0], pelvis_[1] + led[1]};
  return distance(led_to, pelvis_norm) <= std::max(most, kMotionShare * std::hypot(led[0], led[1]));
}

bool Window::push(const double* frame, double timestamp_s, const Note& note) {
  const double* pelvis = frame + columns_ * torso_[0];
  if (!is_continued_by(pelvis, timestamp_s)) end_clip();
  const double spacing_s = timestamp_s - seen_at_s_;
  for (int c = 0; c < 2; c++) {
    speed_[c] = spacing_s <= kMotionFrameS ? (pelvis[c] - pelvis_[c]) / spacing_s : 0.0;
    pelvis_[c] = pelvis[c];
  }
  seen_at_s_ = timestamp_s;
  return advance(frame, timestamp_s, note);
}

bool Window::repeat(const double* last_frame, double timestamp_s, const Note& note) {
  if (!is_empty() && timestamp_s - seen_at_s_ > max_gap_s_) end_clip();
  return is_empty() ? is_due(1) : advance(last_frame, timestamp_s, note);
}

bool Window::flush() {
  end_clip();
  if (ended_.waiting()) return is_due(1);
  reset();
  return false;
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
  return is_due(grid_frames_ - before);
}

// Finds the frame whose answer is due after `steps` grid steps, if any. Several steps at once, as from a slower camera
// or while an ended clip waits, give one answer, for the newest of their frames.
bool Window::is_due(long steps) {
  const bool is_full = last_answer_ - first_ == (long)answers_.size();
  const long waiting = ended_.waiting();
  is_of_ended_ = steps > 0 && waiting > 0 && (waiting >= steps || !is_full);
  if (is_of_ended_) ended_.take(std::min(steps, waiting) - 1);
  else if (steps == 0 || !is_full) return false;
  else ended_.clear();
  was_reset_ = answer().clip != answered_clip_;
  answered_clip_ = answer().clip;
  return true;
}

void Window::write(int first, int end, const double* frame) {
  for (float* to = buffer_.data() + (std::size_t)first * width_; first < end; first++)
    for (int i = 0; i < width_; i++) *to++ = (float)frame[i];
}

void Window::answer_for(double timestamp_s, const Note& note) {
  Answer& answer = ring(last_answer_);
  answer.timestamp_s = timestamp_s;
  answer.note = note;
  answer.clip = clip_;
  last_answer_++;
  if (last_answer_ - first_ > (long)answers_.size()) first_++;
}

// Makes room for one more frame at the end.
void Window::slide() {
  if (end_ == 2 * frames_) {
    std::memmove(buffer_.data(), buffer_.data() + (std::size_t)(frames_ + 1) * width_,
                 sizeof(float) * (frames_ - 1) * width_);
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
  // The nearest frame to a grid point is known once no later one can be nearer: half a spacing before the point.
  const double ahead_s = is_slower ? kSnap * period_s_ : 0.5 * std::min(spacing_s, period_s_);
  // After a gap of hours many grid points are due at once; only the last T are ever seen.
  grid_frames_ = std::max(grid_frames_, (long)((timestamp_s + ahead_s - start_s_) / period_s_) - frames_);
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
