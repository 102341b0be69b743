#include "planted_defects.hpp"

#include <cstdint>
#include <limits>
#include <memory>
#include <string>
#include <thread>

namespace abi_probe {
namespace {

// Volatile, here and below: else the compiler sees the defect and leaves it out.
void heap_overflow() {
  volatile size_t past_the_end = 16;
  std::unique_ptr<volatile uint8_t[]> bytes(new volatile uint8_t[16]);
  bytes[past_the_end] = 1;
}

void use_after_free() {
  volatile uint8_t* volatile bytes = new volatile uint8_t[16];
  delete[] bytes;
  bytes[3] = 1;  // NOLINT(clang-analyzer-cplusplus.NewDelete): planted
}

void signed_overflow() {
  volatile int32_t most = std::numeric_limits<int32_t>::max();
  most = most + 1;
}

void misaligned() {
  alignas(8) volatile uint8_t bytes[16] = {};
  volatile uintptr_t crooked = reinterpret_cast<uintptr_t>(bytes) + 1;
  *reinterpret_cast<volatile uint32_t*>(crooked) = 1;  // NOLINT(performance-no-int-to-ptr): planted
}

void race_of_threads() {
  uint64_t shared = 0;
  const auto count = [&shared] {
    for (int i = 0; i < 100000; ++i) *static_cast<volatile uint64_t*>(&shared) = i;
  };
  std::thread one(count);
  std::thread other(count);
  one.join();
  other.join();
}

struct Defect {
  const char* name;
  void (*commit)();
};
constexpr Defect kDefects[] = {{"heap overflow", heap_overflow},
                               {"use after free", use_after_free},
                               {"signed overflow", signed_overflow},
                               {"misaligned write", misaligned},
                               {"race of threads", race_of_threads}};

}  // namespace

Napi::Value planted_defect(const Napi::CallbackInfo& info) {
  const std::string name = info[0].ToString();
  for (const Defect& defect : kDefects) {
    if (name != defect.name) continue;
    defect.commit();
    return info.Env().Undefined();
  }
  spillway::throw_invalid(info.Env(), "no defect is called " + name);
}

}  // namespace abi_probe
