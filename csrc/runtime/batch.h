// Persons who are pushed together, with one call of the engine for all.
#pragma once

#include <stdexcept>
#include <string>
#include <vector>

#include "person.h"

namespace edgepose {

// For one frame of each.
class Batch {
 public:
  // Throws std::invalid_argument if one is listed twice, Busy if another thread uses one.
  explicit Batch(std::vector<Person*> persons);

  // Calls check(person, i) for each. What it throws names the person; nobody is changed then.
  template <class Check>
  void check(Check check) {
    for (std::size_t i = 0; i < persons_.size(); i++) {
      try {
        check(*persons_[i], i);
      } catch (const std::invalid_argument& error) {
        throw std::invalid_argument("person " + std::to_string(i) + ": " + error.what());
      }
    }
  }

  // Takes the checked frame of each: the places of those who have a question.
  const std::vector<std::size_t>& take();

  Person& operator[](std::size_t i) const { return *persons_[i]; }
  const std::vector<std::size_t>& asking() const { return asking_; }

  // The questions of those asking, one after the other: (N, T, J, columns).
  void windows(float* to) const;

 private:
  std::vector<Person*> persons_;
  std::vector<Person::Claim> claims_;
  std::vector<std::size_t> asking_;
};

}  // namespace edgepose
