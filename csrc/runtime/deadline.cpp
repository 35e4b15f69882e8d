#include "deadline.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <stdexcept>

#include "text.h"

namespace edgepose {

namespace {

constexpr double kNewShare = 0.25;  // weight of the last call's time
constexpr double kSpare = 1.2;      // times the engine's usual time: calls differ
constexpr double kRetry = 0.9;      // factor on the usual time after a push without engine: one slow call is forgotten

double seconds_of(double deadline_ms) {
  if (deadline_ms >= 0 && deadline_ms < HUGE_VAL) return deadline_ms / 1e3;
  throw std::invalid_argument("deadline_ms is " + text(deadline_ms) + "; wanted a number above 0, or 0 for none");
}

double seconds(std::chrono::steady_clock::duration time) { return std::chrono::duration<double>(time).count(); }

}  // namespace

Deadline::Deadline(double deadline_ms) : limit_s_(seconds_of(deadline_ms)) {}

void Deadline::start() {
  if (is_set()) began_ = Time::now();
}

void Deadline::reserve(std::size_t people) { is_in_time_.reserve(people), order_.reserve(people); }

const std::vector<unsigned char>& Deadline::choose(const std::vector<double>& lifted_at_s) {
  const std::size_t people = lifted_at_s.size();
  is_in_time_.assign(people, 1), lifted_ = people;
  if (!is_set()) return is_in_time_;
  engine_began_ = Time::now();
  const double left_s = limit_s_ - seconds(engine_began_ - began_), one_s = kSpare * one_s_;
  if (people == 0 || one_s * (double)people <= std::max(left_s, 0.0)) return is_in_time_;
  lifted_ = one_s > 0 ? (std::size_t)std::max(left_s / one_s, 0.0) : 0;
  if (lifted_ == 0) one_s_ *= kRetry;
  order_.resize(people);
  std::iota(order_.begin(), order_.end(), 0);
  // Not std::stable_sort, which allocates.
  std::sort(order_.begin(), order_.end(), [&](std::size_t a, std::size_t b) {
    return lifted_at_s[a] < lifted_at_s[b] || (lifted_at_s[a] == lifted_at_s[b] && a < b);
  });
  for (std::size_t i = lifted_; i < people; i++) is_in_time_[order_[i]] = 0;
  return is_in_time_;
}

void Deadline::ran(Notices& notices) {
  if (!is_set() || lifted_ == 0) return;
  const Time::time_point now = Time::now();
  const double one_s = seconds(now - engine_began_) / (double)lifted_;
  one_s_ = one_s_ == 0 ? one_s : one_s_ + kNewShare * (one_s - one_s_);
  if (seconds(now - began_) > limit_s_)
    notices.add(Notice::late_push, [&] {
      return "a push took " + text(1e3 * seconds(now - began_)) + " ms; wanted " + text(1e3 * limit_s_)
             + " (option deadline_ms)";
    });
}

}  // namespace edgepose
