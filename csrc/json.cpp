#include "json.h"

#include <algorithm>
#include <cmath>
#include <locale>
#include <sstream>
#include <stdexcept>

namespace edgepose::json {

namespace {

constexpr int kMaxDepth = 64;

void append_utf8(std::string& to, std::uint32_t c) {
  static constexpr unsigned char lead[] = {0, 0xc0, 0xe0, 0xf0};
  int more = c < 0x80 ? 0 : c < 0x800 ? 1 : c < 0x10000 ? 2 : 3;
  to += (char)(lead[more] | c >> 6 * more);
  while (more-- > 0) to += (char)(0x80 | (c >> 6 * more & 0x3f));
}

class Parser {
 public:
  explicit Parser(std::string_view text) : text_(text) {}

  Value all() {
    Value value = any(0);
    skip_space();
    if (at_ < text_.size()) fail("something follows its end");
    return value;
  }

 private:
  [[noreturn]] void fail(const char* why) const {
    throw std::invalid_argument("not JSON at byte " + std::to_string(at_) + ": " + why);
  }

  // The byte here, or 0 at the end; no byte 0 is ever part of JSON.
  char here() const { return at_ < text_.size() ? text_[at_] : 0; }
  bool takes(char c) { return here() == c && c ? (at_++, true) : false; }
  void skip_space() {
    while (here() == ' ' || here() == '\n' || here() == '\t' || here() == '\r') at_++;
  }
  bool is_digit() const { return here() >= '0' && here() <= '9'; }

  Value any(int depth) {
    skip_space();
    if (depth > kMaxDepth) fail("it is nested too deep");
    Value value;
    switch (here()) {
      case '{': object(value, depth); break;
      case '[': array(value, depth); break;
      case '"': value.kind = Kind::string, value.text = string(); break;
      case 't': word("true"), value.kind = Kind::boolean, value.boolean = true; break;
      case 'f': word("false"), value.kind = Kind::boolean; break;
      case 'n': word("null"); break;
      default: number(value);
    }
    return value;
  }

  void word(std::string_view wanted) {
    if (text_.substr(at_, wanted.size()) != wanted) fail("wanted a value");
    at_ += wanted.size();
  }

  void array(Value& value, int depth) {
    value.kind = Kind::array;
    at_++;
    skip_space();
    if (takes(']')) return;
    do {
      value.items.push_back(any(depth + 1));
      skip_space();
    } while (takes(','));
    if (!takes(']')) fail("wanted , or ]");
  }

  void object(Value& value, int depth) {
    value.kind = Kind::object;
    at_++;
    skip_space();
    if (takes('}')) return;
    do {
      skip_space();
      if (here() != '"') fail("wanted a key");
      value.keys.push_back(string());
      skip_space();
      if (!takes(':')) fail("wanted :");
      value.items.push_back(any(depth + 1));
      skip_space();
    } while (takes(','));
    if (!takes('}')) fail("wanted , or }");
    std::vector<std::string_view> sorted(value.keys.begin(), value.keys.end());
    std::sort(sorted.begin(), sorted.end());
    if (std::adjacent_find(sorted.begin(), sorted.end()) != sorted.end()) fail("an object has a key twice");
  }

  void number(Value& value) {
    const std::size_t begin = at_;
    const bool is_negative = takes('-');
    if (!is_digit()) fail("wanted a value");
    value.kind = Kind::number;
    value.is_whole = true;
    // Accumulates negative values: int64 has one more of them.
    constexpr std::int64_t least = INT64_MIN;
    const bool is_zero = here() == '0';
    for (; is_digit() && !(is_zero && at_ > begin + is_negative); at_++) {
      const int digit = here() - '0';
      if (value.whole < (least + digit) / 10) value.is_whole = false;
      else value.whole = value.whole * 10 - digit;
    }
    if (!is_negative && value.whole == least) value.is_whole = false;
    if (takes('.')) {
      value.is_whole = false;
      digits();
    }
    if (takes('e') || takes('E')) {
      value.is_whole = false;
      if (!takes('+')) takes('-');
      digits();
    }
    if (!value.is_whole) value.whole = 0;
    else if (!is_negative) value.whole = -value.whole;
    value.number = value.is_whole ? (double)value.whole : real(text_.substr(begin, at_ - begin));
  }

  void digits() {
    if (!is_digit()) fail("wanted a digit");
    while (is_digit()) at_++;
  }

  // strtod would read a decimal comma where the program's locale has one.
  double real(std::string_view digits) const {
    std::istringstream stream{std::string(digits)};
    stream.imbue(std::locale::classic());
    double value;
    if (!(stream >> value) || !std::isfinite(value)) fail("a number is too large");
    return value;
  }

  std::string string() {
    std::string value;
    at_++;
    while (!takes('"')) {
      const unsigned char c = (unsigned char)here();
      if (at_ >= text_.size()) fail("a string does not end");
      if (c < 0x20) fail("a control character in a string");
      if (c == '\\') escape(value);
      else if (c < 0x80) value += (char)c, at_++;
      else multibyte(value);
    }
    return value;
  }

  void escape(std::string& to) {
    at_++;
    static constexpr char from[] = "\"\\/bfnrt", into[] = "\"\\/\b\f\n\r\t";
    for (int i = 0; from[i]; i++)
      if (takes(from[i])) return (void)(to += into[i]);
    if (!takes('u')) fail("an unknown escape");
    std::uint32_t c = four_hex();
    if (c >= 0xdc00 && c < 0xe000) fail("half a surrogate pair");
    if (c >= 0xd800 && c < 0xdc00) {
      if (!takes('\\') || !takes('u')) fail("half a surrogate pair");
      const std::uint32_t low = four_hex();
      if (low < 0xdc00 || low >= 0xe000) fail("half a surrogate pair");
      c = 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
    }
    append_utf8(to, c);
  }

  std::uint32_t four_hex() {
    std::uint32_t value = 0;
    for (int i = 0; i < 4; i++, at_++) {
      const char c = here();
      const int digit = is_digit()             ? c - '0'
                        : c >= 'a' && c <= 'f' ? c - 'a' + 10
                        : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                               : -1;
      if (digit < 0) fail("wanted four hexadecimal digits");
      value = value << 4 | (std::uint32_t)digit;
    }
    return value;
  }

  // Reads a character of two to four bytes. Only its shortest form is valid, and surrogates are no characters.
  void multibyte(std::string& to) {
    const unsigned char c = (unsigned char)here();
    const int more = c >= 0xf0 ? 3 : c >= 0xe0 ? 2 : 1;
    std::uint32_t code = c & (0x3f >> more);
    if (c < 0xc2 || c > 0xf4) fail("bytes that are not UTF-8");
    for (int i = 1; i <= more; i++) {
      const unsigned char next = at_ + i < text_.size() ? (unsigned char)text_[at_ + i] : 0;
      if ((next & 0xc0) != 0x80) fail("bytes that are not UTF-8");
      code = code << 6 | (next & 0x3f);
    }
    if (code < (more == 3   ? 0x10000u
                : more == 2 ? 0x800u
                            : 0x80u)
        || code > 0x10ffff || (code >= 0xd800 && code < 0xe000))
      fail("bytes that are not UTF-8");
    to.append(text_.substr(at_, more + 1));
    at_ += more + 1;
  }

  std::string_view text_;
  std::size_t at_ = 0;
};

}  // namespace

const Value* Value::find(std::string_view key) const {
  for (std::size_t i = 0; i < keys.size(); i++)
    if (keys[i] == key) return &items[i];
  return nullptr;
}

Value parse(std::string_view text) { return Parser(text).all(); }

}  // namespace edgepose::json
