// What a plan with a state remembers of a person from frame to frame: ages, taps, and a ring of keys and values.
//
// A state of zeros remembers nothing. Any numbers in it are safe: at worst they are of no person's past.
#pragma once

#include "plan.h"

namespace edgepose {

// The place of an age on the scale of functions of time: log2(1 + age / kAgeUnitS), at most kMostPlace. The values of
// such a function stand at the places 0, 1, 2, ... (0, 20 ms, 60 ms, 140 ms, ...), the last of them also for all later
// ones. kNotRemembered is the place of a frame that is not remembered.
constexpr float kAgeUnitS = 0.02f, kMostPlace = 64, kNotRemembered = -1;

// The rows of the ring of a ring_attention with this span and count.
inline int ring_rows(int span, int count) { return span * (count - 1) + 1; }

// The floats of a person's state that a step needs; 0 for a step that remembers nothing. y: its buffer's shape.
inline long memory_floats(const Step& step, const Shape& y) {
  switch (step.op) {
    case Op::clock: return y.columns;
    case Op::taps: return y.columns / step.count * (step.count - 1L);
    case Op::ring_attention: return 1 + 2L * y.columns * ring_rows(step.span, step.count);
    default: return 0;
  }
}

// The place of an age in s; that of 0 for a negative one and NaN.
float place_of(float age_s);

// Adds a frame that came gap_s after the one before; fills place[frames + 1], the newest frame's first. gap_s of 0 or
// less, or NaN: nothing before it is remembered. state[1 + frames].
void tell_time(float gap_s, float* state, float* place, int frames);

// The weights y[n] of a function's n values at a place of 0 or more.
void hats(float place, float* y, int n);

// y[taps][columns] = x[columns], then what x was one frame ago, ..., zero where that is not remembered.
// state[(taps - 1) columns].
void recall_taps(const float* x, const float* place, float* state, float* y, int columns, int taps);

// Puts row[columns] into a ring of `rows` rows as the newest. state[1 + rows columns].
Ring remember(const float* row, float* state, int columns, int rows);

}  // namespace edgepose
