// Runs the CUDA kernels on a CPU, for the tests: the threads of all blocks take turns, each until it waits for others.
// A barrier that is missing shows when the order of the turns changes; fragments of tensor cores are put together as
// PTX lays them out.
#pragma once

#include <setjmp.h>
#include <ucontext.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <random>
#include <vector>

#define EP_DEVICE inline
#define threadIdx (edgepose::cuda::emulated::now->thread)
#define blockIdx (edgepose::cuda::emulated::now->block->index)
#define gridDim (edgepose::cuda::emulated::grid)

namespace edgepose::cuda {
namespace emulated {

constexpr int kStack = 64 << 10;

struct Index { unsigned x; };

// Threads that wait for each other.
struct Barrier {
  int threads, arrived = 0;
  unsigned long passed = 0;
};
struct Block {
  Index index;
  Barrier barrier;
};
struct Warp {
  Barrier barrier{32};
  uint32_t a[32][4], b[32][2];
  uint64_t slot[32];
};
struct Fiber {
  Index thread;
  Block* block;
  Warp* warp;
  std::unique_ptr<char[]> stack{new char[kStack]};
  ucontext_t start;
  jmp_buf here;
  bool has_begun = false, is_done = false;
  const Barrier* waits_for = nullptr;  // waits until it has been passed more than `before` times
  unsigned long before = 0;
};

inline Fiber* now = nullptr;
inline Index grid{1};
inline jmp_buf scheduler;
inline std::function<void()> kernel;
inline Barrier all;

inline void yield() {
  if (!_setjmp(now->here)) _longjmp(scheduler, 1);
}
inline void wait(Barrier& barrier) {
  now->before = barrier.passed;
  if (++barrier.arrived == barrier.threads) {
    barrier.arrived = 0, barrier.passed++;
  } else {
    now->waits_for = &barrier;
    yield();
    now->waits_for = nullptr;
  }
}
inline void enter() {
  kernel();
  now->is_done = true;
  _longjmp(scheduler, 1);
}

// Runs `body` on blocks x threads. order: 0 turns in order, 1 in reverse, else a seed of random orders, in which warps
// oversleep.
inline void launch(int blocks, int threads, unsigned order, std::function<void()> body) {
  kernel = std::move(body);
  grid.x = blocks;
  all = Barrier{blocks * threads};
  std::vector<Block> block(blocks);
  std::vector<Warp> warps(blocks * threads / 32);
  std::vector<Fiber> fibers(blocks * threads);
  for (int b = 0; b < blocks; b++) block[b] = {{(unsigned)b}, {threads}};
  for (int i = 0; i < blocks * threads; i++) {
    Fiber& fiber = fibers[i];
    fiber.thread = {(unsigned)(i % threads)}, fiber.block = &block[i / threads], fiber.warp = &warps[i / 32];
    getcontext(&fiber.start);
    fiber.start.uc_stack.ss_sp = fiber.stack.get(), fiber.start.uc_stack.ss_size = kStack,
    fiber.start.uc_link = nullptr;
    makecontext(&fiber.start, enter, 0);
  }
  std::vector<int> turns(fibers.size());
  for (std::size_t i = 0; i < turns.size(); i++) turns[i] = (int)(order == 1 ? turns.size() - 1 - i : i);
  std::mt19937 random(order);
  std::vector<int> sleeps(warps.size());  // rounds left to sleep
  for (volatile std::size_t left = fibers.size(); left;) {
    if (order > 1) {
      std::shuffle(turns.begin(), turns.end(), random);
      for (int& rounds : sleeps) rounds = rounds ? rounds - 1 : random() % 16 ? 0 : (int)(random() % 256);
    }
    for (volatile std::size_t turn = 0; turn < turns.size(); turn = turn + 1) {
      now = &fibers[turns[turn]];
      if (now->is_done || sleeps[turns[turn] / 32] || (now->waits_for && now->waits_for->passed == now->before))
        continue;
      if (!_setjmp(scheduler)) {
        if (now->has_begun) _longjmp(now->here, 1);
        now->has_begun = true;
        setcontext(&now->start);
      }
      if (now->is_done) left = left - 1;
    }
  }
}

}  // namespace emulated

using half = _Float16;
inline half to_half(float x) { return (half)x; }
inline float to_float(half x) { return (float)x; }
using std::rintf;
inline float rsqrtf(float x) { return 1 / std::sqrt(x); }

struct alignas(8) Word2 { uint32_t word[2]; };
struct alignas(16) Word4 { uint32_t word[4]; };

template <class T>
T from_lane(T x, int lane) {
  emulated::Warp& warp = *emulated::now->warp;
  const int mine = emulated::now->thread.x % 32;
  std::memcpy(&warp.slot[mine], &x, sizeof x);
  emulated::wait(warp.barrier);
  std::memcpy(&x, &warp.slot[lane], sizeof x);
  emulated::wait(warp.barrier);
  return x;
}
inline float sum_of_warp(float x) {
  for (int apart = 16; apart; apart /= 2) x += from_lane(x, (int)(emulated::now->thread.x % 32) ^ apart);
  return x;
}
inline float max_of_warp(float x) {
  for (int apart = 16; apart; apart /= 2) x = std::fmax(x, from_lane(x, (int)(emulated::now->thread.x % 32) ^ apart));
  return x;
}
inline int dot4(uint32_t a, uint32_t b, int c) {
  for (int i = 0; i < 32; i += 8) c += (int)(int8_t)(a >> i) * (int8_t)(b >> i);
  return c;
}

// c += A B from the fragments of all lanes. pack: numbers in a word. number(word, i): the i-th of them.
template <class Sum, class Number>
void multiply_fragments(Sum (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1, int pack, Number number) {
  emulated::Warp& warp = *emulated::now->warp;
  const int lane = emulated::now->thread.x % 32, half_k = 4 * pack;
  std::memcpy(warp.a[lane], a, sizeof a);
  warp.b[lane][0] = b0, warp.b[lane][1] = b1;
  emulated::wait(warp.barrier);
  for (int e = 0; e < 4; e++) {
    const int row = lane / 4 + e / 2 * 8, column = lane % 4 * 2 + e % 2;
    for (int k = 0; k < 2 * half_k; k++) {
      const int upper = k / half_k, owner = k % half_k / pack;
      const uint32_t x = warp.a[row % 8 * 4 + owner][row / 8 + 2 * upper], y = warp.b[column * 4 + owner][upper];
      c[e] += number(x, k % pack) * number(y, k % pack);
    }
  }
  emulated::wait(warp.barrier);
}
inline void multiply_add(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  multiply_fragments(c, a, b0, b1, 2, [](uint32_t word, int i) {
    const uint16_t bits = (uint16_t)(word >> 16 * i);
    half value;
    std::memcpy(&value, &bits, sizeof value);
    return (float)value;
  });
}
inline void multiply_add(int (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
  multiply_fragments(c, a, b0, b1, 4, [](uint32_t word, int i) { return (int)(int8_t)(word >> 8 * i); });
}

inline void wait_for_block() { emulated::wait(emulated::now->block->barrier); }
inline void wait_for_grid(unsigned*, unsigned*) { emulated::wait(emulated::all); }

}  // namespace edgepose::cuda
