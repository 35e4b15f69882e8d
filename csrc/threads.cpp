#include "threads.h"

#include <pthread.h>
#include <sched.h>

#include <condition_variable>
#include <memory>
#include <mutex>
#include <new>
#include <stdexcept>
#include <string>
#include <system_error>
#include <thread>
#include <utility>

namespace edgepose {

namespace {

// About 5 us: longer than two members' shares of a step differ, shorter than a time slice.
constexpr int kBarrierSpins = 256;
constexpr int kIdleSpins = 2048;    // about 40 us: between two frames of a stream that waits for nothing else

inline void pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  __asm__ __volatile__("yield");
#endif
}

// Spins for a while, then yields the processor on every turn.
template <class Holds>
void wait_until(Holds holds) {
  for (int spin = 0; !holds(); spin++) {
    if (spin < kBarrierSpins) pause();
    else std::this_thread::yield();
  }
}

#if defined(__linux__)
cpu_set_t allowed_cpus() {
  cpu_set_t allowed;
  CPU_ZERO(&allowed);
  sched_getaffinity(0, sizeof allowed, &allowed);
  return allowed;
}
int cpu_count() {
  const cpu_set_t allowed = allowed_cpus();
  return CPU_COUNT(&allowed);
}
#else
int cpu_count() { return (int)std::thread::hardware_concurrency(); }
#endif

}  // namespace

// A thread of the process, used by one team at a time.
struct Worker {
  std::atomic<bool> is_taken{false};
  alignas(64) std::atomic<unsigned> job{0};  // number of jobs so far; team and member are the newest one's
  std::atomic<bool> is_asleep{false};
  Team* team = nullptr;  // null: stop
  int member = 0;
  std::mutex mutex;
  std::condition_variable wake;
  std::thread thread;

  void give(Team* to, int as) {
    team = to, member = as;
    job.fetch_add(1);
    if (!is_asleep.load()) return;
    { std::lock_guard<std::mutex> lock(mutex); }
    wake.notify_one();
  }

  void serve() {
#if defined(__linux__)
    const cpu_set_t allowed = allowed_cpus();
    int pinned = -1;
#endif
    for (unsigned seen = 0;;) {
      for (int spin = 0; job.load(std::memory_order_acquire) == seen && spin < kIdleSpins; spin++) pause();
      if (job.load(std::memory_order_acquire) == seen) {
        std::unique_lock<std::mutex> lock(mutex);
        is_asleep.store(true);
        wake.wait(lock, [&] { return job.load() != seen; });
        is_asleep.store(false);
      }
      seen = job.load(std::memory_order_acquire);
      if (!team) return;
#if defined(__linux__)
      if (!team->cpus_.empty()) {
        const int cpu = team->cpus_[(member - 1) % team->cpus_.size()];
        if (cpu != pinned) pin(cpu);
        pinned = cpu;
      } else if (pinned >= 0) {
        sched_setaffinity(0, sizeof allowed, &allowed);
        pinned = -1;
      }
      if (pinned < 0 && sched_getcpu() == team->caller_cpu_) leave_cpu(team->caller_cpu_, allowed);
#endif
      team->work_(team->argument_, member);
      team->finished_.fetch_add(1, std::memory_order_release);  // the team may be destroyed from here on
    }
  }

#if defined(__linux__)
  static void pin(int cpu) {
    cpu_set_t only;
    CPU_ZERO(&only);
    CPU_SET(cpu, &only);
    sched_setaffinity(0, sizeof only, &only);
  }
  // Moves the calling thread to another of the processors the process may use, if there is one.
  static void leave_cpu(int cpu, cpu_set_t others) {
    CPU_CLR(cpu, &others);
    if (CPU_COUNT(&others) > 0) sched_setaffinity(0, sizeof others, &others);
  }
#endif
};

namespace {

// The workers of the process. They are started by the teams that want them and stopped with the last of these.
class Workers {
 public:
  Workers() { pthread_atfork(nullptr, nullptr, [] { all().forget(); }); }
  static Workers& all() {
    static Workers* const all = new Workers;  // never destroyed: a thread may still be leaving when the process ends
    return *all;
  }

  // Starts threads until there are `count`. Throws std::runtime_error if the system does not give them.
  void want(int count) {
    std::lock_guard<std::mutex> lock(mutex_);
    try {
      while (count_.load() < count) {
        auto worker = std::make_unique<Worker>();
        worker->thread = std::thread([raw = worker.get()] { raw->serve(); });
        workers_[count_.load()] = worker.release();
        count_.fetch_add(1);
      }
    } catch (const std::system_error& error) {
      const std::string started = std::to_string(count_.load());
      if (!teams_) stop();
      throw std::runtime_error("only " + started + " of " + std::to_string(count) + " threads could be started ("
                               + error.what() + "); ask for fewer");
    }
    teams_++;
  }

  void leave() {
    std::lock_guard<std::mutex> lock(mutex_);
    if (teams_ > 0 && --teams_ == 0) stop();  // a team that a fork inherits is not counted
  }

  // Takes free workers, at most `wanted`, while no more than `limit` threads are at work.
  void take(int wanted, int limit, std::vector<Worker*>& taken) {
    int running = running_.fetch_add(1) + 1;  // the caller
    const int count = count_.load(std::memory_order_acquire);
    for (int i = 0; i < count && (int)taken.size() < wanted && running < limit; i++) {
      if (workers_[i]->is_taken.load(std::memory_order_relaxed)
          || workers_[i]->is_taken.exchange(true, std::memory_order_acquire))
        continue;
      running = running_.fetch_add(1) + 1;
      taken.push_back(workers_[i]);
    }
  }

  void give_back(std::vector<Worker*>& taken) {
    for (Worker* worker : taken) worker->is_taken.store(false, std::memory_order_release);
    running_.fetch_sub((int)taken.size() + 1);
    taken.clear();
  }

 private:
  static constexpr int kMost = 256;

  void stop() {
    for (int i = 0; i < count_.load(); i++) {
      workers_[i]->give(nullptr, 0);
      workers_[i]->thread.join();
      delete workers_[i];
    }
    count_.store(0);
  }

  // For the child of a fork, which has no worker threads. Their objects stay: joining them would wait for ever.
  void forget() {
    new (&mutex_) std::mutex;
    count_.store(0);
    running_.store(0);
    teams_ = 0;
  }

  std::mutex mutex_;
  int teams_ = 0;
  std::atomic<int> count_{0}, running_{0};
  Worker* workers_[kMost] = {};
};

}  // namespace

Team::Team(int threads, std::vector<int> cpus) : threads_(threads), cpus_(std::move(cpus)) {
#if defined(__linux__)
  const cpu_set_t allowed = allowed_cpus();
  for (int cpu : cpus_)
    if (cpu < 0 || cpu >= CPU_SETSIZE || !CPU_ISSET(cpu, &allowed))
      throw std::invalid_argument("processor " + std::to_string(cpu) + " is not one that this process may use");
#else
  if (!cpus_.empty()) throw std::invalid_argument("threads cannot be pinned on this system");
#endif
  workers_.reserve(threads);
  if (threads_ > 1) Workers::all().want(threads_ - 1);
}

Team::~Team() {
  if (threads_ > 1) Workers::all().leave();
}

void Team::run(void (*work)(void*, int), void* argument) {
  static const int cpus = cpu_count();
  Workers::all().take(threads_ - 1, cpus > threads_ ? cpus : threads_, workers_);
  members_ = (int)workers_.size() + 1;
  if (members_ > 1) {
    work_ = work;
    argument_ = argument;
#if defined(__linux__)
    caller_cpu_ = sched_getcpu();
#endif
    finished_.store(0, std::memory_order_relaxed);
    for (int i = 0; i + 1 < members_; i++) workers_[i]->give(this, i + 1);
  }
  work(argument, 0);
  wait_until([&] { return finished_.load(std::memory_order_acquire) == members_ - 1 || members_ == 1; });
  Workers::all().give_back(workers_);
}

void Team::barrier() {
  if (members_ == 1) return;
  const unsigned phase = phase_.load(std::memory_order_relaxed);
  if (arrived_.fetch_add(1, std::memory_order_acq_rel) == members_ - 1) {
    arrived_.store(0, std::memory_order_relaxed);
    phase_.store(phase + 1, std::memory_order_release);
    return;
  }
  wait_until([&] { return phase_.load(std::memory_order_acquire) != phase; });
}

}  // namespace edgepose
