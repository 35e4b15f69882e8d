// Clips that ended (by a gap, a cut or the end of the recording) while some of their frames still waited for answers.
#pragma once

#include <vector>

namespace edgepose {

// What is known of a frame's joints besides their positions.
struct Note {
  std::vector<double> confidence;
  std::vector<unsigned char> is_seen;
  std::vector<double> depth_m;  // from a depth camera; NaN where it measured none
};

// The frame that a model's answer belongs to.
struct Answer {
  double timestamp_s = 0;
  Note note;
  long clip = 0;  // the number of the clip
};

// Frames of several clips, oldest first, each with a window of its own clip: the last frame of the clip is repeated for
// those after it, as an off-line run pads a clip. Never more frames wait than a window's delay.
class Ended {
 public:
  // before: frames of a window that are older than the one its answer belongs to. delay_frames: how many may wait.
  // blank: a Note of the right sizes.
  Ended(int frames, int width, int before, int delay_frames, const Note& blank);

  void clear() { next_ = end_ = 0; }
  long waiting() const { return end_ - next_; }

  // Adds an answered frame of `clip`. Such frames, `before` of them and oldest first, precede those that wait. Allowed
  // only while none waits.
  void add_past(const float* frame, long clip);
  // Adds a frame that waits. If others wait, it is its clip's first frame or follows that clip's last.
  void add(const float* frame, const Answer& answer);

  // Drops the oldest `left_out` waiting frames, then takes the next one off and makes its window: see window() and
  // answer().
  void take(long left_out);
  const float* window() const { return window_.data(); }
  const Answer& answer() const { return answers_[slot(next_ - 1)]; }

 private:
  std::size_t slot(long frame) const { return (std::size_t)(frame % (long)answers_.size()); }

  const int frames_, width_, before_;
  long next_ = 0, end_ = 0;  // frame numbers, counted from the last clear()
  std::vector<float> ring_, window_;
  std::vector<Answer> answers_;  // one slot for each frame of the ring
};

}  // namespace edgepose
