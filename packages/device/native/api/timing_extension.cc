// Extension "timing": when a stream came past a point.
#include <limits>

#include "arguments.hpp"
#include "extensions.hpp"

namespace spillway::device {
namespace {

spillway_status timestamp_create(spillway_device* device, spillway_timestamp** out, spillway_error* error) {
  return guard(error, [&] {
    check_out(out, "timestamp_create");
    *out = opaque<spillway_timestamp>(as<Device>(device, "timestamp_create").create_timestamp());
  });
}
spillway_status timestamp_record(spillway_timestamp* timestamp, spillway_stream* stream, spillway_error* error) {
  return guard(error, [&] {
    auto& target = as<Stream>(stream, "timestamp_record");
    auto& source = as<Timestamp>(timestamp, "timestamp_record");
    same_device(target, source, "timestamp_record");
    target.record(source);
  });
}
spillway_status timestamp_elapsed(spillway_timestamp* from, spillway_timestamp* to, double* out_ms,
                                  spillway_error* error) {
  return guard(error, [&] {
    auto& earlier = as<Timestamp>(from, "timestamp_elapsed");
    auto& later = as<Timestamp>(to, "timestamp_elapsed");
    same_device(earlier, later, "timestamp_elapsed");
    if (out_ms == nullptr) fail(SPILLWAY_STATUS_INVALID_ARGUMENT, "timestamp_elapsed", "out_ms is NULL");
    *out_ms = later.milliseconds_since(earlier).value_or(std::numeric_limits<double>::quiet_NaN());
  });
}

constexpr spillway_timing_api kTimingApi = {sizeof(spillway_timing_api), 0, timestamp_create, timestamp_record,
                                            timestamp_elapsed};

}  // namespace

const spillway_timing_api* timing_api() { return &kTimingApi; }

}  // namespace spillway::device
