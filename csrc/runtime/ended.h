// Clips that have ended, by a gap, a cut or the end of the recording, while some of their frames still waited for their answers.
#pragma once

#include <vector>

namespace edgepose {

// What a frame says of its joints, beside where they are.
struct Note {
  std::vector<double> confidence;
  std::vector<unsigned char> is_seen;
};

// Whose answer a model's answer is.
struct Answer {
  double timestamp_s = 0;
  Note note;
  long clip = 0;  // by its number
};

// Frames of several clips, oldest first, each asked for with its own clip around it: the last frame of the clip is repeated for those after
// it, as an off-line run pads a clip. Frames that wait are never more than a window's delay.
class Ended {
 public:
  // before: frames of a window that are older than the one its answer belongs to. delay_frames: how many may wait. blank: of the joints.
  Ended(int frames, int width, int before, int delay_frames, const Note& blank);

  void clear() { next_ = end_ = 0; }
  long waiting() const { return end_ - next_; }

  // A frame of `clip` that has been answered: `before` of them, oldest first, come in front of those that wait. Only where none waits.
  void add_past(const float* frame, long clip);
  // A frame that waits. Where others do, it is its clip's first, or follows that clip's last.
  void add(const float* frame, const Answer& answer);

  // Leaves out so many of those that wait, makes the window of the next and takes it off: window() and answer() are its.
  void take(long left_out);
  const float* window() const { return window_.data(); }
  const Answer& answer() const { return answers_[slot(next_ - 1)]; }

 private:
  std::size_t slot(long frame) const { return (std::size_t)(frame % (long)answers_.size()); }

  const int frames_, width_, before_;
  long next_ = 0, end_ = 0;  // counted from the last clear()
  std::vector<float> ring_, window_;
  std::vector<Answer> answers_;  // a slot for each frame of the ring
};

}  // namespace edgepose
