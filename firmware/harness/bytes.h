// Little-endian numbers in byte buffers of any alignment.
#pragma once

#include <cstdint>

namespace tinyboost {

inline uint16_t load_u16(const uint8_t* bytes) {
  return static_cast<uint16_t>(bytes[0] | (bytes[1] << 8));
}

inline uint32_t load_u32(const uint8_t* bytes) {
  return load_u16(bytes) | (static_cast<uint32_t>(load_u16(bytes + 2)) << 16);
}

inline void store_u16(uint8_t* bytes, uint16_t value) {
  bytes[0] = static_cast<uint8_t>(value);
  bytes[1] = static_cast<uint8_t>(value >> 8);
}

inline void store_u32(uint8_t* bytes, uint32_t value) {
  store_u16(bytes, static_cast<uint16_t>(value));
  store_u16(bytes + 2, static_cast<uint16_t>(value >> 16));
}

inline void store_u64(uint8_t* bytes, uint64_t value) {
  store_u32(bytes, static_cast<uint32_t>(value));
  store_u32(bytes + 4, static_cast<uint32_t>(value >> 32));
}

}  // namespace tinyboost
