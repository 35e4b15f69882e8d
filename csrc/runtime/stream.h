// One person, from keypoints to pose, as edgepose/stream.py has and explains it.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine.h"
#include "filters.h"
#include "layouts.h"
#include "window.h"

namespace edgepose {

struct StreamOptions {
  int delay_frames;
  double rate_hz;  // 0: every frame as it comes
  double max_gap_s, seen_above, hold_s;
  double min_cutoff_hz, beta, d_cutoff_hz;  // of a OneEuro filter on the joints; min_cutoff_hz 0: none
  double fx, fy, cx, cy;                    // the lens, px; all 0: unknown
};

// No two threads may use a stream at once. After the constructor nothing allocates, but for messages.
class Stream {
 public:
  // Throws std::invalid_argument on an unknown layout, an impossible image size or an option out of range.
  Stream(std::shared_ptr<const Engine> engine, const std::string& layout, double width_px, double height_px, const StreamOptions& options);

  // Takes one camera frame: keypoints_px[keypoints][columns], x, y and with 3 columns the confidence; null if the person was
  // not detected. Whether there is a new pose, which the functions below then describe until the next push.
  // Throws std::invalid_argument, and changes nothing, for what does not fit the layout, broken numbers, normalised
  // coordinates, and time that does not increase.
  bool push(const float* keypoints_px, long keypoints, long columns, double timestamp_s);

  // The recording has ended: as push(), for the next frame that delay_frames kept waiting. Where there is none any more the
  // stream is as new; until then it takes no frame.
  bool flush();

  void reset();

  const Engine& engine() const { return *engine_; }
  const float* joints_m() const { return joints_m_.data(); }            // (J, 3)
  const float* keypoints_norm() const { return window_.target(); }      // (J, 2)
  const float* confidence() const { return confidence_.data(); }        // (J,)
  const unsigned char* is_seen() const { return window_.note().is_seen.data(); }
  double timestamp_s() const { return window_.timestamp_s(); }
  bool was_reset() const { return window_.was_reset(); }

 private:
  void check(const float* keypoints_px, long keypoints, long columns, double timestamp_s);
  bool take(bool is_detected, double timestamp_s);
  void answer(const Engine::Turn& turn);

  const std::shared_ptr<const Engine> engine_;
  const Adapter adapter_;
  double scale_[2], centre_[2];  // normalised = px * scale - centre, or (px - centre) * scale with a lens
  const bool has_lens_;
  const int root_;
  Hold hold_;
  Window window_;
  std::optional<OneEuro> smoothing_;
  const Note undetected_;
  double pushed_at_s_;
  bool is_flushing_ = false;
  std::vector<double> keypoints_, joints_;  // the frame in the layout, (K, 3) px, and in the model's joints, (J, 2) normalised
  Note note_;
  std::vector<float> joints_m_, confidence_;
};

}  // namespace edgepose
