// Everybody in a picture: an id and a Person for each. Contains no model.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <vector>

#include "person.h"
#include "tracker.h"

namespace edgepose {

struct PeopleOptions {
  int most_people = 20;  // the most people followed at once; see People
  double return_s = 5;   // a person who returns within this time keeps the id; after it the person is forgotten
};

// Follows people by the ids of the caller's tracker or by a Tracker of its own: all frames of one kind. Memory is fixed
// for most_people persons. When all places are taken, a new person replaces the one absent longest, if for more than
// max_gap_s; otherwise the new one is left out. After construction memory grows only with the most detections in a
// frame.
class People {
 public:
  using Id = std::int64_t;
  static constexpr Id kNobody = -1;
  static constexpr int kMostPeople = 1 << 12;

  // Throws what Person throws.
  People(const Lifter& lifter, const Layout& layout, double width_px, double height_px, PersonOptions person,
         const PeopleOptions& options);

  // Exclusive use of everybody, for one caller at a time. Throws Busy.
  Person::Claim claim() { return Person::Claim(places_[0]->person); }

  // Checks the next frame for take(): keypoints_px[detections][keypoints][columns], each as for Person::check, and the
  // id of each detection or null. A detection without keypoints is nobody's. Throws std::invalid_argument for what
  // Person refuses, a negative or repeated id, and ids that come in some frames only: nobody is changed then.
  template <class Real>
  void check(const Real* keypoints_px, long detections, long keypoints, long columns, double timestamp_s,
             const Id* ids);

  // Takes the checked frame; returns the places of those with a new model input, in the order they were first seen.
  const std::vector<std::size_t>& take();

  // The recording has ended: like take(), for each person's next frame that delay_frames kept waiting. When none is
  // left, everybody is forgotten; until then check() refuses every frame.
  const std::vector<std::size_t>& flush();

  // Forgets everybody and the clock. Ids are never reused.
  void reset();

  // Of the push that is going on.
  Deadline& deadline() { return places_[0]->person.deadline(); }
  // For each of the places that take() returned whether the engine shall lift the person: see Deadline.
  const std::vector<unsigned char>& choose();

  Person& person(std::size_t place) { return places_[place]->person; }
  Id id(std::size_t place) const { return places_[place]->id; }
  // The id of each detection of the last frame; kNobody: left out.
  const std::vector<Id>& ids() const { return ids_; }
  std::size_t most() const { return places_.size(); }
  // Upper limit of the number of new model inputs from the checked frame.
  std::size_t most_asking() const { return std::min(places_.size(), present_.size() + (std::size_t)detections_); }
  Notices& notices() { return notices_; }
  const Notices& notices() const { return notices_; }

 private:
  struct Place {
    Place(const Lifter& lifter, const Layout& layout, double width_px, double height_px, const PersonOptions& options,
          Notices* notices)
        : person(lifter, layout, width_px, height_px, options, notices) {}
    Person person;
    Id id = kNobody;  // kNobody: the place is free
    double seen_s = 0;
    int detection = -1;  // its index in the frame being taken
  };

  void check_ids(long detections, const Id* ids) const;
  void forget(std::size_t place);
  void forget_the_gone();
  int place_for(Id id, double timestamp_s);
  int find(Id id) const;
  void follow_ids();
  void follow_by_tracker();
  void note_left_out(int detection, int reason);

  const std::size_t joints_;
  const double max_gap_s_, return_s_;
  const Adapter adapter_;
  Notices notices_;
  Clock clock_;
  std::vector<std::unique_ptr<Place>> places_;
  std::vector<double> answered_at_s_;
  std::vector<std::size_t> present_, asking_;  // places; present_: those taken, in the order people were first seen
  Tracker tracker_;
  Id next_id_ = 0;
  bool has_started_ = false, has_ids_ = false, is_flushing_ = false;

  // The checked frame.
  std::vector<double> raw_, joints_px_, confidence_;
  std::vector<Id> checked_ids_, ids_;
  std::vector<int> found_;  // for each detection its place, or a code of Tracker
  long detections_ = 0, keypoints_ = 0, columns_ = 0;
  double checked_at_s_ = 0;
  bool comes_with_ids_ = false;
};

}  // namespace edgepose
