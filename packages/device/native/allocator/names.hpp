// Small numbers for the names of tags and pools, so that blocks and events hold no strings. Guarded by whoever owns it.
#pragma once

#include <cstdint>
#include <deque>
#include <string>
#include <unordered_map>

namespace spillway::device {

class Names {
 public:
  /// The same name, the same number, for good. Throws std::bad_alloc.
  uint32_t number(const std::string& name) {
    const auto found = numbers_.find(name);
    if (found != numbers_.end()) return found->second;
    const auto number = static_cast<uint32_t>(names_.size());
    names_.push_back(name);
    try {
      numbers_.emplace(name, number);
    } catch (...) {
      names_.pop_back();
      throw;
    }
    return number;
  }
  const std::string& name(uint32_t number) const { return names_[number]; }
  size_t size() const { return names_.size(); }

 private:
  std::deque<std::string> names_;
  std::unordered_map<std::string, uint32_t> numbers_;
};

}  // namespace spillway::device
