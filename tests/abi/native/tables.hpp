// Function tables that are not, or not quite, the device's: what a handshake must refuse.
#pragma once

#include <spillway/napi.hpp>

namespace abi_probe {

/// makeTable(major, minor, structSize, tagged): an External of a copy of the table's head with these numbers.
Napi::Value make_table(const Napi::CallbackInfo& info);

/// makeBox(): an External tagged as a handle of another program, not of the device.
Napi::Value make_box(const Napi::CallbackInfo& info);

/// tableWithoutTiming(): the device's table, as of a device that takes no times.
Napi::Value table_without_timing(const Napi::CallbackInfo& info);

}  // namespace abi_probe
