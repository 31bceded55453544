#include "check.h"

int main() {
  using tinyboost::testing::failures;
  for (const auto& test : tinyboost::testing::tests()) {
    const int before = failures;
    test.run();
    if (failures != before) std::cerr << "FAILED " << test.name << "\n";
  }
  std::cout << tinyboost::testing::tests().size() << " tests, " << failures << " failed checks\n";
  return failures == 0 ? 0 : 1;
}
