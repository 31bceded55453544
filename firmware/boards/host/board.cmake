# A Linux process behind a pty.
target_sources(firmware PRIVATE ${CMAKE_CURRENT_LIST_DIR}/platform.cc)
target_link_libraries(firmware PRIVATE util)
