// A limit on the time of a push: chooses the people whom the engine can lift in time.
#pragma once

#include <chrono>
#include <cstddef>
#include <vector>

#include "notices.h"

namespace edgepose {

// Remembers how long the engine takes for one person. An engine that has begun cannot be stopped, so the choice is made
// before; the clock is asked when a push begins, before the engine runs and after it. Without a limit it never is.
class Deadline {
 public:
  // deadline_ms: 0 for no limit. Throws std::invalid_argument if it is negative or not finite.
  explicit Deadline(double deadline_ms);

  bool is_set() const { return limit_s_ > 0; }
  double limit_s() const { return limit_s_; }

  // A push begins.
  void start();

  // Whether the engine shall lift each person with a new model input. lifted_at_s: for each, the time of the last pose
  // that the engine made, -infinity for none; the oldest come first. The engine is to run at once. Allocates nothing
  // for as many people as reserve() was told.
  const std::vector<unsigned char>& choose(const std::vector<double>& lifted_at_s);
  void reserve(std::size_t people);

  // The engine has answered for those chosen.
  void ran(Notices& notices);

 private:
  using Time = std::chrono::steady_clock;

  const double limit_s_;
  double one_s_ = 0;  // the engine's time for one person; 0: not known
  std::size_t lifted_ = 0;
  Time::time_point began_, engine_began_;
  std::vector<unsigned char> is_in_time_;
  std::vector<std::size_t> order_;
};

}  // namespace edgepose
