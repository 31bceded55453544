// Numbers of the wire protocol: docs/protocol.md says what they mean.
#pragma once

#include <cstddef>
#include <cstdint>

namespace tinyboost {

constexpr uint8_t kProtocolVersion = 1;
constexpr uint8_t kReplyBit = 0x80;
constexpr uint8_t kErrorType = 0xFF;

constexpr size_t kHeaderBytes = 6;
constexpr size_t kMaxPayload = 240;
constexpr size_t kCrcBytes = 4;
constexpr size_t kMaxFrame = kHeaderBytes + kMaxPayload + kCrcBytes;

enum class MessageType : uint8_t {
  kHello = 0x01,
  kWrite = 0x02,
  kRun = 0x03,
  kRead = 0x04,
  kMemory = 0x05,
  kProfile = 0x06,
  kFault = 0x07,
  kReset = 0x08,
  kEcho = 0x09,
};

enum class ErrorCode : uint8_t {
  kUnknownType = 1,
  kBadLength = 2,
  kBadTensor = 3,
  kBadRange = 4,
  kInputIncomplete = 5,
  kNoResult = 6,
  kEngineFailed = 7,
  kFault = 8,
  kBadVersion = 9,
};

constexpr uint8_t kRunProfile = 1 << 0;
constexpr uint8_t kRunTimingOnly = 1 << 1;

// The processor's state at a fault, in the order in which it is sent.
struct FaultRecord {
  uint32_t exception;
  uint32_t pc;
  uint32_t lr;
  uint32_t xpsr;
  uint32_t sp;
  uint32_t r0;
  uint32_t r1;
  uint32_t r2;
  uint32_t r3;
  uint32_t r12;
  uint32_t cfsr;
  uint32_t hfsr;
  uint32_t mmfar;
  uint32_t bfar;
};
static_assert(sizeof(FaultRecord) == 56, "the record is sent as it lies in memory");

}  // namespace tinyboost
