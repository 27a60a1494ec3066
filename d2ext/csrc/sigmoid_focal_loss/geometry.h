// The focal loss of one logit and its slope, for targets between 0 and 1.

#pragma once

#include <cstdint>
#include <torch/headeronly/macros/Macros.h>

#include "../vectors.h"

namespace d2ext {

// What the loss depends on besides logit and target: its weight is offset + slope * target.
template <typename T>
struct Focus {
  T offset, slope, gamma;

  Focus(double alpha, double exponent)  // no weight if alpha is negative
      : offset(T(alpha < 0 ? 1 : 1 - alpha)),
        slope(T(alpha < 0 ? 0 : 2 * alpha - 1)),
        gamma(T(exponent)) {}
};

template <typename T>
struct Probability {
  T yes, no, decay;  // sigmoid(x), 1 - sigmoid(x) and exp(-|x|), none of them a difference
};

template <typename Math, typename T>
C10_HOST_DEVICE D2EXT_INLINE Probability<T> probability_of(T x) {
  const T decay = Math::exp(x < 0 ? x : -x);
  const T more = 1 / (1 + decay), less = decay * more;
  return {x < 0 ? less : more, x < 0 ? more : less, decay};
}

// A special case for speed: gamma is nearly always 2.
template <typename Math, bool kSquare, typename T>
C10_HOST_DEVICE D2EXT_INLINE T modulation(T miss, T gamma) {
  return kSquare ? miss * miss : Math::pow(miss, gamma);
}

template <typename Math, bool kSquare, typename T>
C10_HOST_DEVICE D2EXT_INLINE T focal_loss(T x, T target, const Focus<T>& focus) {
  const Probability<T> p = probability_of<Math>(x);
  const T cross_entropy = (x > 0 ? x : 0) - x * target + Math::log1p(p.decay);
  const T miss = p.yes * (1 - target) + p.no * target;
  const T weight = focus.offset + focus.slope * target;
  return weight * cross_entropy * modulation<Math, kSquare>(miss, focus.gamma);
}

template <typename Math, bool kSquare, typename T>
C10_HOST_DEVICE D2EXT_INLINE T focal_slope(T x, T target, const Focus<T>& focus) {
  const Probability<T> p = probability_of<Math>(x);
  const T cross_entropy = (x > 0 ? x : 0) - x * target + Math::log1p(p.decay);
  const T miss = p.yes * (1 - target) + p.no * target;
  const T least = T(1e-37);  // a miss of 0 has a slope of 0: the quotient must not be NaN
  const T miss_slope = p.yes * p.no * (1 - 2 * target) / (miss > least ? miss : least);
  const T weight = focus.offset + focus.slope * target;
  return weight * modulation<Math, kSquare>(miss, focus.gamma) *
      (p.yes * (1 - target) - p.no * target + focus.gamma * cross_entropy * miss_slope);
}

}  // namespace d2ext
