// Counts of each layer of the last profiled run, kept in the RAM that the image leaves free.
#pragma once

#include <cstdint>

namespace tinyboost::profile {

// Starts a new profile, of the layers that fit the spare RAM. Returns the counter at its start.
uint64_t begin();

// The engine's layer hook. A layer that runs in several pieces gets their sum.
void after_layer(uint16_t layer);

uint16_t layer_count();
uint32_t count_of(uint16_t layer);

}  // namespace tinyboost::profile
