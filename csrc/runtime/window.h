// The last T frames of one person on a grid of fixed rate, as edgepose/window.py has and explains it.
#pragma once

#include <vector>

#include "layouts.h"

namespace edgepose {

// What a frame says of its joints, beside where they are.
struct Note {
  std::vector<double> confidence;
  std::vector<unsigned char> is_seen;
};

class Window {
 public:
  // rate_hz: the grid; 0: every pushed frame is a grid frame. Throws std::invalid_argument if an argument is out of range.
  Window(int frames, const Skeleton& skeleton, double rate_hz, int delay_frames, double max_gap_s, bool is_causal);

  void reset();
  bool is_empty() const { return grid_frames_ == 0; }

  // The model's input, (T, J, 2), valid until the next push.
  const float* keypoints_norm() const { return buffer_.data() + (std::size_t)(end_ - frames_) * width_; }
  // Of the frame that the model's answer belongs to.
  const float* target() const { return keypoints_norm() + (std::size_t)target_ * width_; }
  double timestamp_s() const { return answers_[oldest()].timestamp_s; }
  const Note& note() const { return answers_[oldest()].note; }
  bool was_reset() const { return was_reset_; }

  // Whether a frame would be of the same person without too long a gap. pelvis_norm: null if it was not seen.
  bool is_continued_by(const double* pelvis_norm, double timestamp_s) const;

  // Adds a camera frame, keypoints_norm[J][2]; whether there is a new window to answer for.
  bool push(const double* keypoints_norm, double timestamp_s, const Note& note);

  // The person was not detected: the last frame stands in. Whether there is a new window to answer for.
  bool repeat_last(double timestamp_s, const Note& note);

  // The recording has ended: whether the window now stands at the next frame that has had no answer yet; if there is none, it is
  // empty. The newest grid frame is repeated for those after it.
  bool flush();

 private:
  struct Answer {
    double timestamp_s = 0;
    Note note;
  };

  bool advance(const double* keypoints_norm, double timestamp_s, const Note& note);
  void append(const double* keypoints_norm, double timestamp_s, const Note& note);
  void slide();
  void resample(const double* keypoints_norm, double timestamp_s, const Note& note);
  void write(int first, int end, const double* keypoints_norm);
  void answer_for(double timestamp_s, const Note& note);
  std::size_t oldest() const { return (std::size_t)(first_ % (long)answers_.size()); }

  const int frames_, width_;  // floats a frame
  const double max_gap_s_;
  double period_s_;  // 0: no grid
  int target_, repeats_, torso_[4];
  // The window is the T frames before end_; the last repeats_ of them are copies. It slides through a buffer of twice its
  // length and is moved to the front once in T frames.
  std::vector<float> buffer_;
  int end_ = 0;
  long grid_frames_ = 0;
  std::vector<double> last_, between_;
  Note last_note_;
  double start_s_ = 0, last_s_ = 0, seen_at_s_ = 0;
  std::vector<Answer> answers_;  // a ring of delay_frames + 1
  long first_ = 0, last_answer_ = 0;  // of the frames put into the ring since the window was empty, those that are in it
  bool is_flushing_ = false;
  bool is_fresh_ = true, was_reset_ = false;
};

}  // namespace edgepose
