#include "plain_consumers.h"

#if __cplusplus != 201703L
#error "compiled as another C++ than 17"
#endif

spillway_status cxx17_fill(const spillway_api* api, spillway_stream* stream, spillway_buffer* to, uint8_t value,
                           spillway_error* error) {
  spillway_buffer_info info{};
  info.struct_size = sizeof info;
  const spillway_status status = api->buffer_info(to, &info, error);
  if (status != SPILLWAY_STATUS_OK) return status;
  return api->fill(stream, to, 0, info.bytes, value, error);
}
