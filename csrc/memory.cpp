#include "memory.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace edgepose {

float place_of(float age_s) {
  const float place = std::log2(1 + (age_s > 0 ? age_s : 0) / kAgeUnitS);
  return place < kMostPlace ? place : kMostPlace;
}

void tell_time(float gap_s, float* state, float* place, int frames) {
  float* ages_s = state + 1;
  // Of the frames remembered, the one before this is the first: state[0] counts it.
  const float known = state[0] >= 0 && state[0] <= (float)frames ? state[0] : 0.f;
  const int remembered = gap_s > 0 ? (int)known : 0;
  state[0] = (float)std::min(remembered + 1, frames);
  std::memmove(ages_s + 1, ages_s, (std::size_t)(frames - 1) * sizeof(float));
  ages_s[0] = 0;
  place[0] = 0;
  for (int i = 0; i < frames; i++) {
    ages_s[i] += gap_s > 0 ? gap_s : 0;
    place[i + 1] = i < remembered ? place_of(ages_s[i]) : kNotRemembered;
  }
}

void hats(float place, float* y, int n) {
  const float at = std::min(place, (float)(n - 1));
  for (int i = 0; i < n; i++) y[i] = std::max(0.f, 1 - std::fabs(at - (float)i));
}

void recall_taps(const float* x, const float* place, float* state, float* y, int columns, int taps) {
  const std::size_t row = (std::size_t)columns * sizeof(float);
  std::memcpy(y, x, row);
  for (int i = 1; i < taps; i++) {
    if (place[i] >= 0) std::memcpy(y + (long)i * columns, state + (long)(i - 1) * columns, row);
    else std::memset(y + (long)i * columns, 0, row);
  }
  std::memcpy(state, y, row * (std::size_t)(taps - 1));
}

Ring remember(const float* row, float* state, int columns, int rows) {
  const int last = state[0] >= 0 && state[0] < (float)rows ? (int)state[0] : 0;
  const int newest = last + 1 < rows ? last + 1 : 0;
  state[0] = (float)newest;
  std::memcpy(state + 1 + (long)newest * columns, row, (std::size_t)columns * sizeof(float));
  return {state + 1, rows, newest};
}

}  // namespace edgepose
