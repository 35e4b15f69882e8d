// The threads of the process, and teams of them that run one piece of work at a time, phase by phase.
#pragma once

#include <atomic>
#include <vector>

namespace edgepose {

struct Worker;

// The calling thread is member 0; the others are workers of the process, shared by all teams: however many engines live
// in a process and however many threads call them, no more run at once than the process has processors (unless one team
// asks for more). Between two pieces of work a worker spins for kIdleSpins pauses (a frame that follows at once finds
// it awake), then sleeps: idle teams take no processor time.
class Team {
 public:
  // cpus: the processors that the workers are pinned to, one each, reused in turn if there are fewer; empty: not
  // pinned. Throws std::runtime_error if the system does not give that many threads, std::invalid_argument for a
  // processor that the process may not use.
  explicit Team(int threads, std::vector<int> cpus = {});
  ~Team();
  Team(const Team&) = delete;
  Team& operator=(const Team&) = delete;

  // The members of the work that is running: as many threads as were asked for, or fewer where other teams are at work.
  int size() const { return members_; }

  // Calls work(argument, member) once on each member and returns when all have returned. Not reentrant; one caller at a
  // time. work must not throw.
  void run(void (*work)(void* argument, int member), void* argument);

  // Called by every member from within work: returns when all have called it. Spins for kBarrierSpins pauses, then
  // yields the processor on every turn: another member or another process may need it to get here.
  void barrier();

 private:
  friend struct Worker;

  const int threads_;
  const std::vector<int> cpus_;
  int members_ = 1;
  void (*work_)(void*, int) = nullptr;
  void* argument_ = nullptr;
  // Linux wakes a thread on the processor of the one that woke it, and there the two would take turns at every barrier:
  // a member that finds itself on the caller's processor leaves it. ampose, 2 threads: median 0.70 ms without, 0.20 ms
  // with.
  int caller_cpu_ = -1;
  std::vector<Worker*> workers_;  // the workers that do the current work
  alignas(64) std::atomic<int> arrived_{0};
  alignas(64) std::atomic<unsigned> phase_{0};
  alignas(64) std::atomic<int> finished_{0};
};

// The part of `total` items that falls to `member` of `members`: [first, last).
struct Share {
  int first, last;
  Share(int total, int member, int members)
      : first((int)((long)total * member / members)), last((int)((long)total * (member + 1) / members)) {}
  int count() const { return last - first; }
};

}  // namespace edgepose
