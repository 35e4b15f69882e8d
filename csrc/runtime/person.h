// One person: turns a detector's keypoints into model inputs, and the model's answers into poses. Contains no model.
#pragma once

#include <array>
#include <atomic>
#include <cmath>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "bones.h"
#include "clock.h"
#include "deadline.h"
#include "doubts.h"
#include "filters.h"
#include "keypoints.h"
#include "layouts.h"
#include "lengths.h"
#include "lens.h"
#include "notices.h"
#include "place.h"
#include "sides.h"
#include "window.h"

namespace edgepose {

// Two threads use a person at once, or a model calls back.
struct Busy : std::runtime_error {
  using std::runtime_error::runtime_error;
};

constexpr double kFileRateHz = -1;         // stands for the rate that the model was trained on
constexpr double kModelSeenAbove = -1;     // stands for kFoundAbove if the model takes the confidence, else kSureAbove
constexpr double kFoundAbove = 0.05;       // the least confidence of a found joint in training: noise.py
constexpr double kSureAbove = 0.3;
constexpr double kPublishedRateHz = 50.0;  // the published weights' rate, taken for a model that does not say its own

// The properties of a model that a person needs.
struct Lifter {
  int frames;
  Skeleton skeleton;
  bool is_causal = false;
  // The columns, named as in edgepose/columns.py.
  std::vector<std::string> inputs = {"x", "y"}, outputs = {"x", "y", "z"};
  double rate_hz = 0;                                                       // its training's frame rate; 0: unknown
  // Floats of what it remembers of a person from frame to frame; 0: it takes windows. Else a person's input is one
  // frame, every frame as it comes, whatever `frames` is.
  long state = 0;
};

struct PersonOptions {
  int delay_frames = 0;
  double rate_hz = kFileRateHz;  // 0: no grid, every frame as it comes
  double max_gap_s = 0.5;
  double seen_above = kModelSeenAbove;
  double hold_s = 0.3;
  double min_cutoff_hz = 0, beta = 0, d_cutoff_hz = 1;  // a OneEuro filter on the joints; min_cutoff_hz 0: none
  double fx = 0, fy = 0, cx = 0, cy = 0;                // the lens, px; all 0: unknown
  BadTime on_bad_time = BadTime::refuse;
  bool mend_sides = true;  // see Sides
  Lengths lengths_m{};  // the person's own; only for a model that takes them, or with constant_bones
  // The direction of gravity in camera axes; all 0: unknown. Only for a model that takes elevations.
  std::array<double, 3> gravity{};
  double deadline_ms = 0;  // the most time for a push; 0: no limit. See Deadline
  bool is_one_person = false;                           // the caller tells people apart: a jump is the same person's
  Distortion distortion{};                              // the lens's distortion
  double height_m = 0;                                  // standing height, sets the size of poses; 0: the model's size
  bool constant_bones = false;                          // see Bones
};

constexpr double kLearnHeight = -1;  // stands for the height that a depth camera shows

// After construction nothing allocates, except for messages. One call at a time: see Claim.
class Person {
 public:
  // Exclusive use of a person, for one caller at a time. Throws Busy.
  class Claim {
   public:
    explicit Claim(Person& person) : person_(&person) {
      if (person.is_claimed_.exchange(true))
        throw Busy(
            "the stream is in use by another thread, or by an engine that calls it; wanted one call at a time, or a "
            "stream each");
    }
    ~Claim() {
      if (person_) person_->is_claimed_ = false;
    }
    Claim(Claim&& other) noexcept : person_(std::exchange(other.person_, nullptr)) {}
    Claim& operator=(Claim&&) = delete;

   private:
    Person* person_;
  };

  // Throws std::invalid_argument if the layout lacks a joint of the model, and for unknown columns, an impossible image
  // size or an option out of range. notices: where notices are added; null: the person's own.
  Person(const Lifter& lifter, const Layout& layout, double width_px, double height_px, const PersonOptions& options,
         Notices* notices = nullptr);

  // Checks the next camera frame for take(): keypoints_px[keypoints][columns], as for read_keypoints; null if the
  // person was not detected. Throws std::invalid_argument for keypoints that do not fit the layout, broken numbers,
  // normalised coordinates, missing confidences and, unless on_bad_time allows it, a time that does not increase: the
  // person is then unchanged.
  template <class Real>
  void check(const Real* keypoints_px, long keypoints, long columns, double timestamp_s);

  // The keypoints of the checked frame, (K, 3): px and confidence, 0 where one was not found.
  const double* checked_px() const { return keypoints_.data(); }

  // Adds the checked frame to the window. Returns whether there is a new model input: window() and the values below are
  // then valid until the next take() or flush().
  bool take();

  // The recording has ended: like take(), for the next frame that delay_frames kept waiting. When none is left, the
  // person is reset; until then check() refuses every frame.
  bool flush();

  void reset();

  // Whether nothing is left to flush: nobody is there, and no frame waits.
  bool is_done() const { return window_.is_done(); }

  // The model input, (T, J, columns), with the columns of the model's `inputs`.
  const float* window() const { return has_state() ? frame_input_.data() : window_.input(); }
  std::size_t window_size() const { return (std::size_t)frames_ * (std::size_t)joints_ * inputs_.size(); }
  // Values of the frame that the answer belongs to.
  double timestamp_s() const { return window_.timestamp_s(); }
  bool was_reset() const { return window_.was_reset() || missed_reset_; }
  const std::vector<double>& confidence() const { return window_.note().confidence; }     // (J,)
  const std::vector<unsigned char>& is_seen() const { return window_.note().is_seen; }  // (J,)
  const std::vector<double>& depth_m() const { return window_.note().depth_m; }         // (J,); NaN: not measured
  void keypoints_norm(float* to) const;                                                  // (J, 2)

  // Turns the model's answer, (J, outputs), into joints_m (J, 3), filtered and of the person's size, and if has_error()
  // into error_m (J,).
  // timestamp_s and was_reset are those of its input; answers come in the order of the inputs.
  // sight: what was known of the frame. With a lens *root is filled; returns whether it is known.
  bool answer(const float* answer, double timestamp_s, bool was_reset, const Sight& sight, float* joints_m,
              float* error_m, Root* root);

  // Instead of answer(), for a model input that the engine did not lift in time: the joints go on as they moved between
  // the last two answers, for kMostPredictedS at most, and are then held; error_m is that of the last answer. Returns
  // how long after the last answer's frame that is, s; 0 if the clip has no answer yet: there is then no pose.
  double predict(const Sight& sight, float* joints_m, float* error_m, Root* root, bool* is_placed);
  // The time of the last answer's frame; -infinity if the clip has none.
  double answered_at_s() const { return window_.was_reset() ? -HUGE_VAL : answered_at_s_; }
  Deadline& deadline() { return deadline_; }

  // What the model remembers of the person, Lifter::state floats: the engine advances it with each input. An input
  // whose gap is 0 begins anew, so nobody clears it.
  bool has_state() const { return !state_.empty(); }
  float* state() { return state_.data(); }
  std::size_t state_floats() const { return state_.size(); }

  // What the model remembers, to put it into another person with the same model: bytes of this machine. The next frame
  // there goes on from it, if it is not later than max_gap_s after the last one here. What fills in hidden joints and
  // filters begins anew. Throws std::invalid_argument for a model without a state; remember() also for bytes that are
  // not of this size or hold a number that is not finite, and then nothing changes.
  std::string memory() const;
  void remember(std::string_view memory);
  std::size_t memory_size() const { return has_state() ? sizeof last_input_s_ + state_.size() * sizeof(float) : 0; }

  Notices& notices() { return notices_; }
  const Notices& notices() const { return notices_; }

  int frames() const { return frames_; }
  int joints() const { return joints_; }
  int inputs() const { return (int)inputs_.size(); }
  int outputs() const { return has_error_ ? 4 : 3; }
  bool has_error() const { return has_error_; }
  bool has_lens() const { return lens_.is_known(); }
  double rate_hz() const { return rate_hz_; }  // the rate of the grid; 0: no grid

 private:
  enum class Input { x, y, confidence, length, length_known, depth, depth_known, elevation, elevation_known, gap };

  static std::vector<Input> inputs_of(const Lifter& lifter);
  template <class Real>
  void check_keypoints(const Real* keypoints_px, long keypoints, long columns);
  bool takes(Input input) const;
  void undistort();
  void measure_depths();
  double column(Input input, std::size_t joint, bool is_placed) const;
  double elevation(const double* placed_norm) const;
  void fill(bool is_placed);
  void keep_answer(double timestamp_s, bool was_reset, const float* joints_m, const float* error_m);
  bool take_frame();
  void take_input();
  void end_clip();
  void mend_sides();
  void forget_motion();
  void resize(double size, float* joints_m, float* error_m);

  const int frames_, joints_, root_;
  const Picture picture_;
  const Adapter adapter_;
  const std::vector<Input> inputs_;
  const bool has_error_;
  const Lens lens_;
  const double rate_hz_;
  Clock clock_;
  const std::vector<double> length_;  // the `length` column, (J,)
  const std::array<double, 3> up_;  // the unit vector against gravity, in camera axes
  const bool has_gravity_;
  const double seen_above_;
  double scale_[2], centre_[2];  // normalised = px * scale - centre, or (px - centre) * scale with a lens
  std::optional<Sides> sides_;  // empty: the detector's sides are used as they are
  Hold hold_;
  Window window_;
  std::optional<OneEuro<float>> smoothing_;
  const double max_gap_s_;
  std::vector<float> state_, frame_input_;  // a model's state, and its input, (J, inputs)
  double last_input_s_ = 0;  // the time of the last input that was lifted
  bool goes_on_ = false;      // remember() was called: the next input is not the first of its clip
  bool begins_anew_ = true;   // no input of this clip has been lifted yet
  const double height_m_;
  const bool has_constant_bones_, is_one_person_;
  Bones bones_;
  Place place_;
  const Note undetected_;
  double checked_at_s_ = 0;
  bool is_detected_ = false, has_depths_ = false, is_flushing_ = false;
  Notices own_notices_;
  Notices& notices_;
  Doubts doubts_;
  Deadline deadline_;
  // The last answer, for predict().
  double answered_at_s_ = -HUGE_VAL;
  bool missed_reset_ = false;  // the clip's first model input had no answer
  std::vector<float> answered_m_, velocity_m_s_, answered_error_m_;
  std::vector<double> known_m_;
  std::vector<double> depth_m_, joint_depth_m_;  // NaN where not measured; joint depths are relative to their median
  // The checked frame: the layout's keypoints, (K, 3) px, and the model's joints, (J, 2).
  std::vector<double> keypoints_, joints_norm_;
  std::vector<double> frame_;                    // the last frame in the window, (J, inputs)
  Reading reading_;  // summary of the checked frame
  Note note_;
  std::atomic<bool> is_claimed_{false};
};

}  // namespace edgepose
