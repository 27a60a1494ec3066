// IoU of two rotated boxes and its gradient, by integrals along their sides.
//
// Seen from the centre of the first box, the second one is a polygon and the first one the range
// |x| <= a, |y| <= b. By Green's theorem their common area is the integral of y dx around the
// polygon, over the part where |x| <= a and with y limited to the range of b: four sides, each on
// its own, no list of corners to sort. Each term is continuous in the boxes, so that sides that
// fall together, or nearly, do no harm.

#pragma once

#include "../rotated_corners/geometry.h"

namespace d2ext {

template <typename T>
struct RotatedBox {
  T x, y, half_width, half_height, angle;

  C10_HOST_DEVICE D2EXT_INLINE T area() const { return 4 * half_width * half_height; }
};

template <typename T, typename S>
C10_HOST_DEVICE D2EXT_INLINE RotatedBox<T> read_box(const S* box) {
  return {T(box[0]), T(box[1]), T(box[2]) / 2, T(box[3]) / 2, T(box[4])};
}

// Clamps to [least, most]; NaN becomes the least, which std::clamp would not do.
template <typename T>
C10_HOST_DEVICE D2EXT_INLINE T within(T value, T least, T most) {
  value = value > least ? value : least;
  return value < most ? value : most;
}

// ---- one box seen from another

// The centre of a box and the halves of its width (u) and height (v) as vectors, in the frame of
// another box: its centre is the origin, its width lies along x and its height along y.
template <typename T>
struct View {
  T x, y, ux, uy, vx, vy;
  Direction<T> turn;
};

// `axes` is the direction of the angle of `from`.
template <typename T>
C10_HOST_DEVICE D2EXT_INLINE View<T> view(
    const RotatedBox<T>& from, const Direction<T>& axes, const RotatedBox<T>& box) {
  const T dx = box.x - from.x, dy = box.y - from.y;
  const Direction<T> turn = direction_of(box.angle - from.angle);
  return {
      axes.cos * dx - axes.sin * dy,
      axes.sin * dx + axes.cos * dy,
      box.half_width * turn.cos,
      -box.half_width * turn.sin,
      box.half_height * turn.sin,
      box.half_height * turn.cos,
      turn};
}

// No side of either box separates them; false for sizes below zero and what is not a number.
template <typename T>
C10_HOST_DEVICE D2EXT_INLINE bool overlap(
    const RotatedBox<T>& from, const RotatedBox<T>& box, const View<T>& seen) {
  const T cos = std::abs(seen.turn.cos), sin = std::abs(seen.turn.sin);
  const T along = seen.x * seen.turn.cos - seen.y * seen.turn.sin;
  const T across = seen.x * seen.turn.sin + seen.y * seen.turn.cos;
  const T a = from.half_width, b = from.half_height, u = box.half_width, v = box.half_height;
  return (std::abs(seen.x) < a + u * cos + v * sin) & (std::abs(seen.y) < b + u * sin + v * cos) &
      (std::abs(along) < u + a * cos + b * sin) & (std::abs(across) < v + a * sin + b * cos) &
      (a > 0) & (b > 0) & (u > 0) & (v > 0);
}

// ---- area

// The integral of y dx from one point to another, over |x| <= a and with y limited to |y| <= b.
// A side that is upright or level divides by zero; `within` turns that into any number of its
// range, and the factor beside it is zero.
template <typename T>
C10_HOST_DEVICE D2EXT_INLINE T area_beside(T x0, T y0, T x1, T y1, T a, T b) {
  const T dx = x1 - x0, dy = y1 - y0, per_x = 1 / dx, per_y = 1 / dy;
  const T left = within(x0, -a, a), right = within(x1, -a, a);
  const T begin = within<T>((left - x0) * per_x, 0, 1), end = within<T>((right - x0) * per_x, 0, 1);
  const T first = within(y0 + begin * dy, -b, b), last = within(y0 + end * dy, -b, b);
  const T leave = within((first - y0) * per_y, begin, end);  // y begins to move from `first`
  const T arrive = within((last - y0) * per_y, begin, end);  // and reaches `last`
  return first * (right - left) + (last - first) * dx * (end - (leave + arrive) / 2);
}

template <typename T>
C10_HOST_DEVICE D2EXT_INLINE T common_area(
    const RotatedBox<T>& from, const RotatedBox<T>& box, const View<T>& seen) {
  const T x0 = seen.x - seen.ux - seen.vx, y0 = seen.y - seen.uy - seen.vy;
  const T x1 = seen.x - seen.ux + seen.vx, y1 = seen.y - seen.uy + seen.vy;
  const T x2 = seen.x + seen.ux + seen.vx, y2 = seen.y + seen.uy + seen.vy;
  const T x3 = seen.x + seen.ux - seen.vx, y3 = seen.y + seen.uy - seen.vy;
  const T a = from.half_width, b = from.half_height;
  const T area = area_beside(x0, y0, x1, y1, a, b) + area_beside(x1, y1, x2, y2, a, b) +
      area_beside(x2, y2, x3, y3, a, b) + area_beside(x3, y3, x0, y0, a, b);
  const T most = from.area() < box.area() ? from.area() : box.area();
  return overlap(from, box, seen) ? within<T>(area, 0, most) : T(0);
}

template <typename T>
C10_HOST_DEVICE D2EXT_INLINE T iou_of(
    const RotatedBox<T>& from, const Direction<T>& axes, const RotatedBox<T>& box) {
  const T common = common_area(from, box, view(from, axes, box));
  const T iou = common / (from.area() + box.area() - common);
  return iou > 0 ? iou : T(0);  // also for boxes without area or of infinite size
}

// ---- gradient

// The part of a side that lies in a box: its length and its first moment, for a side that reaches
// from -1 to 1.
template <typename T>
struct Part {
  T length, moment;
};

// Narrows [begin, end] to where |start + t * step| <= limit. A side on the limit counts half, the
// mean of its gradients from within and from without.
template <typename T>
C10_HOST_DEVICE inline T narrow(T start, T step, T limit, T& begin, T& end) {
  if (step == 0) return std::abs(start) < limit ? T(1) : std::abs(start) == limit ? T(0.5) : T(0);
  const T low = (-limit - start) / step, high = (limit - start) / step;
  begin = within(low < high ? low : high, begin, end);
  end = within(low < high ? high : low, begin, end);
  return 1;
}

// A side through (x, y), half of which is (dx, dy).
template <typename T>
C10_HOST_DEVICE inline Part<T> part_inside(
    T x, T y, T dx, T dy, const RotatedBox<T>& box, T unit) {
  T begin = -1, end = 1;
  const T weight = narrow(x, dx, box.half_width, begin, end) *
      narrow(y, dy, box.half_height, begin, end) * unit;
  return {weight * (end - begin), weight * unit * (end * end - begin * begin) / 2};
}

// Gradient of the IoU with respect to the first box, per pixel and per degree; zero for disjoint
// boxes. The borders of the intersection that belong to the first box move with it: the area grows
// by the length of such a part for each pixel, and by its first moment for each radian.
template <typename T>
C10_HOST_DEVICE inline void iou_gradient(
    const RotatedBox<T>& box, const RotatedBox<T>& other, T scale, T* grad) {
  for (int i = 0; i < 5; ++i) grad[i] = 0;
  const View<T> seen = view(other, direction_of(other.angle), box);
  const T common = common_area(other, box, seen), areas = box.area() + other.area();
  if (!(common > 0)) return;
  const T u = box.half_width, v = box.half_height;
  const Part<T> right =
      part_inside(seen.x + seen.ux, seen.y + seen.uy, seen.vx, seen.vy, other, v);
  const Part<T> left = part_inside(seen.x - seen.ux, seen.y - seen.uy, seen.vx, seen.vy, other, v);
  const Part<T> below =
      part_inside(seen.x + seen.vx, seen.y + seen.vy, seen.ux, seen.uy, other, u);
  const Part<T> above = part_inside(seen.x - seen.vx, seen.y - seen.vy, seen.ux, seen.uy, other, u);
  const T along = right.length - left.length, across = below.length - above.length;
  const Direction<T> axes = direction_of(box.angle);
  const T united = areas - common;
  const T by_common = scale / united * (areas / united);
  const T by_own = scale / united * (common / united);
  grad[0] = by_common * (axes.cos * along + axes.sin * across);
  grad[1] = by_common * (axes.cos * across - axes.sin * along);
  grad[2] = by_common * (right.length + left.length) / 2 - by_own * 2 * v;
  grad[3] = by_common * (below.length + above.length) / 2 - by_own * 2 * u;
  grad[4] = by_common * T(kRadian) * (right.moment - left.moment - below.moment + above.moment);
}

}  // namespace d2ext
