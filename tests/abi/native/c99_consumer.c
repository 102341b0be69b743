#include "plain_consumers.h"

spillway_status c99_copy(const spillway_api* api, spillway_stream* stream, spillway_buffer* to, spillway_buffer* from,
                         spillway_error* error) {
  spillway_buffer_info info = {sizeof info, 0, 0, 0, NULL};
  spillway_copy copy = {sizeof copy, 0, NULL, 0, NULL, 0, 0};
  spillway_status status = api->buffer_info(from, &info, error);
  if (status != SPILLWAY_STATUS_OK) return status;
  copy.to = to;
  copy.from = from;
  copy.bytes = info.bytes;
  return api->copy(stream, &copy, 1, error);
}
