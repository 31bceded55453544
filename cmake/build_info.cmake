# Script: writes OUTPUT, a header that says what an image was built from. The git revision is asked
# for at every build; the file is touched only where something changed.
execute_process(
  COMMAND git --no-optional-locks describe --always --dirty --exclude=* --abbrev=12
  WORKING_DIRECTORY ${SOURCE_DIR}
  OUTPUT_VARIABLE git OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET RESULT_VARIABLE failed)
if(failed)
  set(git unknown)
endif()
file(CONFIGURE OUTPUT ${OUTPUT} CONTENT [[
#pragma once

#define TINYBOOST_GIT "@git@"
#define TINYBOOST_COMPILER "@COMPILER@"
#define TINYBOOST_FLAGS "@FLAGS@"
]] @ONLY)
