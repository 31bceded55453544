// What the harness sees of a model, whichever engine runs it. One model is linked into an image.
#pragma once

#include <cstddef>
#include <cstdint>

namespace tinyboost::engine {

enum class Status : uint8_t { kOk = 0, kFailed = 1 };

struct Tensor {
  void* data;      // Inside the arena; 8-byte aligned.
  uint32_t bytes;  // Size of the whole tensor.
};

struct Model {
  const Tensor* inputs;
  uint8_t input_count;
  const Tensor* outputs;
  uint8_t output_count;
  uint16_t layer_count;
  uint32_t arena_bytes;
  // Lines "key=value\n": engine, model, model_sha256, arena_bytes, layers, ops, input<i>,
  // output<i>.
  const char* description;
};

// Called after each layer with its index: the harness reads its cycle counter there.
using LayerHook = void (*)(uint16_t layer);

const Model& model();

// Brings the engine into a state in which `invoke` may be called. Called once, after reset.
Status initialise();

// Runs the model once. Inputs may be overwritten; outputs hold until the next input is written.
// `after_layer` may be null.
Status invoke(LayerHook after_layer);

}  // namespace tinyboost::engine
