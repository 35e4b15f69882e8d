#include "engine.h"

namespace edgepose {

Engine::Engine(const EngineFile& file, int threads, const char* isa)
    : model_(file.model),
      precision_(file.precision),
      skeleton_(file.skeleton),
      frames_(file.frames),
      threads_(threads),
      is_causal_(file.is_causal),
      inputs_(file.inputs),
      outputs_(file.outputs),
      plan_(std::make_shared<const Plan>(file.plan, kernels(isa))) {
  give(std::make_unique<Context>(plan_, threads_));  // the first run finds it
}

Engine::~Engine() {
  for (std::atomic<Context*>& slot : idle_) delete slot.load();
}

std::unique_ptr<Context> Engine::take() const {
  for (std::atomic<Context*>& slot : idle_)
    if (Context* context = slot.exchange(nullptr)) return std::unique_ptr<Context>(context);
  return std::make_unique<Context>(plan_, threads_);
}

void Engine::give(std::unique_ptr<Context> context) const {
  for (std::atomic<Context*>& slot : idle_) {
    Context* none = nullptr;
    if (slot.compare_exchange_strong(none, context.get())) return (void)context.release();
  }
}

std::shared_ptr<const Engine> load(const std::string& path, int threads, const char* isa) {
  if (threads < 1 || threads > 256) throw std::invalid_argument("threads is " + std::to_string(threads) + "; it needs 1 to 256");
  const Bytes bytes = read_bytes(path);
  const EngineFile file = read_engine(path, bytes);
  if (file.backend != "native")
    throw EngineError(path + ": it is for the " + file.backend + " backend, which needs Python; the runtime without it runs native engines: "
                      "edgepose compile --model " + file.model + " --backend native");
  try {
    return std::make_shared<const Engine>(file, threads, isa);
  } catch (const std::invalid_argument& error) {
    throw EngineError(path + ": " + error.what());
  }
}

}  // namespace edgepose
