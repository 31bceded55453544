# TensorFlow Lite Micro, as upstream's own build leaves it: TFLM_ROOT is an installed tree, or a
# checkout after `make -f tensorflow/lite/micro/tools/make/Makefile ... microlite`.
# Gives the target TFLM::TFLM.
set(TFLM_ROOT "" CACHE PATH "Tree of TensorFlow Lite Micro: headers and libtensorflow-microlite.a")

set(downloads tensorflow/lite/micro/tools/make/downloads)
file(GLOB tflm_library_dirs ${TFLM_ROOT}/lib ${TFLM_ROOT}/gen/*/lib)
find_library(TFLM_LIBRARY tensorflow-microlite PATHS ${tflm_library_dirs} NO_DEFAULT_PATH)
find_path(TFLM_INCLUDE_DIR tensorflow/lite/micro/micro_interpreter.h
  PATHS ${TFLM_ROOT} ${TFLM_ROOT}/include NO_DEFAULT_PATH)
find_path(TFLM_FLATBUFFERS_DIR flatbuffers/flatbuffers.h
  PATHS ${TFLM_ROOT} PATH_SUFFIXES include third_party/flatbuffers/include
        ${downloads}/flatbuffers/include NO_DEFAULT_PATH)
find_path(TFLM_GEMMLOWP_DIR fixedpoint/fixedpoint.h
  PATHS ${TFLM_ROOT} PATH_SUFFIXES include third_party/gemmlowp ${downloads}/gemmlowp
  NO_DEFAULT_PATH)

include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(TFLM
  REQUIRED_VARS TFLM_LIBRARY TFLM_INCLUDE_DIR TFLM_FLATBUFFERS_DIR TFLM_GEMMLOWP_DIR
  REASON_FAILURE_MESSAGE
    "TFLM_ROOT='${TFLM_ROOT}'. Looked there for libtensorflow-microlite.a (lib, gen/*/lib), \
tensorflow/lite/micro/micro_interpreter.h, flatbuffers/flatbuffers.h and fixedpoint/fixedpoint.h. \
TensorFlow Lite Micro is in no package registry: build it with its own Makefile for the Cortex-M7 \
with the hard float ABI and give -DTFLM_ROOT=<its folder>, or use the engine aot.")

if(TFLM_FOUND AND NOT TARGET TFLM::TFLM)
  add_library(TFLM::TFLM STATIC IMPORTED)
  set_target_properties(TFLM::TFLM PROPERTIES
    IMPORTED_LOCATION ${TFLM_LIBRARY}
    INTERFACE_COMPILE_DEFINITIONS TF_LITE_STATIC_MEMORY
    INTERFACE_INCLUDE_DIRECTORIES
      "${TFLM_INCLUDE_DIR};${TFLM_FLATBUFFERS_DIR};${TFLM_GEMMLOWP_DIR}")
endif()
