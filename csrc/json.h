// A strict parser of small JSON texts, such as an engine file's headers.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace edgepose::json {

enum class Kind { null, boolean, number, string, array, object };

struct Value {
  Kind kind = Kind::null;
  bool boolean = false;
  bool is_whole = false;   // written without point and exponent, and an int64: then `whole` is exact
  std::int64_t whole = 0;
  double number = 0;
  std::string text;                // UTF-8
  std::vector<std::string> keys;   // an object's keys, in their order
  std::vector<Value> items;        // an array's items, or the values of `keys`

  // The value of a key, or null if this is no object or has no such key.
  const Value* find(std::string_view key) const;
};

// Throws std::invalid_argument, with the byte, for anything that RFC 8259 does not allow, and for what it leaves open:
// a duplicate key, bytes that are not UTF-8, half a surrogate pair, a number beyond double, more than 64 levels.
Value parse(std::string_view text);

}  // namespace edgepose::json
