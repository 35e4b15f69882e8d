#include "clock.h"

#include <cmath>
#include <stdexcept>

#include "text.h"

namespace edgepose {

void Clock::reset() { last_s_ = -HUGE_VAL; }

void Clock::check(double timestamp_s) const {
  if (std::isfinite(timestamp_s) && std::fabs(timestamp_s) > kMostTimeS)
    throw std::invalid_argument("timestamp_s is " + text(timestamp_s) + "; wanted seconds, at most " + text(kMostTimeS)
                                + " from 0");
  const bool is_taken = on_bad_time_ != BadTime::refuse && std::isfinite(timestamp_s);
  if (!is_taken && !(timestamp_s > last_s_ && timestamp_s < HUGE_VAL))
    throw std::invalid_argument("timestamp_s is " + text(timestamp_s) + " after " + text(last_s_)
                                + "; wanted a later, finite time");
}

Clock::Frame Clock::take(double timestamp_s, Notices& notices) {
  if (timestamp_s > last_s_) return last_s_ = timestamp_s, Frame::next;
  const bool is_dropped = on_bad_time_ == BadTime::drop || timestamp_s == last_s_;
  notices.add(Notice::bad_time, [&] {
    return "timestamp_s is " + text(timestamp_s) + " after " + text(last_s_)
           + (is_dropped ? ": the frame is left out" : ": the stream starts over, as for another recording");
  });
  if (is_dropped) return Frame::left_out;
  return last_s_ = timestamp_s, Frame::of_another_recording;
}

}  // namespace edgepose
