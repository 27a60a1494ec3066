// Loops over channels, compiled once for each generation of vector units; the loader picks.

#pragma once

#include <cstdint>
#include <cstring>
#include <torch/headeronly/util/BFloat16.h>

// By instruction sets: a name such as haswell would be looked for, and AMD's have others.
#if defined(__x86_64__) && defined(__GLIBC__) && defined(__GNUC__) && __GNUC__ >= 12
#define D2EXT_VECTORS \
  __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#elif defined(__x86_64__) && defined(__GLIBC__) && defined(__GNUC__)
#define D2EXT_VECTORS __attribute__((target_clones("avx512f", "avx2", "default")))
#else
#define D2EXT_VECTORS
#endif

// A template inlined into its clones takes their instructions.
#if defined(__GNUC__)
#define D2EXT_INLINE inline __attribute__((always_inline))
#else
#define D2EXT_INLINE inline
#endif

namespace d2ext {

template <typename T>
D2EXT_INLINE T load(const T* from) {
  return *from;
}

template <typename T>
D2EXT_INLINE void store(T* to, T value) {
  *to = value;
}

// bfloat16 is the upper half of a float.
D2EXT_INLINE float load(const c10::BFloat16* from) {
  const uint32_t bits = uint32_t(from->x) << 16;
  float value;
  std::memcpy(&value, &bits, sizeof(value));
  return value;
}

// Rounds to the nearest, ties to even; written without a branch, which vectors can't take.
D2EXT_INLINE void store(c10::BFloat16* to, float value) {
  uint32_t bits;
  std::memcpy(&bits, &value, sizeof(value));
  const uint32_t rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16;
  to->x = value == value ? uint16_t(rounded) : uint16_t(0x7FC0);
}

}  // namespace d2ext
