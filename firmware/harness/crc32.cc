#include "harness/crc32.h"

#include <array>

namespace tinyboost {
namespace {

constexpr uint32_t kReflectedPolynomial = 0xEDB88320;

// One entry for each nibble: 64 bytes of flash instead of the 1 KB of a table for bytes.
constexpr std::array<uint32_t, 16> make_table() {
  std::array<uint32_t, 16> table{};
  for (uint32_t nibble = 0; nibble < table.size(); ++nibble) {
    uint32_t remainder = nibble;
    for (int bit = 0; bit < 4; ++bit) {
      remainder = (remainder >> 1) ^ ((remainder & 1) ? kReflectedPolynomial : 0);
    }
    table[nibble] = remainder;
  }
  return table;
}

constexpr std::array<uint32_t, 16> kTable = make_table();

}  // namespace

uint32_t crc32(const void* data, size_t size) {
  const auto* bytes = static_cast<const uint8_t*>(data);
  uint32_t crc = 0xFFFFFFFF;
  for (size_t i = 0; i < size; ++i) {
    crc ^= bytes[i];
    crc = (crc >> 4) ^ kTable[crc & 15];
    crc = (crc >> 4) ^ kTable[crc & 15];
  }
  return ~crc;
}

}  // namespace tinyboost
