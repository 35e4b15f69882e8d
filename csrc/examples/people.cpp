// Follows several people: people ENGINE LAYOUT WIDTH HEIGHT JOINT < detections.csv
//
// detections.csv: a line a frame, people side by side in the order of a tracker, "seconds; x, y, confidence, x, ...; x,
// y, ...": an empty field where somebody was not found, and as many fields in every line. All people of a frame go
// through the engine in one call. Prints for each person where the joint is: "seconds person x y z", metres from that
// person's pelvis.
#include <cstdio>
#include <deque>
#include <edgepose.hpp>
#include <iostream>
#include <sstream>

namespace {

std::vector<float> numbers_of(const std::string& text) {
  std::istringstream fields(text);
  std::vector<float> numbers;
  for (std::string field; std::getline(fields, field, ',');) {
    if (field.find_first_not_of(" \r") != field.npos) numbers.push_back(std::stof(field));
  }
  return numbers;
}

}  // namespace

int main(int argc, char** argv) try {
  if (argc != 6) {
    std::cerr << "usage: people ENGINE LAYOUT WIDTH HEIGHT JOINT < detections.csv\n";
    return 2;
  }
  const edgepose::Engine engine(argv[1]);
  const int joint = engine.index(argv[5]);
  std::deque<edgepose::Stream> people;  // one per person, all on one engine
  for (std::string line, field; std::getline(std::cin, line);) {
    std::istringstream fields(line);
    std::getline(fields, field, ';');
    const double timestamp_s = std::stod(field);
    std::vector<std::vector<float>> seen;
    while (std::getline(fields, field, ';')) seen.push_back(numbers_of(field));
    while (people.size() < seen.size()) people.emplace_back(engine, argv[2], std::stod(argv[3]), std::stod(argv[4]));
    std::vector<edgepose::Stream*> streams;
    std::vector<std::optional<edgepose::View<float>>> keypoints_px;
    for (std::size_t i = 0; i < seen.size(); i++) {
      streams.push_back(&people[i]);
      keypoints_px.push_back(seen[i].empty() ? std::nullopt : std::make_optional(edgepose::View<float>(seen[i])));
    }
    const std::vector<const edgepose::Pose*> poses = edgepose::Stream::push_many(streams, keypoints_px, timestamp_s);
    for (std::size_t i = 0; i < poses.size(); i++) {
      if (!poses[i]) continue;
      const edgepose::View<float> at_m = poses[i]->joint_m(joint);
      std::printf("%.6f %zu %.9g %.9g %.9g\n", poses[i]->timestamp_s(), i, at_m[0], at_m[1], at_m[2]);
    }
  }
} catch (const std::exception& error) {
  std::cerr << "people: " << error.what() << "\n";
  return 1;
}
