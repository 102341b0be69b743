// Memory that is cached apart: its segments serve nobody else, so that all that it caches can be given back.
#pragma once

#include "allocator_snapshot.hpp"
#include "heap.hpp"

namespace spillway::device {

struct Pool {
  Pool(const std::string& pool_name, uint32_t pool_number) : name(pool_name), number(pool_number) {}

  Heap& heap(SizeClass size_class) { return size_class == SizeClass::kSmall ? small : large; }

  const std::string name;
  const uint32_t number;  // see Names
  AllocatorStatistics statistics;
  Heap small{*this, SizeClass::kSmall};
  Heap large{*this, SizeClass::kLarge};
};

}  // namespace spillway::device
