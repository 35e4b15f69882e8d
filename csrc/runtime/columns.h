// The columns of a lifter's input and output; edgepose/columns.py names and explains them.
#pragma once

#include <string>
#include <vector>

namespace edgepose {

struct Columns {
  std::vector<const char*> names;  // all known columns
  int published;                   // the number of leading columns that every lifter has

  // Whether `some` is the published columns followed by some of the others, in their order.
  bool are(const std::vector<std::string>& some) const {
    std::size_t at = 0;
    for (std::size_t i = 0; i < names.size(); i++) {
      if (at < some.size() && some[at] == names[i]) at++;
      else if ((int)i < published) return false;
    }
    return at == some.size();
  }
};

inline const Columns kInputs{
    {"x", "y", "confidence", "length", "length_known", "depth", "depth_known", "elevation", "elevation_known", "gap"},
    2};
inline const Columns kOutputs{{"x", "y", "z", "error"}, 3};

}  // namespace edgepose
