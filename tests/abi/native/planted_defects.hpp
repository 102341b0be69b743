// Defects that the sanitizers must find: one that finds nothing may not be running at all.
#pragma once

#include <spillway/napi.hpp>

namespace abi_probe {

/// plantedDefect(name): does what a sanitizer stops the process for; for scripts/sanitize.mjs alone.
Napi::Value planted_defect(const Napi::CallbackInfo& info);

}  // namespace abi_probe
