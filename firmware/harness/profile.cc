#include "harness/profile.h"

#include <algorithm>

#include "engine/engine.h"
#include "harness/platform.h"

namespace tinyboost::profile {
namespace {

uint16_t recorded_layers = 0;
uint64_t layer_start;

}  // namespace

uint64_t begin() {
  const platform::SpareMemory spare = platform::spare_memory();
  recorded_layers =
      static_cast<uint16_t>(std::min<size_t>(engine::model().layer_count, spare.count));
  std::fill_n(spare.words, recorded_layers, 0U);
  layer_start = platform::counter();
  return layer_start;
}

void after_layer(uint16_t layer) {
  const uint64_t now = platform::counter();
  if (layer < recorded_layers) {
    uint32_t& count = platform::spare_memory().words[layer];
    const uint64_t sum = count + ((now - layer_start) & platform::counter_mask);
    count = static_cast<uint32_t>(std::min<uint64_t>(sum, UINT32_MAX));
  }
  layer_start = platform::counter();
}

uint16_t layer_count() { return recorded_layers; }

uint32_t count_of(uint16_t layer) { return platform::spare_memory().words[layer]; }

}  // namespace tinyboost::profile
