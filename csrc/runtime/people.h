// Everybody in a picture: who is who, and a Person for each. No model is in here.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <vector>

#include "person.h"
#include "tracker.h"

namespace edgepose {

struct PeopleOptions {
  int most_people = 20;  // are followed at once; see People
  double return_s = 5;   // who comes back within this time is the same person; whoever is away for longer is forgotten
};

// Follows people by the ids that their tracker gives, or else by a Tracker of its own: all frames of one kind. The
// memory is that of most_people persons. When all places are taken, a new person takes that of the one who has been
// away for longest, if for more than max_gap_s; else there is none, and the new one is left out. After the constructor
// memory grows only with the most detections in a frame.
class People {
 public:
  using Id = std::int64_t;
  static constexpr Id kNobody = -1;
  static constexpr int kMostPeople = 1 << 12;

  // Throws what Person throws.
  People(const Lifter& lifter, const Layout& layout, double width_px, double height_px, PersonOptions person,
         const PeopleOptions& options);

  // The right to use them, for one caller at a time. Throws Busy.
  Person::Claim claim() { return Person::Claim(places_[0]->person); }

  // A frame that take() will take: keypoints_px[detections][keypoints][columns], as Person::check says for each, and
  // the id of each detection or null. A detection without keypoints is nobody's. Throws std::invalid_argument for what
  // Person refuses, an id that is negative or comes twice, and ids that come in some frames only: nobody is changed
  // then.
  template <class Real>
  void check(const Real* keypoints_px, long detections, long keypoints, long columns, double timestamp_s,
             const Id* ids);

  // Takes the frame just checked: the places of those who have a question, in the order in which they were first seen.
  const std::vector<std::size_t>& take();

  // The recording has ended: as take(), for the next frame of each that delay_frames kept waiting. Where there is none
  // any more everybody is forgotten; until then no frame passes check().
  const std::vector<std::size_t>& flush();

  // Forgets everybody and the clock. An id is never used again.
  void reset();

  Person& person(std::size_t place) { return places_[place]->person; }
  Id id(std::size_t place) const { return places_[place]->id; }
  // Whose each detection of the last frame is; kNobody: left out.
  const std::vector<Id>& ids() const { return ids_; }
  std::size_t most() const { return places_.size(); }
  // No more have a question in the frame just checked.
  std::size_t most_asking() const { return std::min(places_.size(), present_.size() + (std::size_t)detections_); }
  Notices& notices() { return notices_; }
  const Notices& notices() const { return notices_; }

 private:
  struct Place {
    Place(const Lifter& lifter, const Layout& layout, double width_px, double height_px, const PersonOptions& options,
          Notices* notices)
        : person(lifter, layout, width_px, height_px, options, notices) {}
    Person person;
    Id id = kNobody;  // kNobody: it is free
    double seen_s = 0;
    int detection = -1;  // in the frame being taken
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
  std::vector<std::size_t> present_, asking_;  // places: present_ that are taken, who was seen first comes first
  Tracker tracker_;
  Id next_id_ = 0;
  bool has_started_ = false, has_ids_ = false, is_flushing_ = false;

  // The checked frame.
  std::vector<double> raw_, joints_px_, confidence_;
  std::vector<Id> checked_ids_, ids_;
  std::vector<int> found_;  // for each detection its place, or what Tracker says
  long detections_ = 0, keypoints_ = 0, columns_ = 0;
  double checked_at_s_ = 0;
  bool comes_with_ids_ = false;
};

}  // namespace edgepose
