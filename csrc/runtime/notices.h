// Notices about a stream's input that its user should see: a count and a text for each kind.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>

namespace edgepose {

// A new kind is a line here, one in kNoticeNames, and one in edgepose.h, where the names are explained.
enum class Notice {
  bad_time,
  exchanged_sides,
  time_unit,
  outside_picture,
  proportions,
  lying,
  other_lens,
  duplicate_person,
  across_people,
  most_people,
  not_lifted,
  late_push,
  count
};

constexpr std::size_t kNoticeKinds = (std::size_t)Notice::count;
constexpr std::array<const char*, kNoticeKinds> kNoticeNames = {
    "bad_time",         "exchanged_sides", "time_unit",   "outside_picture", "proportions", "lying", "other_lens",
    "duplicate_person", "across_people",   "most_people", "not_lifted",      "late_push"};

// Counts since construction: a reset of the stream leaves them. Notices are added when a frame is taken, not when it is
// checked: a frame may be refused after its check.
class Notices {
 public:
  struct One {
    std::uint64_t times = 0;
    std::string text;  // "": none of this kind yet
    bool is_new = true;
  };

  // make_text() is called only for the first notice of a kind.
  template <class MakeText>
  void add(Notice kind, MakeText make_text) {
    One& one = kinds_[(std::size_t)kind];
    if (one.times++ == 0) one.text = make_text(), has_news_ = true;
  }

  const One& operator[](std::size_t kind) const { return kinds_[kind]; }

  // The next text that this function has not returned yet; null if there is none.
  const std::string* news() {
    if (!has_news_) return nullptr;
    for (One& one : kinds_)
      if (one.times && one.is_new) return one.is_new = false, &one.text;
    has_news_ = false;
    return nullptr;
  }

 private:
  std::array<One, kNoticeKinds> kinds_;
  bool has_news_ = false;
};

}  // namespace edgepose
