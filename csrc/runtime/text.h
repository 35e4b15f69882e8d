// Numbers in messages.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <string>

namespace edgepose {

// Prints as many digits as are needed to read the number back exactly: time stamps have more than nine.
inline std::string text(double value) {
  char buffer[32];
  for (int digits = 9; digits <= 17; digits++) {
    std::snprintf(buffer, sizeof buffer, "%.*g", digits, value);
    if (std::strtod(buffer, nullptr) == value) break;
  }
  return buffer;
}

}  // namespace edgepose
