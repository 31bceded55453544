// A stand-in for a generated model: three "layers" of plain arithmetic, and inputs that make the
// engine fail or fault, for tests of the harness.
#pragma once

#include <cstddef>
#include <cstdint>

namespace tinyboost::fake_model {

constexpr size_t kImageBytes = 600;
constexpr size_t kBiasBytes = 4;
constexpr size_t kOutputBytes = 300;
constexpr uint16_t kLayers = 3;

// The output for given inputs: output[i] = (image[2i] ^ image[2i + 1]) + bias[i % 4].
void expected_output(const int8_t* image, const int8_t* bias, int8_t* output);

// First bytes of the image that lead elsewhere.
constexpr int8_t kFail = 0x70;
constexpr int8_t kDivideByZero = 0x71;
constexpr int8_t kOverflowStack = 0x72;
constexpr int8_t kWriteToNull = 0x73;
constexpr int8_t kReadPastRam = 0x74;
constexpr int8_t kUndefinedInstruction = 0x75;

}  // namespace tinyboost::fake_model
