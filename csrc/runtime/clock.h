// Checks that the times of frames increase, and handles those that do not.
#pragma once

#include "notices.h"

namespace edgepose {

constexpr double kMostTimeS = 1e15;  // a double this large still tells tenths of a second apart

// Handling of a frame whose time is not later than the last frame's.
enum class BadTime {
  refuse,
  drop,   // the frame is left out
  reset,  // an earlier time begins another recording; a frame with a repeated time is left out
};

class Clock {
 public:
  enum class Frame { next, left_out, of_another_recording };

  explicit Clock(BadTime on_bad_time) : on_bad_time_(on_bad_time) { reset(); }
  void reset();

  // Throws std::invalid_argument for a time that is not finite, is further than kMostTimeS from 0 or, unless
  // on_bad_time allows it, is not later than the last.
  void check(double timestamp_s) const;

  // Classifies a frame whose time was checked; a bad time is noted.
  Frame take(double timestamp_s, Notices& notices);

  double last_s() const { return last_s_; }

 private:
  const BadTime on_bad_time_;
  double last_s_;
};

}  // namespace edgepose
