// One compiled model, ready to run; immutable, shared by many streams and threads.
#pragma once

#include <array>
#include <atomic>
#include <memory>
#include <string>

#include "../plan.h"
#include "engine_file.h"
#include "person.h"

namespace edgepose {

class Engine {
 public:
  // threads: how many work on one call, the caller included. isa: as for kernels(); null or "" for the best. cpus: the
  // processors that the other threads are pinned to, one each. The file's bytes may be freed afterwards. Throws what
  // Plan, kernels() and Context throw.
  Engine(const EngineFile& file, int threads, const char* isa, std::vector<int> cpus = {});
  ~Engine();

  // Permission to run the engine, with a context of its own. Any number of threads may hold one at once. A context is
  // made, which may throw what Context throws, only when more threads run the engine than ever before.
  class Turn {
   public:
    explicit Turn(const Engine& engine) : engine_(engine), context_(engine.take()) {}
    ~Turn() { engine_.give(std::move(context_)); }
    Turn(const Turn&) = delete;
    Turn& operator=(const Turn&) = delete;
    Context* operator->() const { return context_.get(); }

    // Reserves memory for `people` persons: run() with no more allocates nothing. Throws what Context::reserve throws.
    void reserve(int people);

    // Computes answers[n][J][outputs] from the model inputs of n people. State that a model keeps from frame to frame
    // lies in Person and is advanced: no caller needs to know whether a model works on windows or has a state.
    void run(Person* const* people, int n, float* answers);

   private:
    const Engine& engine_;
    std::unique_ptr<Context> context_;
    std::vector<float> windows_;
    std::vector<float*> states_;
  };

  // The properties that a Person needs.
  Lifter lifter() const { return {frames_, *skeleton_, is_causal_, inputs_, outputs_, rate_hz_, plan_->state()}; }

  const std::string& model() const { return model_; }
  const std::string& precision() const { return precision_; }
  const Skeleton& skeleton() const { return *skeleton_; }
  const char* isa() const { return plan_->isa(); }
  int frames() const { return frames_; }
  bool is_causal() const { return is_causal_; }
  // The column names of a keypoint and of a joint, as in columns.h.
  const std::vector<std::string>& inputs() const { return inputs_; }
  const std::vector<std::string>& outputs() const { return outputs_; }
  double rate_hz() const { return rate_hz_; }  // the frame rate of its training; 0: the file does not say

 private:
  std::unique_ptr<Context> take() const;
  void give(std::unique_ptr<Context> context) const;

  const std::string model_, precision_;
  const Skeleton* const skeleton_;
  const int frames_, threads_;
  const std::vector<int> cpus_;
  const bool is_causal_;
  const std::vector<std::string> inputs_, outputs_;
  const double rate_hz_;
  const std::shared_ptr<const Plan> plan_;
  // Idle contexts, without a lock: one is taken by exchanging it for null and put back by exchanging null for it.
  mutable std::array<std::atomic<Context*>, 64> idle_{};
};

// Loads an engine file. Throws EngineError if the file cannot be read or run here, std::invalid_argument if
// the number of threads is out of range or the processors do not fit it.
std::shared_ptr<const Engine> load(const std::string& path, int threads, const char* isa, std::vector<int> cpus = {});

}  // namespace edgepose
