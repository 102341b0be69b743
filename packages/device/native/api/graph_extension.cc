// Extension "graph": captures, and what they record.
#include "arguments.hpp"
#include "extensions.hpp"

namespace spillway::device {
namespace {

spillway_status begin_capture(spillway_stream* stream, spillway_error* error) {
  return guard(error, [&] { as<Stream>(stream, "begin_capture").begin_capture(); });
}
spillway_status end_capture(spillway_stream* stream, spillway_graph** out, spillway_error* error) {
  return guard(error, [&] {
    check_out(out, "end_capture");
    *out = opaque<spillway_graph>(as<Stream>(stream, "end_capture").end_capture());
  });
}
spillway_status graph_launch(spillway_graph* graph, spillway_stream* stream, spillway_error* error) {
  return guard(error, [&] {
    auto& target = as<Stream>(stream, "graph_launch");
    auto& source = as<Graph>(graph, "graph_launch");
    same_device(target, source, "graph_launch");
    target.replay(source);
  });
}
uint32_t node_count(spillway_graph* graph) {
  return graph ? static_cast<Graph*>(reinterpret_cast<Object*>(graph))->node_count() : 0;
}

uint64_t replays(spillway_stream* stream) {
  return stream ? static_cast<Stream*>(reinterpret_cast<Object*>(stream))->replays()->load(std::memory_order_relaxed)
                : 0;
}

constexpr spillway_graph_api kGraphApi = {
    sizeof(spillway_graph_api), 0, begin_capture, end_capture, graph_launch, node_count, replays};

}  // namespace

const spillway_graph_api* graph_api() { return &kGraphApi; }

}  // namespace spillway::device
