// Reads JSON texts, each after a line with its length in bytes, and answers each with a line: what csrc/json.cpp read,
// written so that Python's reader tells whole numbers from others and sees every bit, or ! and the error.
#include <cstdio>
#include <iostream>
#include <stdexcept>

#include "../csrc/json.h"

using namespace edgepose::json;

static void print(const std::string& text) {
  std::putchar('"');
  for (const unsigned char c : text) std::printf(c < 0x20 || c == '"' || c == '\\' ? "\\u%04x" : "%c", c);
  std::putchar('"');
}

static void print(const Value& value) {
  switch (value.kind) {
    case Kind::null: std::printf("null"); break;
    case Kind::boolean: std::printf(value.boolean ? "true" : "false"); break;
    case Kind::number:
      if (value.is_whole) std::printf("%lld", (long long)value.whole);
      else std::printf("%.17e", value.number);
      break;
    case Kind::string: print(value.text); break;
    case Kind::array: case Kind::object:
      std::putchar(value.kind == Kind::array ? '[' : '{');
      for (std::size_t i = 0; i < value.items.size(); i++) {
        if (i) std::putchar(',');
        if (value.kind == Kind::object) print(value.keys[i]), std::putchar(':');
        print(value.items[i]);
      }
      std::putchar(value.kind == Kind::array ? ']' : '}');
  }
}

int main() {
  for (std::size_t length; std::cin >> length;) {
    std::string text(length, 0);
    std::cin.get();
    std::cin.read(text.data(), (std::streamsize)length);
    try {
      const Value value = parse(text);
      print(value);
    } catch (const std::invalid_argument& error) {
      std::printf("!%s", error.what());
    }
    std::putchar('\n');
  }
}
