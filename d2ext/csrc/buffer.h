// Memory of a kernel on the CPU that vectors are read from.

#pragma once

#include <cstdint>
#include <vector>

#include "vectors.h"

namespace d2ext {

inline int64_t quotient_above(int64_t count, int64_t size) { return (count + size - 1) / size; }

// Numbers from the start of a cache line on, zeros at first.
template <typename T>
class Buffer {
 public:
  explicit Buffer(int64_t count) : lines_(quotient_above(count * sizeof(T), kLineBytes)) {}
  T* data() { return reinterpret_cast<T*>(lines_.data()); }

 private:
  struct alignas(kLineBytes) Line {
    char bytes[kLineBytes];
  };
  std::vector<Line> lines_;
};

}  // namespace d2ext
