// The frame codec: one buffer in which a frame arrives, is decoded, answered and encoded again.
#pragma once

#include <cstddef>
#include <cstdint>

#include "harness/protocol.h"

namespace tinyboost {

// COBS: S. Cheshire, M. Baker, "Consistent Overhead Byte Stuffing", IEEE/ACM Trans. Networking
// 7(2), 1999. A frame has fewer than 254 bytes, so that one code byte precedes it and every other
// code byte replaces a zero: both directions work in place.
class FrameBuffer {
 public:
  enum class Event : uint8_t { kNone, kFrame, kDamaged };

  // Takes the next byte of the stream. After kFrame the accessors below tell of the frame, until
  // the next byte is taken. Empty frames are passed over.
  Event receive(uint8_t byte);

  uint8_t version() const { return header()[0]; }
  uint8_t type() const { return header()[1]; }
  uint16_t sequence() const;
  uint16_t length() const;
  const uint8_t* payload() const { return header() + kHeaderBytes; }
  uint8_t* payload() { return bytes_ + 1 + kHeaderBytes; }

  // Makes a frame of the first `length` bytes that stand in the payload. Returns the number of
  // bytes of `encoded` to send, the closing delimiter among them.
  size_t seal(uint8_t type, uint16_t sequence, uint16_t length);
  const uint8_t* encoded() const { return bytes_; }

 private:
  const uint8_t* header() const { return bytes_ + 1; }
  bool decode(size_t encoded_bytes);

  static constexpr size_t kMaxEncoded = kMaxFrame + 1;

  uint8_t bytes_[kMaxEncoded + 1] = {};
  uint16_t received_ = 0;  // Bytes since the last delimiter; stops at one more than fit.
};

}  // namespace tinyboost
