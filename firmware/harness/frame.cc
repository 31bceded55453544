#include "harness/frame.h"

#include "harness/bytes.h"
#include "harness/crc32.h"

namespace tinyboost {

uint16_t FrameBuffer::sequence() const { return load_u16(header() + 2); }

uint16_t FrameBuffer::length() const { return load_u16(header() + 4); }

FrameBuffer::Event FrameBuffer::receive(uint8_t byte) {
  if (byte != 0) {
    if (received_ < kMaxEncoded) bytes_[received_] = byte;
    if (received_ <= kMaxEncoded) ++received_;
    return Event::kNone;
  }
  const size_t encoded_bytes = received_;
  received_ = 0;
  if (encoded_bytes == 0) return Event::kNone;
  return encoded_bytes <= kMaxEncoded && decode(encoded_bytes) ? Event::kFrame : Event::kDamaged;
}

bool FrameBuffer::decode(size_t encoded_bytes) {
  size_t code_at = 0;
  while (code_at < encoded_bytes) {
    const size_t next = code_at + bytes_[code_at];
    bytes_[code_at] = 0;
    code_at = next;
  }
  const size_t frame_bytes = encoded_bytes - 1;
  if (code_at != encoded_bytes || frame_bytes < kHeaderBytes + kCrcBytes) return false;
  const size_t covered = frame_bytes - kCrcBytes;
  return length() == covered - kHeaderBytes &&
         load_u32(header() + covered) == crc32(header(), covered);
}

size_t FrameBuffer::seal(uint8_t type, uint16_t sequence, uint16_t length) {
  uint8_t* const frame = bytes_ + 1;
  frame[0] = kProtocolVersion;
  frame[1] = type;
  store_u16(frame + 2, sequence);
  store_u16(frame + 4, length);
  const size_t covered = kHeaderBytes + length;
  store_u32(frame + covered, crc32(frame, covered));
  const size_t encoded_bytes = 1 + covered + kCrcBytes;

  size_t code_at = 0;
  for (size_t i = 1; i < encoded_bytes; ++i) {
    if (bytes_[i] != 0) continue;
    bytes_[code_at] = static_cast<uint8_t>(i - code_at);
    code_at = i;
  }
  bytes_[code_at] = static_cast<uint8_t>(encoded_bytes - code_at);
  bytes_[encoded_bytes] = 0;
  return encoded_bytes + 1;
}

}  // namespace tinyboost
