// Persons whose frames are pushed together, with one engine call for all.
#pragma once

#include <stdexcept>
#include <string>
#include <vector>

#include "person.h"

namespace edgepose {

// A batch with one frame of each person.
class Batch {
 public:
  // Throws std::invalid_argument if a person is listed twice, Busy if another thread uses one.
  explicit Batch(std::vector<Person*> persons);

  // Calls check(person, i) for each person. An exception from it names the person, and then nobody is changed.
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

  // Takes each person's checked frame; returns the indices of those with a new model input.
  const std::vector<std::size_t>& take();

  // The deadline of the push: the shortest of the persons'. There is at least one person.
  Deadline& deadline() const;
  // For each of asking() whether the engine shall lift the person: see Deadline.
  const std::vector<unsigned char>& choose();

  Person& operator[](std::size_t i) const { return *persons_[i]; }
  const std::vector<std::size_t>& asking() const { return asking_; }

  // The new model inputs of those chosen, one after the other: (N, T, J, columns).
  void windows(const std::vector<unsigned char>& is_chosen, float* to) const;

 private:
  std::vector<Person*> persons_;
  std::vector<Person::Claim> claims_;
  std::vector<std::size_t> asking_;
};

}  // namespace edgepose
