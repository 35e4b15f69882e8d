// Numbers in messages.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <string>

namespace edgepose {

// With as many digits as it takes to read the number back: time stamps have more than nine.
inline std::string text(double value) {
  char buffer[32];
  for (int digits = 9; digits <= 17; digits++) {
    std::snprintf(buffer, sizeof buffer, "%.*g", digits, value);
    if (std::strtod(buffer, nullptr) == value) break;
  }
  return buffer;
}

}  // namespace edgepose
