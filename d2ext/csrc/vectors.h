// Loops over channels, compiled once for each generation of vector units; the loader picks.

#pragma once

#if defined(__x86_64__) && defined(__GLIBC__) && defined(__GNUC__)
#define D2EXT_VECTORS \
  __attribute__((target_clones("arch=skylake-avx512", "arch=haswell", "default")))
#else
#define D2EXT_VECTORS
#endif

// A template inlined into its clones takes their instructions.
#if defined(__GNUC__)
#define D2EXT_INLINE inline __attribute__((always_inline))
#else
#define D2EXT_INLINE inline
#endif
