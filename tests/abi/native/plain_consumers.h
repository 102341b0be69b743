/* Consumers that know nothing but abi.h, in the two oldest languages it promises to be. */
#ifndef SPILLWAY_TESTS_PLAIN_CONSUMERS_H
#define SPILLWAY_TESTS_PLAIN_CONSUMERS_H

#include <spillway/abi.h>

#ifdef __cplusplus
extern "C" {
#endif

spillway_status c99_copy(const spillway_api* api, spillway_stream* stream, spillway_buffer* to, spillway_buffer* from,
                         spillway_error* error);
spillway_status cxx17_fill(const spillway_api* api, spillway_stream* stream, spillway_buffer* to, uint8_t value,
                           spillway_error* error);

#ifdef __cplusplus
}
#endif

#endif
