// CRC-32 of IEEE 802.3 (reflected, polynomial 0x04C11DB7), as zlib computes it.
#pragma once

#include <cstddef>
#include <cstdint>

namespace tinyboost {

uint32_t crc32(const void* data, size_t size);

}  // namespace tinyboost
