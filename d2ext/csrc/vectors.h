// Function multiversioning: loops are compiled once per instruction set, and the loader picks.

#pragma once

#include <cstdint>
#include <cstring>
#include <torch/headeronly/util/BFloat16.h>

// By instruction sets, not by processors: "haswell" would not match AMD's with the same vectors.
#if defined(__x86_64__) && defined(__GLIBC__) && defined(__GNUC__) && __GNUC__ >= 12
#define D2EXT_VECTORS \
  __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#elif defined(__x86_64__) && defined(__GLIBC__) && defined(__GNUC__)
#define D2EXT_VECTORS __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define D2EXT_VECTORS
#endif

// Only code that is inlined into a multiversioned function is compiled for its instruction set.
#if defined(__GNUC__)
#define D2EXT_INLINE inline __attribute__((always_inline))
#else
#define D2EXT_INLINE inline
#endif

namespace d2ext {

constexpr int64_t kLineBytes = 64;  // of the cache

// Vectors that loops keep in registers; such loops are compiled once per `Bytes`.
#if defined(__GNUC__)
template <typename T, int Bytes>
struct Vector {
  typedef T type __attribute__((vector_size(Bytes)));
};
#define D2EXT_UNROLL _Pragma("GCC unroll 16")
#else
template <typename T, int Bytes>
struct Vector {  // a single number: other compilers have no vector_size
  using type = T;
};
#define D2EXT_UNROLL
#endif

template <typename T>
D2EXT_INLINE T load(const T* from) {
  return *from;
}

template <typename T, typename V>
D2EXT_INLINE void store(T* to, V value) {
  *to = T(value);
}

// bfloat16 is the upper half of a float.
D2EXT_INLINE float load(const c10::BFloat16* from) {
  const uint32_t bits = uint32_t(from->x) << 16;
  float value;
  std::memcpy(&value, &bits, sizeof(value));
  return value;
}

// Rounds to the nearest, ties to even; without a branch, so that loops over it vectorise.
D2EXT_INLINE void store(c10::BFloat16* to, float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof(value));
  const uint32_t rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16;
  to->x = value == value ? uint16_t(rounded) : uint16_t(0x7FC0);
}

}  // namespace d2ext
