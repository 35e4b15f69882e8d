#include "batch.h"

#include <algorithm>

namespace edgepose {

Batch::Batch(std::vector<Person*> persons) : persons_(std::move(persons)) {
  std::vector<Person*> sorted = persons_;
  std::sort(sorted.begin(), sorted.end());
  if (std::adjacent_find(sorted.begin(), sorted.end()) != sorted.end())
    throw std::invalid_argument("a stream is listed twice; wanted one stream per person");
  claims_.reserve(persons_.size()), asking_.reserve(persons_.size());
  for (Person* person : persons_) claims_.emplace_back(*person);
}

const std::vector<std::size_t>& Batch::take() {
  for (std::size_t i = 0; i < persons_.size(); i++)
    if (persons_[i]->take()) asking_.push_back(i);
  return asking_;
}

Deadline& Batch::deadline() const {
  Deadline* shortest = &persons_[0]->deadline();
  for (Person* person : persons_) {
    Deadline& deadline = person->deadline();
    if (deadline.is_set() && (!shortest->is_set() || deadline.limit_s() < shortest->limit_s())) shortest = &deadline;
  }
  return *shortest;
}

const std::vector<unsigned char>& Batch::choose() {
  std::vector<double> answered_at_s;
  for (const std::size_t i : asking_) answered_at_s.push_back(persons_[i]->answered_at_s());
  return deadline().choose(answered_at_s);
}

void Batch::windows(const std::vector<unsigned char>& is_chosen, float* to) const {
  for (std::size_t n = 0; n < asking_.size(); n++) {
    const Person& person = *persons_[asking_[n]];
    if (is_chosen[n]) to = std::copy_n(person.window(), person.window_size(), to);
  }
}

}  // namespace edgepose
