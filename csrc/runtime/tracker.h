// Tracking of people from picture to picture, where the detector gives poses in any order without ids.
#pragma once

#include <cmath>
#include <cstdint>
#include <vector>

#include "assignment.h"
#include "layouts.h"

namespace edgepose {

// Follows people by their joints in the picture. Each is predicted by the person's own motion and by the camera's,
// which all share; the detections of a picture are assigned to all people at once, by position and pose. Lengths are in
// sizes: the longer side of the box around a person's joints. Memory is bounded by the most people and, between two
// frames, by the detections.
class Tracker {
 public:
  // Codes of a detection that shows nobody who is followed.
  static constexpr int kNew = -1;        // a new person
  static constexpr int kEmpty = -2;      // too few joints are seen
  static constexpr int kDuplicate = -3;  // a second detection of one person
  static constexpr int kAcross = -4;     // joints of two people in one pose

  // most: how many people are followed, in places from 0. seen_above: the least confidence of a joint that counts.
  Tracker(const Skeleton& skeleton, int most, double seen_above);

  // Fills places[detections] with the place of the person whom each detection shows, and updates that person, or with
  // one of the codes above. joints_px is (detections, J, 2), confidence (detections, J). Times increase.
  void match(const double* joints_px, const double* confidence, int detections, double timestamp_s, int* places);

  // Starts a new person, shown by a detection of the last match(), in a free place.
  void start(int place, int detection);

  // Frees a place.
  void forget(int place) { tracks_[(std::size_t)place].is_taken = false; }
  void reset();

 private:
  struct Shape {
    std::vector<double> joints;          // (J, 2) px
    std::vector<unsigned char> is_seen;  // (J,)
    double centre[2], size;              // centre and size of the seen joints, px
    int seen;
  };
  struct Track {
    Shape at;                     // as last seen, moved with the camera since then
    Shape expected;               // as predicted for this frame
    std::vector<double> longest;  // (J,) px: the greatest length of each joint's bone to its parent
    double speed[2];              // the person's own, px/s
    double seen_s;
    bool is_taken = false;
  };
  struct Fit {
    double cost, shift[2];
  };

  void measure(Shape& shape) const;
  void move(Shape& shape, int c, double by_px) const;
  double shift(const Shape& from, const Shape& to, int c);
  double median(const std::vector<double>& values, int count);
  double apart(const Shape& a, const Shape& b) const;
  bool are_apart(const Shape& a, const Shape& b, double within_px) const;
  double bone_px(const Shape& shape, std::size_t j) const;
  void predict(double timestamp_s, const double* jerk_px);
  // gate_px: the fit has no cost where it is surely further away than this.
  Fit fit(const Track& track, const Shape& detection, double gap_s, double gate_px = HUGE_VAL);
  bool is_beyond(int common, double within_px) const;
  double assign(double timestamp_s, int* places);
  void find_jerk(double timestamp_s, int* places, double cost);
  bool is_fresh(const Track& track, double timestamp_s) const;
  int judge(std::size_t detection, const int* places, double timestamp_s);
  bool is_across(int place, const Shape& detection, double timestamp_s) const;
  bool is_stretched(const Track& track, const Shape& detection) const;
  bool lies_on_others(std::size_t detection, const int* places) const;
  void follow(const int* places, double timestamp_s);
  void see(Track& track, const Shape& detection, double timestamp_s);

  const int joints_;
  const double seen_above_;
  const std::vector<int> parents_;
  std::vector<int> mirrored_;  // (J,): joint indices with left and right exchanged
  std::vector<Track> tracks_;
  std::vector<Shape> detections_;
  std::vector<int> rows_, columns_of_, tried_, judged_;  // rows_: the places that are taken
  std::vector<double> costs_, jerks_px_, moves_px_;
  std::vector<double> apart_px_[2], sorted_;  // a joint each
  Assignment assignment_;
  double camera_[2] = {0, 0};  // px/s
  double timestamp_s_;
};

}  // namespace edgepose
