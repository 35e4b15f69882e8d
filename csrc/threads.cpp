#include "threads.h"

#include <sched.h>
#include <unistd.h>

#include <stdexcept>
#include <string>
#include <system_error>

namespace edgepose {

namespace {

constexpr int kBarrierSpins = 256;  // about 5 us: longer than two members' shares of a step differ, shorter than a time slice
constexpr int kIdleSpins = 2048;    // about 40 us: between two frames of a stream that waits for nothing else

inline void pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ __volatile__("yield");
#endif
}

#if defined(__linux__)
int this_cpu() { return sched_getcpu(); }

// Moves the calling thread to another of the processors the process may use, if there is one.
void leave_cpu(int cpu, const cpu_set_t& allowed) {
  cpu_set_t others = allowed;
  CPU_CLR(cpu, &others);
  if (CPU_COUNT(&others) > 0) sched_setaffinity(0, sizeof others, &others);
}
#endif

}  // namespace

Team::Team(int threads) : size_(threads), process_((int)getpid()), rest_(new Rest) {
  try {
    for (int member = 1; member < threads; member++) rest_->members.emplace_back([this, member] { serve(member); });
  } catch (const std::system_error& error) {
    const std::string count = std::to_string(rest_->members.size());
    stop();
    throw std::runtime_error("only " + count + " of " + std::to_string(threads - 1) + " threads could be started ("
                             + error.what() + "); ask for fewer");
  }
}

Team::~Team() { stop(); }

void Team::stop() {
  if ((int)getpid() != process_) return;  // a fork: see Rest
  stop_.store(true);
  job_.fetch_add(1);
  { std::lock_guard<std::mutex> lock(rest_->mutex); }
  rest_->wake.notify_all();
  for (std::thread& member : rest_->members) member.join();
  delete rest_;
}

void Team::serve(int member) {
  unsigned seen = 0;
#if defined(__linux__)
  cpu_set_t allowed;
  CPU_ZERO(&allowed);
  sched_getaffinity(0, sizeof allowed, &allowed);
#endif
  for (;;) {
    for (int spin = 0; job_.load(std::memory_order_acquire) == seen && spin < kIdleSpins; spin++) pause();
    if (job_.load(std::memory_order_acquire) == seen) {
      std::unique_lock<std::mutex> lock(rest_->mutex);
      sleepers_.fetch_add(1);
      rest_->wake.wait(lock, [&] { return job_.load() != seen; });
      sleepers_.fetch_sub(1);
    }
    seen = job_.load(std::memory_order_acquire);
    if (stop_.load()) return;
#if defined(__linux__)
    if (this_cpu() == caller_cpu_) leave_cpu(caller_cpu_, allowed);
#endif
    work_(argument_, member);
    barrier();
  }
}

void Team::run(void (*work)(void*, int), void* argument) {
  if (size_ == 1) return work(argument, 0);
  work_ = work;
  argument_ = argument;
#if defined(__linux__)
  caller_cpu_ = this_cpu();
#endif
  job_.fetch_add(1);
  if (sleepers_.load() > 0) {
    { std::lock_guard<std::mutex> lock(rest_->mutex); }
    rest_->wake.notify_all();
  }
  work(argument, 0);
  barrier();
}

void Team::barrier() {
  if (size_ == 1) return;
  const unsigned phase = phase_.load(std::memory_order_relaxed);
  if (arrived_.fetch_add(1, std::memory_order_acq_rel) == size_ - 1) {
    arrived_.store(0, std::memory_order_relaxed);
    phase_.store(phase + 1, std::memory_order_release);
    return;
  }
  for (int spin = 0; phase_.load(std::memory_order_acquire) == phase; spin++) {
    if (spin < kBarrierSpins) pause();
    else std::this_thread::yield();
  }
}

}  // namespace edgepose
