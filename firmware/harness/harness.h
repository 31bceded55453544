// The harness: answers the requests of docs/protocol.md, one at a time.
#pragma once

#include <cstddef>
#include <cstdint>

#include "engine/engine.h"
#include "harness/frame.h"
#include "harness/protocol.h"

namespace tinyboost {

class Harness {
 public:
  // Inputs that the harness can keep track of; a model with more answers RUN with ENGINE_FAILED.
  static constexpr size_t kMaxInputs = 4;

  // Brings up the engine. Called once, after platform::initialise.
  void start();

  // Takes the next byte from the host; answers when it completes a request.
  void receive(uint8_t byte);

  // Answers the request in progress, if there is one, with a FAULT error. For fault handlers: it
  // may interrupt anything, and nothing else of the harness may be called afterwards.
  void report_fault(const FaultRecord& record);

 private:
  // What a request leads to: `length` bytes that stand in the payload, or an error.
  struct Answer {
    uint16_t length;
    ErrorCode error;  // Meaningful where `failed`.
    uint32_t detail;
    bool failed;
  };
  static Answer reply(size_t length);
  static Answer error(ErrorCode code, uint32_t detail);

  // The last invocation of the engine: its reply is repeated for a repeated request.
  struct LastRun {
    bool repeatable;  // No other request came since.
    uint16_t sequence;
    engine::Status status;
    uint32_t stack_used;
    uint64_t count;
  };

  void handle_request();
  Answer answer();
  Answer hello();
  Answer write_input();
  Answer run();
  Answer run_answer();
  Answer read_output();
  Answer memory();
  Answer profile_layers();
  Answer fault();
  void invoke(bool profiled);
  void send(uint8_t type, uint16_t length);
  void send_error(ErrorCode code, uint32_t detail, const FaultRecord* record);

  FrameBuffer frame_;
  bool in_request_ = false;
  uint16_t sequence_ = 0;
  bool has_result_ = false;
  bool engine_ready_ = false;
  LastRun last_run_ = {};
  uint32_t frames_dropped_ = 0;
  uint32_t written_[kMaxInputs] = {};
};

// The one instance of an image.
Harness& harness();

// Serves the host for ever.
[[noreturn]] void serve();

}  // namespace tinyboost
