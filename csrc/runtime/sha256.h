// SHA-256 (FIPS 180-4), the checksum of engine files: against damage, not against forgery.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace edgepose {

class Sha256 {
 public:
  void update(const void* data, std::size_t bytes);
  std::string hex();  // digest of all bytes passed to update(); the last call

 private:
  void blocks(const unsigned char* data, std::size_t count);
  void block(const unsigned char* data);

  std::uint32_t state_[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                             0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
  unsigned char rest_[64];
  std::uint64_t bytes_ = 0;
};

}  // namespace edgepose
