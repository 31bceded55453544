// A test runner of a screenful: TEST registers a function, CHECK and CHECK_EQ report and go on.
#pragma once

#include <iostream>
#include <vector>

namespace tinyboost::testing {

struct Test {
  const char* name;
  void (*run)();
};

inline std::vector<Test>& tests() {
  static std::vector<Test> registered;
  return registered;
}

inline int failures = 0;

inline bool register_test(const char* name, void (*run)()) {
  tests().push_back({name, run});
  return true;
}

inline void report(const char* file, int line, const char* text) {
  ++failures;
  std::cerr << file << ":" << line << ": " << text << "\n";
}

template <typename A, typename B>
void check_equal(const A& a, const B& b, const char* file, int line, const char* text) {
  if (a == b) return;
  report(file, line, text);
  std::cerr << "  " << +a << " is not " << +b << "\n";
}

}  // namespace tinyboost::testing

#define TEST(name)                                                                                \
  void name();                                                                                    \
  [[maybe_unused]] const bool name##_registered = tinyboost::testing::register_test(#name, name); \
  void name()

#define CHECK(condition) \
  if (!(condition)) tinyboost::testing::report(__FILE__, __LINE__, #condition)

#define CHECK_EQ(a, b) tinyboost::testing::check_equal(a, b, __FILE__, __LINE__, #a " == " #b)
