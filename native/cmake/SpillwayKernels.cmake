# spillway_kernels(<target> <sources.cu…> [OPTIONS <nvcc options…>]): device code for the kernels of an addon.
#
# Each <name>.cu becomes one image inside the target: machine code for SPILLWAY_CUDA_ARCHITECTURES, and PTX of the first
# of them, which the driver compiles for any later GPU. C++ gets at it with include/spillway/kernel_image.hpp. Where
# nvcc is not found the image is absent (NULL, 0 bytes), the addon builds all the same, and its host twins run.
#
#   SPILLWAY_CUDA=auto      the default: device code where there is an nvcc of 12.8 or newer
#   SPILLWAY_CUDA=off       none, whatever is installed
#   SPILLWAY_CUDA=required  no nvcc is an error: for builds that are published
#
# as a CMake option or an environment variable. No enable_language(CUDA): it would demand nvcc, and link cudart.
include_guard(GLOBAL)

set(SPILLWAY_CUDA "" CACHE STRING "auto | off | required; empty: what the environment variable of that name says")
set(SPILLWAY_CUDA_ARCHITECTURES 80 90 100 CACHE STRING "compute capabilities to make machine code for")

# Looks into /usr/local/bin too, whatever PATH says: only SPILLWAY_CUDA=off hides an nvcc.
find_program(SPILLWAY_NVCC nvcc HINTS $ENV{CUDA_HOME}/bin $ENV{CUDA_PATH}/bin PATHS /usr/local/cuda/bin)

# <result>: the nvcc to use, or empty; <reason>: why there is none.
function(_spillway_choose_nvcc result reason)
  set(wanted "${SPILLWAY_CUDA}")
  if(wanted STREQUAL "")
    set(wanted "$ENV{SPILLWAY_CUDA}")
  endif()
  set(${result} "" PARENT_SCOPE)
  if(wanted STREQUAL "off")
    set(${reason} "SPILLWAY_CUDA is off" PARENT_SCOPE)
    return()
  elseif(NOT wanted MATCHES "^(auto|required|)$")
    message(FATAL_ERROR "SPILLWAY_CUDA is '${wanted}'; it may be auto, off or required")
  endif()
  if(NOT SPILLWAY_NVCC)
    set(why "nvcc was not found; install the CUDA toolkit and put its bin folder on PATH, or set CUDA_HOME")
  else()
    execute_process(COMMAND ${SPILLWAY_NVCC} --version OUTPUT_VARIABLE text ERROR_VARIABLE text RESULT_VARIABLE status)
    if(NOT status EQUAL 0 OR NOT text MATCHES "release ([0-9]+\\.[0-9]+)")
      set(why "${SPILLWAY_NVCC} --version did not tell its version")
    elseif(CMAKE_MATCH_1 VERSION_LESS 12.8)
      set(why "${SPILLWAY_NVCC} is ${CMAKE_MATCH_1}; sm_100 needs 12.8 or newer")
    else()
      set(${result} ${SPILLWAY_NVCC} PARENT_SCOPE)
      return()
    endif()
  endif()
  if(wanted STREQUAL "required")
    message(FATAL_ERROR "SPILLWAY_CUDA is required, but ${why}")
  endif()
  set(${reason} "${why}" PARENT_SCOPE)
endfunction()

function(spillway_kernels target)
  cmake_parse_arguments(PARSE_ARGV 1 arg "" "" "OPTIONS")
  _spillway_choose_nvcc(nvcc reason)
  if(nvcc)
    message(STATUS "${target}: device code by ${nvcc}")
  else()
    message(STATUS "${target}: no device code: ${reason}")
  endif()

  set(targets)
  foreach(architecture IN LISTS SPILLWAY_CUDA_ARCHITECTURES)
    list(APPEND targets -gencode arch=compute_${architecture},code=sm_${architecture})
  endforeach()
  list(GET SPILLWAY_CUDA_ARCHITECTURES 0 oldest)
  list(APPEND targets -gencode arch=compute_${oldest},code=compute_${oldest})
  # Otherwise nvcc takes the g++ on PATH, which may be another compiler than the addon's.
  if(DEFINED ENV{NVCC_CCBIN})
    set(host_compiler)
  else()
    set(host_compiler -ccbin ${CMAKE_CXX_COMPILER})
  endif()

  set(out ${CMAKE_CURRENT_BINARY_DIR}/${target}-kernels)
  file(MAKE_DIRECTORY ${out})
  foreach(source IN LISTS arg_UNPARSED_ARGUMENTS)
    get_filename_component(source ${source} ABSOLUTE)
    get_filename_component(name ${source} NAME_WE)
    if(NOT name MATCHES "^[A-Za-z_][A-Za-z0-9_]*$")
      message(FATAL_ERROR "${source}: the name becomes a C++ function, so it may hold letters, digits and _ only")
    endif()
    set(embedding ${out}/${name}_image.cc)
    set(image ${out}/${name}.fatbin)
    set(symbol spillway_kernel_image_${name})
    set(has_image 0)
    if(nvcc)
      set(has_image 1)
      # -lineinfo: profilers and compute-sanitizer then name the line. Compressed, that costs next to nothing.
      add_custom_command(OUTPUT ${image}
        COMMAND ${nvcc} -fatbin -std=c++20 -O3 -lineinfo --threads 0 -compress-mode=size ${targets} ${host_compiler}
                -I${SPILLWAY_NATIVE_ROOT}/include -I${CMAKE_CURRENT_SOURCE_DIR}/native ${arg_OPTIONS}
                -MD -MF ${image}.d -o ${image} ${source}
        DEPENDS ${source} DEPFILE ${image}.d VERBATIM COMMENT "nvcc ${name}.cu")
      set_source_files_properties(${embedding} PROPERTIES OBJECT_DEPENDS ${image})
    endif()
    configure_file(${SPILLWAY_NATIVE_ROOT}/cmake/kernel_image.cc.in ${embedding} @ONLY)
    target_sources(${target} PRIVATE ${embedding})
  endforeach()
endfunction()
