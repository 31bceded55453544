// The harness as a Linux process behind a pseudo-terminal.
#include "harness/platform.h"

#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "harness/harness.h"

namespace tinyboost::platform {
namespace {

// A reset replaces the process by a fresh one, which inherits the terminal through these.
constexpr char kMasterVariable[] = "TINYBOOST_PTY_MASTER";

int master = -1;

[[noreturn]] void die(const char* what) {
  std::perror(what);
  std::exit(EXIT_FAILURE);
}

// Both ends stay open, so that the host may come and go.
int open_terminal() {
  int master_end;
  int slave_end;
  termios settings = {};
  cfmakeraw(&settings);
  settings.c_cflag |= CREAD | CLOCAL;
  if (openpty(&master_end, &slave_end, nullptr, &settings, nullptr) != 0) die("openpty");
  std::puts(ttyname(slave_end));
  std::fflush(stdout);
  return master_end;
}

// Waits until the terminal is ready for `events`; ends the process when its standard input ends.
void wait_for_terminal(short events) {
  for (;;) {
    std::array<pollfd, 2> polled = {{{master, events, 0}, {STDIN_FILENO, POLLIN, 0}}};
    if (poll(polled.data(), polled.size(), -1) < 0) {
      if (errno == EINTR) continue;
      die("poll");
    }
    if (polled[1].revents != 0) {
      char ignored[256];
      if (read(STDIN_FILENO, ignored, sizeof(ignored)) <= 0) std::exit(EXIT_SUCCESS);
    }
    if (polled[0].revents != 0) return;
  }
}

}  // namespace

const char* const description =
    "board=host\n"
    "chip=host\n"
    "counter=nanoseconds\n";

const uint64_t counter_mask = UINT64_MAX;

void initialise() {
  std::signal(SIGTERM, [](int) { _exit(EXIT_SUCCESS); });
  const char* const inherited = std::getenv(kMasterVariable);
  master = inherited != nullptr ? std::atoi(inherited) : open_terminal();
}

uint32_t clock_hz() { return 1'000'000'000; }

uint64_t counter() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * clock_hz() + static_cast<uint64_t>(now.tv_nsec);
}

uint8_t read_byte() {
  static std::array<uint8_t, 4096> buffer;
  static size_t next = 0;
  static size_t filled = 0;
  while (next == filled) {
    wait_for_terminal(POLLIN);
    const ssize_t count = read(master, buffer.data(), buffer.size());
    if (count < 0 && errno != EINTR && errno != EAGAIN) die("read");
    next = 0;
    filled = count > 0 ? static_cast<size_t>(count) : 0;
  }
  return buffer[next++];
}

void write(const uint8_t* data, size_t size) {
  while (size != 0) {
    wait_for_terminal(POLLOUT);
    const ssize_t count = ::write(master, data, size);
    if (count < 0 && errno != EINTR && errno != EAGAIN) die("write");
    if (count > 0) {
      data += count;
      size -= static_cast<size_t>(count);
    }
  }
}

void reset() {
  setenv(kMasterVariable, std::to_string(master).c_str(), 1);
  execl("/proc/self/exe", "/proc/self/exe", static_cast<char*>(nullptr));
  die("exec");
}

Memory memory() { return {}; }

uint32_t stack_used() { return 0; }

SpareMemory spare_memory() {
  static std::array<uint32_t, 4096> words;
  return {words.data(), words.size()};
}

const FaultRecord* last_fault() { return nullptr; }

uint32_t fault_count() { return 0; }

}  // namespace tinyboost::platform

int main() { tinyboost::serve(); }
