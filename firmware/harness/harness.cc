#include "harness/harness.h"

#include <algorithm>
#include <cstring>

#include "harness/bytes.h"
#include "harness/description.h"
#include "harness/platform.h"
#include "harness/profile.h"

namespace tinyboost {
namespace {

constexpr size_t kPieceHeader = 4;  // HELLO and PROFILE replies: u16 total, u16 first.
constexpr uint16_t kWriteHeader = 5;
constexpr uint16_t kReadBytes = 7;

Harness the_harness;

}  // namespace

Harness& harness() { return the_harness; }

void serve() {
  platform::initialise();
  harness().start();
  for (;;) harness().receive(platform::read_byte());
}

Harness::Answer Harness::reply(size_t length) {
  return {static_cast<uint16_t>(length), ErrorCode{}, 0, false};
}

Harness::Answer Harness::error(ErrorCode code, uint32_t detail) { return {0, code, detail, true}; }

void Harness::start() {
  engine_ready_ =
      engine::model().input_count <= kMaxInputs && engine::initialise() == engine::Status::kOk;
}

void Harness::receive(uint8_t byte) {
  switch (frame_.receive(byte)) {
    case FrameBuffer::Event::kNone:
      break;
    case FrameBuffer::Event::kDamaged:
      ++frames_dropped_;
      break;
    case FrameBuffer::Event::kFrame:
      handle_request();
      break;
  }
}

void Harness::handle_request() {
  const uint8_t type = frame_.type();
  sequence_ = frame_.sequence();
  in_request_ = true;
  if (type != static_cast<uint8_t>(MessageType::kRun)) last_run_.repeatable = false;
  const Answer result = answer();
  if (result.failed) {
    send_error(result.error, result.detail, nullptr);
  } else {
    send(type | kReplyBit, result.length);
    if (type == static_cast<uint8_t>(MessageType::kReset)) platform::reset();
  }
  in_request_ = false;
}

Harness::Answer Harness::answer() {
  if (frame_.version() != kProtocolVersion) {
    return error(ErrorCode::kBadVersion, frame_.version());
  }
  const uint16_t length = frame_.length();
  const auto if_length_is = [this, length](size_t expected, Answer (Harness::*handler)()) {
    return length == expected ? (this->*handler)() : error(ErrorCode::kBadLength, length);
  };
  switch (static_cast<MessageType>(frame_.type())) {
    case MessageType::kHello:
      return if_length_is(2, &Harness::hello);
    case MessageType::kWrite:
      return length >= kWriteHeader ? write_input() : error(ErrorCode::kBadLength, length);
    case MessageType::kRun:
      return if_length_is(1, &Harness::run);
    case MessageType::kRead:
      return if_length_is(kReadBytes, &Harness::read_output);
    case MessageType::kMemory:
      return if_length_is(0, &Harness::memory);
    case MessageType::kProfile:
      return if_length_is(2, &Harness::profile_layers);
    case MessageType::kFault:
      return if_length_is(0, &Harness::fault);
    case MessageType::kReset:
      return length == 0 ? reply(0) : error(ErrorCode::kBadLength, length);
    case MessageType::kEcho:
      return reply(length);
  }
  return error(ErrorCode::kUnknownType, frame_.type());
}

Harness::Answer Harness::hello() {
  uint8_t* const payload = frame_.payload();
  const Description description;
  const uint16_t offset = load_u16(payload);
  if (offset > description.size()) return error(ErrorCode::kBadRange, offset);
  const size_t count = std::min(description.size() - offset, kMaxPayload - kPieceHeader);
  store_u16(payload, static_cast<uint16_t>(description.size()));
  store_u16(payload + 2, offset);
  description.copy(offset, count, payload + kPieceHeader);
  return reply(kPieceHeader + count);
}

Harness::Answer Harness::write_input() {
  const engine::Model& model = engine::model();
  const uint8_t* const payload = frame_.payload();
  const uint8_t index = payload[0];
  const uint32_t offset = load_u32(payload + 1);
  const auto count = static_cast<uint32_t>(frame_.length() - kWriteHeader);
  if (index >= std::min<size_t>(model.input_count, kMaxInputs)) {
    return error(ErrorCode::kBadTensor, index);
  }
  const engine::Tensor& input = model.inputs[index];
  if (offset > written_[index] || count > input.bytes - offset) {
    return error(ErrorCode::kBadRange, offset);
  }
  std::memcpy(static_cast<uint8_t*>(input.data) + offset, payload + kWriteHeader, count);
  written_[index] = std::max(written_[index], offset + count);
  has_result_ = false;
  return reply(0);
}

Harness::Answer Harness::run() {
  if (last_run_.repeatable && last_run_.sequence == sequence_) return run_answer();
  const uint8_t flags = frame_.payload()[0];
  if (!engine_ready_) {
    return error(ErrorCode::kEngineFailed, static_cast<uint32_t>(engine::Status::kFailed));
  }
  if (!(flags & kRunTimingOnly)) {
    const engine::Model& model = engine::model();
    for (uint8_t index = 0; index < model.input_count; ++index) {
      if (written_[index] != model.inputs[index].bytes) {
        return error(ErrorCode::kInputIncomplete, index);
      }
    }
  }
  invoke(flags & kRunProfile);
  return run_answer();
}

void Harness::invoke(bool profiled) {
  std::fill_n(written_, kMaxInputs, 0U);
  const uint64_t start = profiled ? profile::begin() : platform::counter();
  const engine::Status status = engine::invoke(profiled ? profile::after_layer : nullptr);
  const uint64_t count = (platform::counter() - start) & platform::counter_mask;
  has_result_ = status == engine::Status::kOk;
  last_run_ = {true, sequence_, status, platform::stack_used(), count};
}

Harness::Answer Harness::run_answer() {
  if (last_run_.status != engine::Status::kOk) {
    return error(ErrorCode::kEngineFailed, static_cast<uint32_t>(last_run_.status));
  }
  store_u64(frame_.payload(), last_run_.count);
  store_u32(frame_.payload() + 8, last_run_.stack_used);
  return reply(12);
}

Harness::Answer Harness::read_output() {
  const engine::Model& model = engine::model();
  uint8_t* const payload = frame_.payload();
  const uint8_t index = payload[0];
  const uint32_t offset = load_u32(payload + 1);
  const uint16_t count = load_u16(payload + 5);
  if (!has_result_) return error(ErrorCode::kNoResult, 0);
  if (index >= model.output_count) return error(ErrorCode::kBadTensor, index);
  const engine::Tensor& output = model.outputs[index];
  if (count > kMaxPayload || offset > output.bytes || count > output.bytes - offset) {
    return error(ErrorCode::kBadRange, offset);
  }
  std::memcpy(payload, static_cast<const uint8_t*>(output.data) + offset, count);
  return reply(count);
}

Harness::Answer Harness::memory() {
  const platform::Memory memory = platform::memory();
  const uint32_t values[] = {
      engine::model().arena_bytes, memory.data,       memory.bss,      memory.stack_reserved,
      platform::stack_used(),      memory.flash_used, frames_dropped_, platform::fault_count(),
  };
  uint8_t* out = frame_.payload();
  for (const uint32_t value : values) {
    store_u32(out, value);
    out += sizeof(value);
  }
  return reply(sizeof(values));
}

Harness::Answer Harness::profile_layers() {
  uint8_t* const payload = frame_.payload();
  const uint16_t total = profile::layer_count();
  const uint16_t first = load_u16(payload);
  if (first > total) return error(ErrorCode::kBadRange, first);
  const size_t count =
      std::min<size_t>(total - first, (kMaxPayload - kPieceHeader) / sizeof(uint32_t));
  store_u16(payload, total);
  store_u16(payload + 2, first);
  for (size_t i = 0; i < count; ++i) {
    store_u32(payload + kPieceHeader + i * sizeof(uint32_t),
              profile::count_of(static_cast<uint16_t>(first + i)));
  }
  return reply(kPieceHeader + count * sizeof(uint32_t));
}

Harness::Answer Harness::fault() {
  const FaultRecord* const record = platform::last_fault();
  if (record == nullptr) return reply(0);
  std::memcpy(frame_.payload(), record, sizeof(*record));
  return reply(sizeof(*record));
}

void Harness::report_fault(const FaultRecord& record) {
  if (!in_request_) return;
  // A reply may have been cut in the middle: end it, so that the host finds this frame's start.
  constexpr uint8_t kDelimiter = 0;
  platform::write(&kDelimiter, 1);
  send_error(ErrorCode::kFault, 0, &record);
}

void Harness::send(uint8_t type, uint16_t length) {
  const size_t size = frame_.seal(type, sequence_, length);
  platform::write(frame_.encoded(), size);
}

void Harness::send_error(ErrorCode code, uint32_t detail, const FaultRecord* record) {
  uint8_t* const payload = frame_.payload();
  payload[0] = static_cast<uint8_t>(code);
  store_u32(payload + 1, detail);
  size_t length = 5;
  if (record != nullptr) {
    std::memcpy(payload + length, record, sizeof(*record));
    length += sizeof(*record);
  }
  send(kErrorType, static_cast<uint16_t>(length));
}

}  // namespace tinyboost
