// Python's lock, released for as long as an object of this class lives.
#pragma once

#include <pybind11/pybind11.h>

#include <chrono>
#include <thread>

namespace edgepose {

// Blocks, for ever, a thread that the interpreter is ending; the process ends without it.
[[noreturn]] inline void stop_thread() {
  for (;;) std::this_thread::sleep_for(std::chrono::hours(24));
}

// Not py::gil_scoped_release: until Python 3.13 a daemon thread that takes the lock back while the interpreter ends is
// ended by pthread_exit, whose unwinding may not leave a destructor: the whole process would abort. This class blocks
// the thread, as Python 3.14 does, and the process ends without it.
class WithoutGil {
 public:
  WithoutGil() : state_(PyEval_SaveThread()) {}
  ~WithoutGil() {
    try {
      PyEval_RestoreThread(state_);
    } catch (...) {  // pthread_exit's unwinding, which must not be swallowed: never leave this block
      stop_thread();
    }
  }
  WithoutGil(const WithoutGil&) = delete;
  WithoutGil& operator=(const WithoutGil&) = delete;

 private:
  PyThreadState* state_;
};

}  // namespace edgepose
