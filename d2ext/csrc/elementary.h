// exp, log and powers for loops that compilers vectorise: no calls, no branches. Accurate to a few
// units in the last place of a float; doubles use the functions of the C library.

#pragma once

#include <algorithm>
#include <cmath>

#include "vectors.h"

namespace d2ext {

template <typename T>
struct Elementary {
  static D2EXT_INLINE T exp(T x) { return std::exp(x); }
  static D2EXT_INLINE T log1p(T x) { return std::log1p(x); }
  static D2EXT_INLINE T pow(T base, T exponent) { return std::pow(base, exponent); }
};

template <>
struct Elementary<float> {
  // 2^n times the exponential series of what is left, at most log(2) / 2. Clamped to normal floats.
  static D2EXT_INLINE float exp(float x) {
    x = std::min(std::max(x, -87.0f), 88.0f);
    const float to_whole = 12582912.0f;  // 1.5 * 2^23: a sum with it has no fraction
    const float shifted = x * 1.44269504f + to_whole, n = shifted - to_whole;
    const float rest = (x - n * 0.693359375f) - n * -2.12194440e-4f;  // log(2) in two parts
    float sum = 1.0f / 5040;
    sum = sum * rest + 1.0f / 720;
    sum = sum * rest + 1.0f / 120;
    sum = sum * rest + 1.0f / 24;
    sum = sum * rest + 1.0f / 6;
    sum = sum * rest + 0.5f;
    sum = sum * rest + 1.0f;
    sum = sum * rest + 1.0f;
    // Of the bits, not of n, since NaN is no whole number; unsigned, since signed ones overflow.
    return sum * from_bits(int32_t((uint32_t(to_bits(shifted)) - 0x4B400000u + 127u) << 23));
  }

  // Of x in [0, 1].
  static D2EXT_INLINE float log1p(float x) { return twice_atanh(x / (2 + x)); }

  // Of a base in [0, 1], 0 standing for the least normal float.
  static D2EXT_INLINE float pow(float base, float exponent) {
    // base = m * 2^n, m around 1
    const int32_t bits = to_bits(std::max(base, 1.17549435e-38f)), above = bits - 0x3F3504F3;
    const int32_t n = above >> 23;
    const float m = from_bits(bits - int32_t(uint32_t(n) << 23));
    const float log = float(n) * 0.693147181f + twice_atanh((m - 1) / (m + 1));
    return exp(exponent * log);
  }

 private:
  // log((1 + x) / (1 - x)) by its series, up to |x| = 1/3.
  static D2EXT_INLINE float twice_atanh(float x) {
    const float square = x * x;
    float sum = 2.0f / 13;
    sum = sum * square + 2.0f / 11;
    sum = sum * square + 2.0f / 9;
    sum = sum * square + 2.0f / 7;
    sum = sum * square + 2.0f / 5;
    sum = sum * square + 2.0f / 3;
    sum = sum * square + 2.0f;
    return sum * x;
  }

  static D2EXT_INLINE int32_t to_bits(float value) {
    int32_t bits;
    std::memcpy(&bits, &value, sizeof(bits));
    return bits;
  }

  static D2EXT_INLINE float from_bits(int32_t bits) {
    float value;
    std::memcpy(&value, &bits, sizeof(value));
    return value;
  }
};

}  // namespace d2ext
