// The last T frames of one person on a grid of fixed rate, and which of them the model's answer belongs to.
#pragma once

#include <vector>

#include "ended.h"
#include "layouts.h"

namespace edgepose {

// The input of a model that answers for the middle of T frames, or if it is causal for the newest. Before the first
// frame the first is repeated. A frame is J joints of so many columns each, x and y first.
//
// A gap, another person or a cut ends a clip, and the next frame begins another. The frames of the ended clip that wait
// for later ones are answered meanwhile, with its last frame in their place, oldest first: the new clip needs as many
// frames before its own first answer.
class Window {
 public:
  // frames: T, odd. skeleton: of the joints that will be pushed; gives J and the torso. columns: of a joint. rate_hz:
  // the grid; 0: every pushed frame is a grid frame. A window of one frame has no spacing and is always so.
  // delay_frames: how many grid frames after the middle are real, 0 to (T - 1) / 2; the last one is repeated for the
  // rest. A causal model needs none and takes none. max_gap_s: for how long a missing person's last frame is repeated;
  // a longer gap ends the clip. So does a pelvis that in one frame jumps by more than half a torso, from where it was
  // and from where its motion led, unless is_one_person. Throws std::invalid_argument if an argument is out of range.
  Window(int frames, const Skeleton& skeleton, int columns, double rate_hz, int delay_frames, double max_gap_s,
         bool is_causal, bool is_one_person = false);

  // Forgets everything, the frames that wait too.
  void reset();
  // The clip ends here. Frames of it that wait are answered with the pushes to come, or by flush().
  void end_clip();
  // Whether the next frame begins a clip.
  bool is_empty() const { return grid_frames_ == 0; }
  // Whether no frame of an ended clip waits either.
  bool is_done() const { return is_empty() && ended_.waiting() == 0; }

  // The model's input, (T, J, columns), valid until the next push.
  const float* input() const {
    return is_of_ended_ ? ended_.window() : buffer_.data() + (std::size_t)(end_ - frames_) * width_;
  }
  // Of the frame that the model's answer belongs to.
  const float* target() const { return input() + (std::size_t)target_ * width_; }
  double timestamp_s() const { return answer().timestamp_s; }
  // What was pushed along with that frame, or with the camera frame nearest to it.
  const Note& note() const { return answer().note; }
  // Whether this is the first answer of its clip.
  bool was_reset() const { return was_reset_; }

  // Whether a frame would be of the same person without too long a gap; any frame is, for an empty window. pelvis_norm:
  // null if it was not seen: then only the gap is judged.
  bool is_continued_by(const double* pelvis_norm, double timestamp_s) const;

  // Adds a camera frame, (J, columns); whether there is a new window to answer for. A frame that does not continue the
  // clip ends it and begins another. False while the first delay_frames come in, and for a frame that no grid point has
  // fallen to.
  bool push(const double* frame, double timestamp_s, const Note& note);

  // The person was not detected: the last frame stands in, given once more because its confidences are other ones now.
  // Whether there is a new window to answer for. Later than max_gap_s after the last real frame the clip ends.
  bool repeat(const double* last_frame, double timestamp_s, const Note& note);

  // The recording has ended: whether the window now stands at the next frame that has had no answer yet; if there is
  // none, it is as new.
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
  double pelvis_[2], speed_[2] = {0, 0};  // where it was seen last, and its motion a second between the last two frames
  std::vector<Answer> answers_;  // a ring of delay_frames + 1
  // The numbers of the frames in the ring, counted since the window was empty.
  long first_ = 0, last_answer_ = 0;
  long clip_ = 0, answered_clip_ = -1;
  Ended ended_;
  bool is_of_ended_ = false, was_reset_ = false;  // about the answer that is due
};

}  // namespace edgepose
