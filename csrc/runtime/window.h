// The last T frames of one person on a grid of fixed rate, and the frame that the model's answer belongs to.
#pragma once

#include <vector>

#include "ended.h"
#include "layouts.h"

namespace edgepose {

constexpr double kMostRateHz = 1000;

// The input of a model that answers for the middle of T frames or, if it is causal, for the newest. Before the first
// frame the first is repeated. A frame has J joints with `columns` values each, x and y first.
//
// A gap, another person or a cut ends a clip, and the next frame begins another. Frames of the ended clip that still
// wait are answered meanwhile, oldest first, with its last frame repeated for those that are missing: the new clip
// needs as many frames before its own first answer.
class Window {
 public:
  // frames: T, odd. skeleton: that of the pushed joints; gives J and the torso. columns: the values of a joint.
  // rate_hz: the grid, at most kMostRateHz; 0, and always for a window of one frame: every pushed frame is a grid
  // frame. delay_frames: how many grid frames after the middle are real, 0 to (T - 1) / 2; the last one is repeated for
  // the rest. A causal model has no delay. max_gap_s: how long the last frame of a missing person is repeated; a longer
  // gap ends the clip. So does a pelvis that in one frame jumps by more than half a torso from its last position and
  // from its predicted one, unless is_one_person. Throws std::invalid_argument if an argument is out of range.
  Window(int frames, const Skeleton& skeleton, int columns, double rate_hz, int delay_frames, double max_gap_s,
         bool is_causal, bool is_one_person = false);

  // Forgets everything, also the frames that wait.
  void reset();
  // Ends the clip. Its frames that wait are answered with the next pushes, or by flush().
  void end_clip();
  // Whether the next frame begins a clip.
  bool is_empty() const { return grid_frames_ == 0; }
  // Whether it is empty and no frame of an ended clip waits.
  bool is_done() const { return is_empty() && ended_.waiting() == 0; }

  // The model's input, (T, J, columns), valid until the next push.
  const float* input() const {
    return is_of_ended_ ? ended_.window() : buffer_.data() + (std::size_t)(end_ - frames_) * width_;
  }
  // The frame that the model's answer belongs to.
  const float* target() const { return input() + (std::size_t)target_ * width_; }
  double timestamp_s() const { return answer().timestamp_s; }
  // The Note of that frame, or of the camera frame nearest to it.
  const Note& note() const { return answer().note; }
  // Whether this is the first answer of its clip.
  bool was_reset() const { return was_reset_; }

  // Whether a frame continues the clip: the same person without too long a gap. Any frame does in an empty window.
  // pelvis_norm: null if it was not seen: then only the gap is judged.
  bool is_continued_by(const double* pelvis_norm, double timestamp_s) const;

  // Adds a camera frame, (J, columns). A frame that does not continue the clip ends it and begins another. Returns
  // whether there is a new model input: not while the first delay_frames come in, nor for a frame that reaches no grid
  // point.
  bool push(const double* frame, double timestamp_s, const Note& note);

  // The person was not detected: the last frame is repeated, passed again because its confidences have changed. Returns
  // whether there is a new model input. Later than max_gap_s after the last real frame the clip ends.
  bool repeat(const double* last_frame, double timestamp_s, const Note& note);

  // The recording has ended: moves to the next frame without an answer. Returns false if there is none; the window is
  // then reset.
  bool flush();

 private:
  bool advance(const double* frame, double timestamp_s, const Note& note);
  bool is_due(long steps);
  void append(const double* frame, double timestamp_s, const Note& note);
  void slide();
  void resample(const double* frame, double timestamp_s, const Note& note);
  void write(int first, int end, const double* frame);
  void answer_for(double timestamp_s, const Note& note);
  Answer& ring(long frame) { return answers_[(std::size_t)(frame % (long)answers_.size())]; }
  const Answer& answer() const {
    return is_of_ended_ ? ended_.answer() : answers_[(std::size_t)(first_ % (long)answers_.size())];
  }

  const int frames_, columns_, width_;  // width_: floats a frame
  const double max_gap_s_;
  const bool is_one_person_;
  double period_s_;  // 0: no grid
  const int after_;  // frames of the window that are newer than the one its answer belongs to
  int target_, repeats_, torso_[4];
  // The window is the T frames before end_; the last repeats_ of them are copies. It slides through a buffer of twice
  // its length and is moved to the front once in T frames.
  std::vector<float> buffer_;
  int end_ = 0;
  long grid_frames_ = 0;
  std::vector<double> last_, between_;
  Note last_note_;
  double start_s_ = 0, last_s_ = 0, seen_at_s_ = 0;
  double pelvis_[2], speed_[2] = {0, 0};  // when last seen; its motion per second in the last two frames
  std::vector<Answer> answers_;  // a ring of delay_frames + 1
  // The numbers of the frames in the ring, counted since the window was empty.
  long first_ = 0, last_answer_ = 0;
  long clip_ = 0, answered_clip_ = -1;
  Ended ended_;
  bool is_of_ended_ = false, was_reset_ = false;  // for the answer that is due
};

}  // namespace edgepose
