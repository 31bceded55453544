#include "harness/harness.h"

#include <algorithm>
#include <cstring>
#include <numeric>
#include <string>
#include <vector>

#include "check.h"
#include "fake_model/model.h"
#include "fake_platform.h"
#include "harness/bytes.h"

namespace tinyboost {
namespace {

using Bytes = std::vector<uint8_t>;

struct Reply {
  uint8_t type = 0;
  uint16_t sequence = 0;
  Bytes payload;
};

// A harness after reset, and a host that sends it requests.
class Session {
 public:
  Session() {
    fake_platform::state() = {};
    harness_.start();
  }

  Harness& harness() { return harness_; }

  void send_raw(const Bytes& bytes) {
    for (const uint8_t byte : bytes) harness_.receive(byte);
  }

  // The replies since the last call.
  std::vector<Reply> replies() {
    std::vector<Reply> found;
    for (const uint8_t byte : fake_platform::state().sent) {
      if (decoder_.receive(byte) != FrameBuffer::Event::kFrame) continue;
      found.push_back({decoder_.type(), decoder_.sequence(),
                       Bytes(decoder_.payload(), decoder_.payload() + decoder_.length())});
    }
    fake_platform::state().sent.clear();
    return found;
  }

  Reply request(MessageType type, const Bytes& payload, uint16_t sequence) {
    FrameBuffer frame;
    std::copy(payload.begin(), payload.end(), frame.payload());
    const size_t size =
        frame.seal(static_cast<uint8_t>(type), sequence, static_cast<uint16_t>(payload.size()));
    send_raw({frame.encoded(), frame.encoded() + size});
    const std::vector<Reply> all = replies();
    CHECK_EQ(all.size(), 1U);
    if (all.empty()) return {};
    CHECK_EQ(all[0].sequence, sequence);
    return all[0];
  }

  Reply request(MessageType type, const Bytes& payload) {
    return request(type, payload, ++sequence_);
  }

  Reply write(uint8_t tensor, uint32_t offset, const Bytes& data) {
    Bytes payload(5);
    payload[0] = tensor;
    store_u32(payload.data() + 1, offset);
    payload.insert(payload.end(), data.begin(), data.end());
    return request(MessageType::kWrite, payload);
  }

  Reply read(uint8_t tensor, uint32_t offset, uint16_t count) {
    Bytes payload(7);
    payload[0] = tensor;
    store_u32(payload.data() + 1, offset);
    store_u16(payload.data() + 5, count);
    return request(MessageType::kRead, payload);
  }

  Reply run(uint8_t flags = 0) { return request(MessageType::kRun, {flags}); }

  void write_inputs(const Bytes& image, const Bytes& bias) {
    write(0, 0, {image.begin(), image.begin() + 235});
    write(0, 235, {image.begin() + 235, image.begin() + 470});
    write(0, 470, {image.begin() + 470, image.end()});
    write(1, 0, bias);
  }

 private:
  Harness harness_;
  FrameBuffer decoder_;
  uint16_t sequence_ = 1000;
};

Bytes test_image() {
  Bytes image(fake_model::kImageBytes);
  std::iota(image.begin(), image.end(), static_cast<uint8_t>(1));
  return image;
}

const Bytes kBias = {1, 2, 3, 4};

bool is_reply(const Reply& reply, MessageType type) {
  return reply.type == (static_cast<uint8_t>(type) | kReplyBit);
}

bool is_error(const Reply& reply, ErrorCode code, uint32_t detail) {
  return reply.type == kErrorType && reply.payload.size() == 5 &&
         reply.payload[0] == static_cast<uint8_t>(code) &&
         load_u32(reply.payload.data() + 1) == detail;
}

TEST(hello_comes_in_pieces_that_make_the_description) {
  Session session;
  std::string text;
  size_t total = 1;
  while (text.size() < total) {
    Bytes request(2);
    store_u16(request.data(), static_cast<uint16_t>(text.size()));
    const Reply reply = session.request(MessageType::kHello, request);
    CHECK(is_reply(reply, MessageType::kHello));
    CHECK(reply.payload.size() > 4);
    if (reply.payload.size() <= 4) return;
    total = load_u16(reply.payload.data());
    CHECK_EQ(load_u16(reply.payload.data() + 2), text.size());
    text.append(reply.payload.begin() + 4, reply.payload.end());
  }
  CHECK_EQ(text.size(), total);
  CHECK(text.rfind("protocol=1\n", 0) == 0);
  CHECK(text.back() == '\n');
  for (const char* line : {"board=fake", "chip=none", "counter=cycles", "clock_hz=216000000",
                           "engine=aot", "model=fake", "input1=int8:1x4:1:0"}) {
    CHECK(text.find("\n" + std::string(line) + "\n") != std::string::npos);
  }
  for (const char* key : {"git", "compiler", "flags"}) {
    CHECK(text.find("\n" + std::string(key) + "=") != std::string::npos);
  }
  CHECK(is_error(session.request(MessageType::kHello, {0xFF, 0xFF}), ErrorCode::kBadRange, 0xFFFF));
}

TEST(an_inference_from_written_inputs) {
  Session session;
  fake_platform::state().counter = 0xFFFFFFF0;  // The counter wraps during the run.
  fake_platform::state().counter_step = 100;
  session.write_inputs(test_image(), kBias);
  const Reply run = session.run();
  CHECK(is_reply(run, MessageType::kRun));
  CHECK_EQ(run.payload.size(), 12U);
  CHECK_EQ(load_u32(run.payload.data()), 100U);
  CHECK_EQ(load_u32(run.payload.data() + 4), 0U);
  CHECK_EQ(load_u32(run.payload.data() + 8), 5U);

  Bytes output = session.read(0, 0, 240).payload;
  const Bytes rest = session.read(0, 240, 60).payload;
  output.insert(output.end(), rest.begin(), rest.end());
  const Bytes image = test_image();
  Bytes expected(fake_model::kOutputBytes);
  fake_model::expected_output(reinterpret_cast<const int8_t*>(image.data()),
                              reinterpret_cast<const int8_t*>(kBias.data()),
                              reinterpret_cast<int8_t*>(expected.data()));
  CHECK(output == expected);
}

TEST(writes_may_repeat_but_leave_no_hole) {
  Session session;
  CHECK(is_error(session.write(0, 1, {1}), ErrorCode::kBadRange, 1));
  CHECK(is_reply(session.write(0, 0, {1, 2, 3}), MessageType::kWrite));
  CHECK(is_reply(session.write(0, 0, {1, 2, 3}), MessageType::kWrite));
  CHECK(is_reply(session.write(0, 2, {3, 4}), MessageType::kWrite));
  CHECK(is_error(session.write(0, 5, {1}), ErrorCode::kBadRange, 5));
  CHECK(is_reply(session.write(0, 4, {}), MessageType::kWrite));
}

TEST(writes_end_with_the_tensor) {
  Session session;
  CHECK(is_error(session.write(1, 0, {1, 2, 3, 4, 5}), ErrorCode::kBadRange, 0));
  CHECK(is_reply(session.write(1, 0, kBias), MessageType::kWrite));
  CHECK(is_error(session.write(1, 4, {1}), ErrorCode::kBadRange, 4));
  CHECK(is_error(session.write(1, 0xFFFFFFFF, {1}), ErrorCode::kBadRange, 0xFFFFFFFF));
  CHECK(is_error(session.write(2, 0, {1}), ErrorCode::kBadTensor, 2));
  CHECK(is_error(session.request(MessageType::kWrite, {0, 0, 0, 0}), ErrorCode::kBadLength, 4));
}

TEST(run_names_the_first_incomplete_input) {
  Session session;
  CHECK(is_error(session.run(), ErrorCode::kInputIncomplete, 0));
  session.write_inputs(test_image(), {1, 2, 3});
  CHECK(is_error(session.run(), ErrorCode::kInputIncomplete, 1));
  CHECK(is_reply(session.write(1, 3, {4}), MessageType::kWrite));
  CHECK(is_reply(session.run(), MessageType::kRun));
  CHECK(is_error(session.run(), ErrorCode::kInputIncomplete, 0));
  CHECK(is_reply(session.run(kRunTimingOnly), MessageType::kRun));
}

TEST(a_repeated_run_is_answered_but_not_run_again) {
  Session session;
  fake_platform::state().counter_step = 10;
  session.write_inputs(test_image(), kBias);
  const Reply first = session.request(MessageType::kRun, {0}, 7);
  const uint64_t after_first = fake_platform::state().counter;
  const Reply again = session.request(MessageType::kRun, {0}, 7);
  CHECK(first.payload == again.payload && first.type == again.type);
  CHECK_EQ(fake_platform::state().counter, after_first);
}

TEST(a_run_of_a_new_host_is_no_repetition) {
  Session session;
  session.write_inputs(test_image(), kBias);
  CHECK(is_reply(session.request(MessageType::kRun, {0}, 7), MessageType::kRun));
  CHECK(is_reply(session.request(MessageType::kEcho, {}, 6), MessageType::kEcho));
  CHECK(is_error(session.request(MessageType::kRun, {0}, 7), ErrorCode::kInputIncomplete, 0));
}

TEST(results_last_from_run_to_write) {
  Session session;
  CHECK(is_error(session.read(0, 0, 1), ErrorCode::kNoResult, 0));
  session.write_inputs(test_image(), kBias);
  CHECK(is_error(session.read(0, 0, 1), ErrorCode::kNoResult, 0));
  session.run();
  CHECK(is_reply(session.read(0, 299, 1), MessageType::kRead));
  CHECK_EQ(session.read(0, 300, 0).payload.size(), 0U);
  CHECK(is_error(session.read(0, 299, 2), ErrorCode::kBadRange, 299));
  CHECK(is_error(session.read(0, 301, 0), ErrorCode::kBadRange, 301));
  CHECK(is_error(session.read(0, 0, 241), ErrorCode::kBadRange, 0));
  CHECK(is_error(session.read(1, 0, 1), ErrorCode::kBadTensor, 1));
  session.write(0, 0, {1});
  CHECK(is_error(session.read(0, 0, 1), ErrorCode::kNoResult, 0));
}

TEST(a_failed_engine_is_reported_also_to_a_repeated_run) {
  Session session;
  Bytes image = test_image();
  image[0] = fake_model::kFail;
  session.write_inputs(image, kBias);
  CHECK(is_error(session.request(MessageType::kRun, {0}, 7), ErrorCode::kEngineFailed, 1));
  CHECK(is_error(session.request(MessageType::kRun, {0}, 7), ErrorCode::kEngineFailed, 1));
  CHECK(is_error(session.read(0, 0, 1), ErrorCode::kNoResult, 0));
}

TEST(profile_has_the_counts_of_each_layer) {
  Session session;
  CHECK(session.request(MessageType::kProfile, {0, 0}).payload == Bytes(4));
  session.write_inputs(test_image(), kBias);
  fake_platform::state().counter_step = 10;
  CHECK(is_reply(session.run(kRunProfile), MessageType::kRun));
  const Bytes all = session.request(MessageType::kProfile, {0, 0}).payload;
  CHECK_EQ(all.size(), 4U + 3 * 4);
  CHECK_EQ(load_u16(all.data()), fake_model::kLayers);
  CHECK_EQ(load_u32(all.data() + 4), 10U);
  CHECK_EQ(load_u32(all.data() + 8), 10U);
  CHECK_EQ(load_u32(all.data() + 12), 10U);
  const Bytes last = session.request(MessageType::kProfile, {2, 0}).payload;
  CHECK_EQ(last.size(), 8U);
  CHECK_EQ(load_u16(last.data() + 2), 2);
  CHECK_EQ(session.request(MessageType::kProfile, {3, 0}).payload.size(), 4U);
  CHECK(is_error(session.request(MessageType::kProfile, {4, 0}), ErrorCode::kBadRange, 4));
}

TEST(profile_keeps_to_the_spare_memory) {
  Session session;
  fake_platform::state().spare.resize(2);
  session.write_inputs(test_image(), kBias);
  session.run(kRunTimingOnly | kRunProfile);
  CHECK_EQ(load_u16(session.request(MessageType::kProfile, {0, 0}).payload.data()), 2);
}

TEST(memory_figures) {
  Session session;
  session.send_raw({1, 2, 3, 0});
  const Bytes payload = session.request(MessageType::kMemory, {}).payload;
  const uint32_t expected[] = {engine::model().arena_bytes, 1, 2, 3, 5, 4, 1, 0};
  CHECK_EQ(payload.size(), sizeof(expected));
  for (size_t i = 0; i < 8; ++i) CHECK_EQ(load_u32(payload.data() + 4 * i), expected[i]);
}

TEST(fault_record_of_the_last_fault) {
  Session session;
  CHECK_EQ(session.request(MessageType::kFault, {}).payload.size(), 0U);
  const FaultRecord record = {3, 0x08001234, 0, 0, 0, 1, 2, 3, 4, 12, 0, 0, 0, 0x20050000};
  fake_platform::state().fault = &record;
  const Bytes payload = session.request(MessageType::kFault, {}).payload;
  CHECK_EQ(payload.size(), sizeof(record));
  CHECK_EQ(load_u32(payload.data() + 4), 0x08001234U);
  CHECK_EQ(load_u32(payload.data() + 52), 0x20050000U);
}

TEST(a_fault_outside_a_request_sends_nothing) {
  Session session;
  session.harness().report_fault({});
  CHECK(fake_platform::state().sent.empty());
}

TEST(reset_is_answered_first) {
  Session session;
  FrameBuffer frame;
  const size_t size = frame.seal(static_cast<uint8_t>(MessageType::kReset), 9, 0);
  const Bytes request(frame.encoded(), frame.encoded() + size);
  volatile bool returned = true;
  if (setjmp(fake_platform::state().after_reset) == 0) {
    session.send_raw(request);
    returned = false;
  }
  CHECK(returned);
  const std::vector<Reply> replies = session.replies();
  CHECK_EQ(replies.size(), 1U);
  CHECK(!replies.empty() && is_reply(replies[0], MessageType::kReset));
}

TEST(echo_of_every_length) {
  Session session;
  for (size_t length = 0; length <= kMaxPayload; ++length) {
    const Bytes payload(length, static_cast<uint8_t>(length));
    CHECK(session.request(MessageType::kEcho, payload).payload == payload);
  }
}

TEST(what_no_version_1_host_sends) {
  Session session;
  CHECK(is_error(session.request(static_cast<MessageType>(0x0A), {}), ErrorCode::kUnknownType, 10));
  CHECK(
      is_error(session.request(static_cast<MessageType>(0x81), {}), ErrorCode::kUnknownType, 129));
  CHECK(is_error(session.request(MessageType::kHello, {}), ErrorCode::kBadLength, 0));
  CHECK(is_error(session.request(MessageType::kRun, {0, 0}), ErrorCode::kBadLength, 2));
  CHECK(is_error(session.request(MessageType::kRead, Bytes(6)), ErrorCode::kBadLength, 6));
  CHECK(is_error(session.request(MessageType::kMemory, {0}), ErrorCode::kBadLength, 1));
  CHECK(is_error(session.request(MessageType::kProfile, {0}), ErrorCode::kBadLength, 1));
  CHECK(is_error(session.request(MessageType::kFault, {0}), ErrorCode::kBadLength, 1));
  CHECK(is_error(session.request(MessageType::kReset, {0}), ErrorCode::kBadLength, 1));
}

TEST(damaged_frames_get_no_answer) {
  Session session;
  session.send_raw({0x05, 0x01, 0x02, 0x03, 0x04, 0x00, 0x00, 0xFF, 0x00});
  CHECK(session.replies().empty());
  CHECK(is_reply(session.request(MessageType::kEcho, {1}), MessageType::kEcho));
}

}  // namespace
}  // namespace tinyboost
