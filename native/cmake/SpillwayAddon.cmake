# spillway_addon(<name> <sources…>): one Node-API addon, dist/native/<name>.node in the calling package.
#
# Runs under cmake-js (which passes CMAKE_JS_INC/LIB/SRC) and under plain cmake, where it asks node for the header
# folders of node-addon-api and node-api-headers. The ABI headers are found beside this file, so the function works
# from a checkout and from an installed @spillway/native alike.
include_guard(GLOBAL)

set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_CXX_VISIBILITY_PRESET hidden)
set(CMAKE_VISIBILITY_INLINES_HIDDEN ON)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON) # for clang-tidy
if(NOT CMAKE_BUILD_TYPE)
  set(CMAKE_BUILD_TYPE Release)
endif()
set(CMAKE_CXX_FLAGS_RELEASE "-O3 -DNDEBUG")
# cmake-js overrides CMAKE_CXX_FLAGS, which would lose the user's own.
separate_arguments(SPILLWAY_USER_CXXFLAGS UNIX_COMMAND "$ENV{CXXFLAGS}")

get_filename_component(SPILLWAY_NATIVE_ROOT ${CMAKE_CURRENT_LIST_DIR}/.. ABSOLUTE)
include(${CMAKE_CURRENT_LIST_DIR}/SpillwayKernels.cmake)
set(SPILLWAY_SANITIZE "" CACHE STRING "address | undefined | thread | empty")

# Where the finished .node goes. dist/native is turbo's cached output; build/ is only scratch.
if(SPILLWAY_SANITIZE)
  set(SPILLWAY_NATIVE_OUT ${CMAKE_CURRENT_SOURCE_DIR}/dist/native-${SPILLWAY_SANITIZE})
else()
  set(SPILLWAY_NATIVE_OUT ${CMAKE_CURRENT_SOURCE_DIR}/dist/native)
endif()

if(NOT CMAKE_JS_INC)
  # From this file's folder, not the caller's: both header packages are dependencies of @spillway/native. One of the two
  # answers with a path relative to the working directory.
  execute_process(
    COMMAND node -p "['node-api-headers', 'node-addon-api'].map((name) => path.resolve(require(name).include_dir)).join(';')"
    WORKING_DIRECTORY ${SPILLWAY_NATIVE_ROOT} OUTPUT_VARIABLE CMAKE_JS_INC
    OUTPUT_STRIP_TRAILING_WHITESPACE COMMAND_ERROR_IS_FATAL ANY)
endif()

set(THREADS_PREFER_PTHREAD_FLAG ON)
find_package(Threads REQUIRED)

function(spillway_addon name)
  add_library(${name} SHARED ${ARGN} ${CMAKE_JS_SRC})
  set_target_properties(${name} PROPERTIES PREFIX "" SUFFIX ".node" LIBRARY_OUTPUT_DIRECTORY ${SPILLWAY_NATIVE_OUT})
  target_include_directories(${name} SYSTEM PRIVATE ${CMAKE_JS_INC})
  target_include_directories(${name} PRIVATE ${SPILLWAY_NATIVE_ROOT}/include ${CMAKE_CURRENT_SOURCE_DIR}/native)
  target_link_libraries(${name} PRIVATE ${CMAKE_JS_LIB} Threads::Threads ${CMAKE_DL_LIBS})
  # Node-API 9 is in every Node from 18.17, 20.3 and 21 on: one binary serves all of them.
  target_compile_definitions(${name} PRIVATE NAPI_VERSION=9 NODE_ADDON_API_CPP_EXCEPTIONS
    NODE_ADDON_API_REQUIRE_BASIC_FINALIZERS NODE_ADDON_API_DISABLE_DEPRECATED
    # In a worker being terminated no error can be thrown into JavaScript; without this, that ends the process.
    NODE_API_SWALLOW_UNTHROWABLE_EXCEPTIONS)
  target_compile_options(${name} PRIVATE -Wall -Wextra -Wno-cast-function-type -g1 ${SPILLWAY_USER_CXXFLAGS})
  if(CMAKE_SYSTEM_NAME STREQUAL Linux)
    # Node unmaps an addon when its last environment ends, while our threads may still be inside it.
    target_link_options(${name} PRIVATE -Wl,-z,nodelete)
  endif()
  if(SPILLWAY_SANITIZE)
    target_compile_options(${name} PRIVATE -fsanitize=${SPILLWAY_SANITIZE} -fno-sanitize-recover=all
      -fno-omit-frame-pointer -g -O1)
    target_link_options(${name} PRIVATE -fsanitize=${SPILLWAY_SANITIZE})
    target_compile_definitions(${name} PRIVATE SPILLWAY_SANITIZE)
  elseif(CMAKE_SYSTEM_NAME STREQUAL Linux)
    # libstdc++ inside: the .node runs on hosts with an older one. Ours stays private: Node exports libstdc++ functions
    # too, and templates of libstdc++ compiled into our own files are no less exported. Node 24's std::call_once, called
    # in place of ours, looked for its argument in the thread-local variable of the other libstdc++ and crashed.
    target_link_options(${name} PRIVATE -static-libstdc++ -static-libgcc -Wl,--gc-sections
      -Wl,--version-script=${SPILLWAY_NATIVE_ROOT}/cmake/addon.exports)
    set_target_properties(${name} PROPERTIES LINK_DEPENDS ${SPILLWAY_NATIVE_ROOT}/cmake/addon.exports)
  endif()
endfunction()
