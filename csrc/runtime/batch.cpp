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

void Batch::windows(float* to) const {
  for (const std::size_t i : asking_) to = std::copy_n(persons_[i]->window(), persons_[i]->window_size(), to);
}

}  // namespace edgepose
