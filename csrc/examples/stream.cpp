// Follows one person live, as a robot would: stream ENGINE LAYOUT WIDTH HEIGHT JOINT < detections.csv
//
// detections.csv: a line a frame as it comes, "seconds, x, y, confidence, x, y, confidence, ..."; the seconds alone
// where nobody was found. Prints, smoothed, where the joint is: "seconds x y z seen|held", metres from the pelvis.
#include <cstdio>
#include <edgepose.hpp>
#include <iostream>
#include <sstream>

int main(int argc, char** argv) try {
  if (argc != 6) {
    std::cerr << "usage: stream ENGINE LAYOUT WIDTH HEIGHT JOINT < detections.csv\n";
    return 2;
  }
  const edgepose::Engine engine(argv[1]);
  edgepose::StreamOptions options;
  options.min_cutoff_hz = 1.0, options.beta = 5.0;
  edgepose::Stream stream(engine, argv[2], std::stod(argv[3]), std::stod(argv[4]), options);
  const int joint = engine.index(argv[5]);
  std::cerr << engine.model() << " " << engine.precision() << ", " << engine.frames() << " frames, " << engine.isa()
            << "\n";

  std::vector<float> keypoints_px;
  for (std::string line, field; std::getline(std::cin, line);) {
    std::istringstream fields(line);
    std::getline(fields, field, ',');
    const double timestamp_s = std::stod(field);
    keypoints_px.clear();
    while (std::getline(fields, field, ',')) keypoints_px.push_back(std::stof(field));
    const edgepose::Pose* pose =
        keypoints_px.empty() ? stream.push_nobody(timestamp_s) : stream.push(keypoints_px, timestamp_s);
    if (!pose) continue;
    const edgepose::View<float> at_m = pose->joint_m(joint);
    std::printf("%.6f %.9g %.9g %.9g %s\n", pose->timestamp_s(), at_m[0], at_m[1], at_m[2],
                pose->is_seen()[joint] ? "seen" : "held");
  }
} catch (const std::exception& error) {
  std::cerr << "stream: " << error.what() << "\n";
  return 1;
}
