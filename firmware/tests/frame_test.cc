#include "harness/frame.h"

#include <algorithm>
#include <vector>

#include "check.h"
#include "harness/crc32.h"

namespace tinyboost {
namespace {

using Event = FrameBuffer::Event;

Event feed(FrameBuffer& buffer, const std::vector<uint8_t>& bytes) {
  Event last = Event::kNone;
  for (const uint8_t byte : bytes) last = buffer.receive(byte);
  return last;
}

std::vector<uint8_t> encode(uint8_t type, uint16_t sequence, const std::vector<uint8_t>& payload) {
  FrameBuffer buffer;
  std::copy(payload.begin(), payload.end(), buffer.payload());
  const size_t size = buffer.seal(type, sequence, static_cast<uint16_t>(payload.size()));
  return {buffer.encoded(), buffer.encoded() + size};
}

std::vector<uint8_t> payload_of(const FrameBuffer& buffer) {
  return {buffer.payload(), buffer.payload() + buffer.length()};
}

TEST(crc_of_the_catalogued_check_string) {
  CHECK_EQ(crc32("123456789", 9), 0xCBF43926U);
  CHECK_EQ(crc32("", 0), 0U);
}

// Made with Python's zlib and the `cobs` package.
TEST(known_frame_on_the_wire) {
  const std::vector<uint8_t> expected = {0x06, 0x01, 0x09, 0x02, 0x01, 0x03, 0x01, 0x02,
                                         0x01, 0x05, 0xDB, 0x92, 0x45, 0xEC, 0x00};
  CHECK(encode(0x09, 0x0102, {0, 1, 0}) == expected);
}

TEST(every_length_survives_the_way_there_and_back) {
  for (size_t length = 0; length <= kMaxPayload; ++length) {
    for (const int pattern : {0, 1, 2}) {
      std::vector<uint8_t> payload(length);
      for (size_t i = 0; i < length; ++i) {
        payload[i] = static_cast<uint8_t>(pattern == 0 ? 0 : pattern == 1 ? 0xFF : i % 3);
      }
      const std::vector<uint8_t> encoded = encode(0x81, 0xFFFE, payload);
      CHECK_EQ(encoded.size(), kHeaderBytes + length + kCrcBytes + 2);
      CHECK_EQ(std::count(encoded.begin(), encoded.end(), 0), 1);
      FrameBuffer buffer;
      CHECK(feed(buffer, encoded) == Event::kFrame);
      CHECK_EQ(buffer.version(), kProtocolVersion);
      CHECK_EQ(buffer.type(), 0x81);
      CHECK_EQ(buffer.sequence(), 0xFFFE);
      CHECK(payload_of(buffer) == payload);
    }
  }
}

TEST(every_changed_byte_is_noticed_and_the_next_frame_arrives) {
  const std::vector<uint8_t> good = encode(0x09, 7, {1, 0, 2, 0, 0, 3});
  FrameBuffer buffer;
  for (size_t at = 0; at + 1 < good.size(); ++at) {
    for (int value = 1; value < 256; ++value) {
      if (value == good[at]) continue;
      std::vector<uint8_t> bad = good;
      bad[at] = static_cast<uint8_t>(value);
      CHECK(feed(buffer, bad) == Event::kDamaged);
    }
    CHECK(feed(buffer, good) == Event::kFrame);
  }
}

TEST(every_lost_byte_is_noticed) {
  const std::vector<uint8_t> good = encode(0x09, 7, {1, 0, 2, 0, 0, 3});
  FrameBuffer buffer;
  for (size_t at = 0; at + 1 < good.size(); ++at) {
    std::vector<uint8_t> bad = good;
    bad.erase(bad.begin() + static_cast<std::ptrdiff_t>(at));
    CHECK(feed(buffer, bad) == Event::kDamaged);
  }
  CHECK(feed(buffer, good) == Event::kFrame);
}

TEST(an_endless_frame_is_one_damaged_frame) {
  FrameBuffer buffer;
  for (int i = 0; i < 200'000; ++i) CHECK(buffer.receive(0x55) == Event::kNone);
  CHECK(buffer.receive(0) == Event::kDamaged);
  CHECK(feed(buffer, encode(0x09, 1, {})) == Event::kFrame);
}

TEST(empty_frames_are_passed_over) {
  FrameBuffer buffer;
  CHECK(feed(buffer, {0, 0, 0}) == Event::kNone);
  CHECK(feed(buffer, encode(0x09, 1, {})) == Event::kFrame);
}

}  // namespace
}  // namespace tinyboost
