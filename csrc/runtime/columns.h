// The columns of what a lifter takes and of what it answers, as edgepose/columns.py names and explains them.
#pragma once

#include <string>
#include <vector>

namespace edgepose {

struct Columns {
  std::vector<const char*> names;  // all there are
  int published;                   // the first ones, which every lifter has

  // The published ones, then some of the others, in their order.
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
    {"x", "y", "confidence", "length", "length_known", "depth", "depth_known", "elevation", "elevation_known"}, 2};
inline const Columns kOutputs{{"x", "y", "z", "error"}, 3};

}  // namespace edgepose
