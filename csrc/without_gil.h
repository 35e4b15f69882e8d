// Python's lock, released for as long as an object of this class lives.
#pragma once

#include <pybind11/pybind11.h>

#include <chrono>
#include <thread>

namespace edgepose {

// Where the interpreter ends a thread: it stops here, for ever, and the process goes on to its end without it.
[[noreturn]] inline void stop_thread() {
  for (;;) std::this_thread::sleep_for(std::chrono::hours(24));
}

// Not py::gil_scoped_release: until Python 3.13 a daemon thread that takes the lock back while the interpreter ends is
// ended by pthread_exit, whose unwinding may not leave a destructor: the whole process would abort. This one stops the
// thread here, as Python 3.14 does: the process goes on to its end without it.
class WithoutGil {
 public:
  WithoutGil() : state_(PyEval_SaveThread()) {}
  ~WithoutGil() {
    try {
      PyEval_RestoreThread(state_);
    } catch (...) {  // pthread_exit's, which nothing may swallow: no way leads out of here
      stop_thread();
    }
  }
  WithoutGil(const WithoutGil&) = delete;
  WithoutGil& operator=(const WithoutGil&) = delete;

 private:
  PyThreadState* state_;
};

}  // namespace edgepose
