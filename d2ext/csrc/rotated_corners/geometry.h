// Angles in degrees, and the corners of one rotated box.

#pragma once

#include <cmath>
#include <torch/headeronly/macros/Macros.h>

#include "../vectors.h"

namespace d2ext {

constexpr double kRadian = 0.017453292519943295;  // radians per degree

template <typename T>
struct Direction {
  T cos, sin;
};

// Cosine and sine of an angle in degrees. The nearest quarter turns are taken off before anything
// is rounded, so that multiples of 90 are exact; the rest, at most 45, goes into the power series.
// There are no branches, so that compilers can vectorise loops over it.
template <typename T>
C10_HOST_DEVICE D2EXT_INLINE Direction<T> direction_of(T degrees) {
  const T quarters = std::rint(degrees * T(1.0 / 90));
  const T quarter = quarters - 4 * std::rint(quarters * T(0.25));  // -2, -1, 0, 1 or 2
  const T angle = (degrees - 90 * quarters) * T(kRadian), square = angle * angle;
  constexpr int kTerms = sizeof(T) == sizeof(float) ? 5 : 9;
  T cos = 1, sin = 1;
  for (int n = 2 * kTerms; n > 0; n -= 2) {
    cos = 1 - square * T(1.0 / ((n - 1) * n)) * cos;
    sin = 1 - square * T(1.0 / (n * (n + 1))) * sin;
  }
  sin *= angle;
  const bool odd = quarter * quarter == 1;
  const T sign = quarter * quarter == 4 ? -1 : 1;
  return {odd ? -quarter * sin : sign * cos, odd ? quarter * cos : sign * sin};
}

// Top left first and clockwise, as seen before the rotation: half widths and heights to go from the
// centre.
template <typename T>
struct Corner {
  T right, down;
};

template <typename T>
C10_HOST_DEVICE inline Corner<T> corner_number(int k) {
  return {T(k == 1 || k == 2 ? 0.5 : -0.5), T(k >= 2 ? 0.5 : -0.5)};
}

// XYWHA in, four times XY out.
template <typename T, typename S>
C10_HOST_DEVICE inline void corners_of(const S* box, S* out) {
  const Direction<T> turn = direction_of(T(box[4]));
  for (int k = 0; k < 4; ++k) {
    const Corner<T> corner = corner_number<T>(k);
    const T right = corner.right * T(box[2]), down = corner.down * T(box[3]);
    out[2 * k] = S(T(box[0]) + turn.cos * right + turn.sin * down);
    out[2 * k + 1] = S(T(box[1]) + turn.cos * down - turn.sin * right);
  }
}

// The gradient of the box, from the gradient of its corners.
template <typename T, typename S>
C10_HOST_DEVICE inline void corners_gradient(const S* grad_corners, const S* box, S* grad_box) {
  const Direction<T> turn = direction_of(T(box[4]));
  T x = 0, y = 0, width = 0, height = 0, angle = 0;
  for (int k = 0; k < 4; ++k) {
    const Corner<T> corner = corner_number<T>(k);
    const T grad_x = T(grad_corners[2 * k]), grad_y = T(grad_corners[2 * k + 1]);
    const T grad_right = turn.cos * grad_x - turn.sin * grad_y;
    const T grad_down = turn.sin * grad_x + turn.cos * grad_y;
    x += grad_x, y += grad_y;
    width += corner.right * grad_right;
    height += corner.down * grad_down;
    angle += corner.down * T(box[3]) * grad_right - corner.right * T(box[2]) * grad_down;
  }
  grad_box[0] = S(x), grad_box[1] = S(y), grad_box[2] = S(width), grad_box[3] = S(height);
  grad_box[4] = S(angle * T(kRadian));
}

}  // namespace d2ext
