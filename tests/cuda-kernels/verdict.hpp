// Comparisons, and what they found.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <map>
#include <string>
#include <vector>

namespace spillway::cuda_test {

struct Verdict {
  struct Group {
    uint32_t cases = 0, failures = 0;
    double worst = 0, limit = 0;
    std::string where;
  };
  std::map<std::string, Group> groups;

  /// ‖out − wanted‖ / ‖wanted‖ over all values; where NaN is wanted, NaN it must be, and nowhere else.
  void compare(const std::string& group, const std::string& name, const std::vector<double>& out,
               const std::vector<double>& wanted, double limit) {
    double difference = 0, size = 0;
    bool nan_differs = false;
    for (size_t i = 0; i < wanted.size(); ++i) {
      if (std::isnan(wanted[i]) || std::isnan(out[i])) {
        nan_differs |= std::isnan(wanted[i]) != std::isnan(out[i]);
        continue;
      }
      difference += (out[i] - wanted[i]) * (out[i] - wanted[i]);
      size += wanted[i] * wanted[i];
    }
    const double error = nan_differs ? INFINITY : difference == 0 ? 0 : std::sqrt(difference / size);
    add(group, name, error, limit);
  }

  void require(const std::string& group, const std::string& name, bool holds) {
    add(group, name, holds ? 0 : INFINITY, 0);
  }

  uint32_t failures() const {
    uint32_t sum = 0;
    for (const auto& [name, group] : groups) sum += group.failures;
    return sum;
  }

  void print() const {
    std::printf("%-24s %7s %9s %12s %9s\n", "kernel", "cases", "failures", "worst error", "limit");
    for (const auto& [name, g] : groups) {
      std::printf("%-24s %7u %9u %12.3g %9.1g  %s\n", name.c_str(), g.cases, g.failures, g.worst, g.limit,
                  g.where.c_str());
    }
  }

 private:
  void add(const std::string& group, const std::string& name, double error, double limit) {
    Group& g = groups[group];
    ++g.cases;
    g.limit = limit;
    if (!(error <= limit)) {
      if (++g.failures <= 3)
        std::printf("FAILED %s %s: error %g, limit %g\n", group.c_str(), name.c_str(), error, limit);
    }
    if (!(error <= g.worst) || g.where.empty()) g.worst = error, g.where = name;
  }
};

template <typename Element, typename Exact>
std::vector<double> widened(const std::vector<Element>& values, Exact exact) {
  std::vector<double> wide(values.size());
  std::transform(values.begin(), values.end(), wide.begin(), exact);
  return wide;
}

}  // namespace spillway::cuda_test
