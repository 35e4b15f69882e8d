#include "ended.h"

#include <algorithm>

namespace edgepose {

Ended::Ended(int frames, int width, int before, int delay_frames, const Note& blank)
    : frames_(frames), width_(width), before_(before), answers_((std::size_t)(before + delay_frames + 1), {0, blank, 0}) {
  ring_.resize(answers_.size() * (std::size_t)width);
  window_.resize((std::size_t)frames * (std::size_t)width);
}

void Ended::add_past(const float* frame, long clip) {
  std::copy_n(frame, width_, ring_.data() + slot(end_) * (std::size_t)width_);
  answers_[slot(end_)].clip = clip;
  next_ = ++end_;
}

void Ended::add(const float* frame, const Answer& answer) {
  std::copy_n(frame, width_, ring_.data() + slot(end_) * (std::size_t)width_);
  answers_[slot(end_++)] = answer;
}

void Ended::take(long left_out) {
  next_ += left_out;
  const long oldest = std::max(0L, end_ - (long)answers_.size()), clip = answers_[slot(next_)].clip;
  long first = next_, last = next_;
  while (first > oldest && first > next_ - before_ && answers_[slot(first - 1)].clip == clip) first--;
  while (last + 1 < end_ && answers_[slot(last + 1)].clip == clip) last++;
  float* to = window_.data();
  for (long frame = next_ - before_; frame < next_ - before_ + frames_; frame++)
    to = std::copy_n(ring_.data() + slot(std::clamp(frame, first, last)) * (std::size_t)width_, width_, to);
  next_++;
}

}  // namespace edgepose
