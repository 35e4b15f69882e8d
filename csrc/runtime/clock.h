// The times of frames: what is later than the last, and what becomes of a frame that is not.
#pragma once

#include "notices.h"

namespace edgepose {

// What becomes of a frame whose time is not later than the last one's.
enum class BadTime {
  refuse,
  drop,   // the frame is left out
  reset,  // an earlier time begins another recording; the frame of a repeated one is left out
};

class Clock {
 public:
  enum class Frame { next, left_out, of_another_recording };

  explicit Clock(BadTime on_bad_time) : on_bad_time_(on_bad_time) { reset(); }
  void reset();

  // Throws std::invalid_argument for a time that take() does not take: that is not finite or, unless on_bad_time says
  // otherwise, not later.
  void check(double timestamp_s) const;

  // What a frame of a checked time is; a bad time is noted.
  Frame take(double timestamp_s, Notices& notices);

  double last_s() const { return last_s_; }

 private:
  const BadTime on_bad_time_;
  double last_s_;
};

}  // namespace edgepose
