// One compiled model, ready to run; immutable, shared by many streams and threads.
#pragma once

#include <array>
#include <atomic>
#include <memory>
#include <string>

#include "../plan.h"
#include "engine_file.h"

namespace edgepose {

class Engine {
 public:
  // threads: how many work on one call: the caller and threads - 1 others. isa: as for kernels(), null or "" for the best. The
  // file's bytes may be freed afterwards. Throws what Plan, kernels() and Context throw.
  Engine(const EngineFile& file, int threads, const char* isa);
  ~Engine();

  // The right to run the engine, with a context of its own. Any number of threads may have one at once; a context is made,
  // and may throw what Context throws, only where more threads run the engine than ever before.
  class Turn {
   public:
    explicit Turn(const Engine& engine) : engine_(engine), context_(engine.take()) {}
    ~Turn() { engine_.give(std::move(context_)); }
    Turn(const Turn&) = delete;
    Turn& operator=(const Turn&) = delete;
    Context* operator->() const { return context_.get(); }

   private:
    const Engine& engine_;
    std::unique_ptr<Context> context_;
  };

  const std::string& model() const { return model_; }
  const std::string& precision() const { return precision_; }
  const Skeleton& skeleton() const { return *skeleton_; }
  const char* isa() const { return plan_->isa(); }
  int frames() const { return frames_; }
  bool is_causal() const { return is_causal_; }
  // The names of the columns of a keypoint and of a joint, as columns.h has them.
  const std::vector<std::string>& inputs() const { return inputs_; }
  const std::vector<std::string>& outputs() const { return outputs_; }

 private:
  std::unique_ptr<Context> take() const;
  void give(std::unique_ptr<Context> context) const;

  const std::string model_, precision_;
  const Skeleton* const skeleton_;
  const int frames_, threads_;
  const bool is_causal_;
  const std::vector<std::string> inputs_, outputs_;
  const std::shared_ptr<const Plan> plan_;
  // The contexts that nobody runs, without a lock: taken by exchanging one for null, given by exchanging null for one.
  mutable std::array<std::atomic<Context*>, 64> idle_{};
};

// The engine in a file. Throws EngineError if the file cannot be read or not be run here, std::invalid_argument for threads out
// of range.
std::shared_ptr<const Engine> load(const std::string& path, int threads, const char* isa);

}  // namespace edgepose
