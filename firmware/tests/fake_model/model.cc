#include "model.h"

#include "engine/engine.h"

namespace tinyboost::fake_model {
namespace {

struct Arena {
  alignas(8) int8_t image[kImageBytes];
  alignas(8) int8_t bias[kBiasBytes];
  alignas(8) int8_t output[kOutputBytes];
};
[[gnu::section(".arena")]] Arena arena;

void fold(const int8_t* image, int8_t* output) {
  for (size_t i = 0; i < kOutputBytes; ++i) {
    output[i] = static_cast<int8_t>(image[2 * i] ^ image[2 * i + 1]);
  }
}

void add_bias(const int8_t* bias, size_t first, size_t end, int8_t* output) {
  for (size_t i = first; i < end; ++i) {
    output[i] = static_cast<int8_t>(output[i] + bias[i % kBiasBytes]);
  }
}

#ifdef __arm__
volatile int zero = 0;

[[gnu::noinline]] int overflow_stack(int depth) {
  volatile int frame[16] = {depth};
  return zero != 0 ? depth : overflow_stack(depth + 1) + frame[0];
}

void misbehave(int8_t how) {
  switch (how) {
    case kDivideByZero:
      zero = 1000 / zero;
      break;
    case kOverflowStack:
      zero = overflow_stack(0);
      break;
    case kWriteToNull:
      *reinterpret_cast<volatile int*>(static_cast<uintptr_t>(zero)) = 1;
      break;
    case kReadPastRam:
      zero = *reinterpret_cast<volatile int*>(0x20050000);
      break;
    case kUndefinedInstruction:
      asm volatile("udf #0");
      break;
    default:
      break;
  }
}
#else
void misbehave(int8_t) {}
#endif

}  // namespace

void expected_output(const int8_t* image, const int8_t* bias, int8_t* output) {
  fold(image, output);
  add_bias(bias, 0, kOutputBytes, output);
}

}  // namespace tinyboost::fake_model

namespace tinyboost::engine {
namespace {

using fake_model::arena;

const Tensor kInputs[] = {{arena.image, sizeof(arena.image)}, {arena.bias, sizeof(arena.bias)}};
const Tensor kOutputs[] = {{arena.output, sizeof(arena.output)}};

constexpr Model kModel = {
    kInputs,
    2,
    kOutputs,
    1,
    fake_model::kLayers,
    sizeof(fake_model::Arena),
    "engine=aot\n"
    "model=fake\n"
    "model_sha256=0000000000000000000000000000000000000000000000000000000000000000\n"
    "arena_bytes=912\n"
    "layers=3\n"
    "ops=FOLD,ADD\n"
    "input0=int8:1x600:1:0\n"
    "input1=int8:1x4:1:0\n"
    "output0=int8:1x300:1:0\n",
};
static_assert(sizeof(fake_model::Arena) == 912, "the description says so");

}  // namespace

const Model& model() { return kModel; }

Status initialise() { return Status::kOk; }

Status invoke(LayerHook after_layer) {
  constexpr size_t kHalf = fake_model::kOutputBytes / 2;
  if (arena.image[0] == fake_model::kFail) return Status::kFailed;
  fake_model::misbehave(arena.image[0]);
  fake_model::fold(arena.image, arena.output);
  if (after_layer != nullptr) after_layer(0);
  fake_model::add_bias(arena.bias, 0, kHalf, arena.output);
  if (after_layer != nullptr) after_layer(1);
  fake_model::add_bias(arena.bias, kHalf, fake_model::kOutputBytes, arena.output);
  if (after_layer != nullptr) after_layer(2);
  return Status::kOk;
}

}  // namespace tinyboost::engine
