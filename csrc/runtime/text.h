// Numbers in messages.
#pragma once

#include <cstdio>
#include <string>

namespace edgepose {

inline std::string text(double value) {
  char buffer[32];
  std::snprintf(buffer, sizeof buffer, "%.9g", value);
  return buffer;
}

}  // namespace edgepose
