# STM32F746G-DISCO.
set(board_dir ${CMAKE_CURRENT_LIST_DIR})
target_sources(firmware PRIVATE
  ${board_dir}/clock.cc
  ${board_dir}/faults.cc
  ${board_dir}/platform.cc
  ${board_dir}/startup.cc
  ${board_dir}/uart.cc
)

# board.toml is the one place for what firmware and host must agree on.
include(board_value)
read_board_value(${board_dir}/board.toml clock_hz clock_hz)
read_board_value(${board_dir}/board.toml hse_hz hse_hz)
read_board_value(${board_dir}/board.toml baud baud)
read_board_value(${board_dir}/board.toml reserve stack_reserve)
target_compile_definitions(firmware PRIVATE
  TINYBOOST_CLOCK_HZ=${clock_hz}
  TINYBOOST_HSE_HZ=${hse_hz}
  TINYBOOST_BAUD=${baud}
)

set_target_properties(firmware PROPERTIES SUFFIX .elf LINK_DEPENDS ${board_dir}/linker.ld)
target_link_options(firmware PRIVATE
  -nostartfiles
  --specs=nano.specs
  -Wl,--gc-sections
  -Wl,--defsym=__stack_reserve=${stack_reserve}
  -Wl,-T,${board_dir}/linker.ld
  -Wl,-Map=firmware.map
)
add_custom_command(TARGET firmware POST_BUILD
  COMMAND ${CMAKE_OBJCOPY} -O binary firmware.elf firmware.bin
  COMMAND ${CMAKE_OBJCOPY} -O ihex firmware.elf firmware.hex
  COMMAND ${CMAKE_SIZE} -A firmware.elf > firmware.size.txt
  BYPRODUCTS ${CMAKE_BINARY_DIR}/firmware.bin ${CMAKE_BINARY_DIR}/firmware.hex
             ${CMAKE_BINARY_DIR}/firmware.map ${CMAKE_BINARY_DIR}/firmware.size.txt
  WORKING_DIRECTORY ${CMAKE_BINARY_DIR}
)
