#include "engine.h"

#include <algorithm>

namespace edgepose {

Engine::Engine(const EngineFile& file, int threads, const char* isa, std::vector<int> cpus)
    : model_(file.model),
      precision_(file.precision),
      skeleton_(file.skeleton),
      frames_(file.frames),
      threads_(threads),
      cpus_(std::move(cpus)),
      is_causal_(file.is_causal),
      inputs_(file.inputs),
      outputs_(file.outputs),
      rate_hz_(file.rate_hz),
      plan_(std::make_shared<const Plan>(file.plan, kernels(isa))) {
  give(std::make_unique<Context>(plan_, threads_, cpus_));  // the first run finds it
}

Engine::~Engine() {
  for (std::atomic<Context*>& slot : idle_) delete slot.load();
}

std::unique_ptr<Context> Engine::take() const {
  for (std::atomic<Context*>& slot : idle_)
    if (Context* context = slot.exchange(nullptr)) return std::unique_ptr<Context>(context);
  return std::make_unique<Context>(plan_, threads_, cpus_);
}

void Engine::give(std::unique_ptr<Context> context) const {
  for (std::atomic<Context*>& slot : idle_) {
    Context* none = nullptr;
    if (slot.compare_exchange_strong(none, context.get())) return (void)context.release();
  }
}

void Engine::Turn::reserve(int people) {
  context_->reserve(people);
  const int frames = engine_.plan_->has_state() ? 1 : engine_.frames_;
  windows_.resize((std::size_t)people * (std::size_t)(frames * engine_.skeleton_->joints) * engine_.inputs_.size());
  states_.resize((std::size_t)people);
}

void Engine::Turn::run(Person* const* people, int n, float* answers) {
  if (n == 1 && !people[0]->has_state()) return context_->run(people[0]->window(), answers, 1);
  reserve(n);
  float* to = windows_.data();
  for (int i = 0; i < n; i++) {
    to = std::copy_n(people[i]->window(), people[i]->window_size(), to);
    states_[(std::size_t)i] = people[i]->state();
  }
  if (people[0]->has_state()) context_->step(windows_.data(), answers, n, states_.data());
  else context_->run(windows_.data(), answers, n);
}

std::shared_ptr<const Engine> load(const std::string& path, int threads, const char* isa, std::vector<int> cpus) {
  if (threads < 1 || threads > 256)
    throw std::invalid_argument("threads is " + std::to_string(threads) + "; it needs 1 to 256");
  if (cpus.size() > (std::size_t)threads - 1)
    throw std::invalid_argument(std::to_string(cpus.size()) + " cpus for " + std::to_string(threads - 1)
                                + " threads but the caller's; wanted at most one each");
  const Bytes bytes = read_bytes(path);
  const EngineFile file = read_engine(path, bytes);
  if (file.backend != "native")
    throw EngineError(path + ": it is for the " + file.backend
                      + " backend, which needs Python; the runtime without it runs native engines: "
                      "edgepose compile --model " + file.model + " --backend native");
  try {
    return std::make_shared<const Engine>(file, threads, isa, std::move(cpus));
  } catch (const std::invalid_argument& error) {
    throw EngineError(path + ": " + error.what());
  }
}

}  // namespace edgepose
