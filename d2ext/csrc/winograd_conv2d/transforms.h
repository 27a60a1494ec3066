// Winograd's minimal filtering F(4x4, 3x3): Lavin and Gray 2015, arXiv:1509.09308, section 4.3. A
// tile of 4x4 outputs takes 36 products per pair of channels instead of 144:
//
//     Y = A^T [ (G g G^T) * (B^T d B) ] A,   d: 6x6 inputs, g: 3x3 kernel, Y: 4x4 outputs
//
// The matrices follow from interpolation at 0, +-a, +-b and infinity. With a = 3/4 and b = 3/2
// instead of the paper's 1 and 2 the largest error in float32 is a third.
//
// Each function below applies one of the matrices to a column whose elements are lines of kPanel
// numbers, one per tile (or channel); element i starts at i * step. Gradients take the transposed
// matrices.

#pragma once

#include "../product.h"

namespace d2ext {

constexpr int64_t kOutputs = 4;  // per side of a tile
constexpr int64_t kTaps = 3;
constexpr int64_t kInputs = kOutputs + kTaps - 1;
constexpr int64_t kProducts = kInputs * kInputs;

template <typename T>
struct Points {
  static constexpr T a = 0.75, b = 1.5, aa = a * a, bb = b * b;
  // The divisors of G, inverted.
  static constexpr T zero = 1 / (aa * bb), near = 1 / (2 * aa * (aa - bb)),
                     far = 1 / (2 * bb * (bb - aa));
};

// B^T
template <typename T>
D2EXT_INLINE void transform_inputs(const T* in, int64_t in_step, T* out, int64_t out_step) {
  constexpr T a = Points<T>::a, b = Points<T>::b, aa = Points<T>::aa, bb = Points<T>::bb;
#pragma omp simd
  for (int64_t l = 0; l < kPanel<T>; ++l) {
    const T d0 = in[l], d1 = in[l + in_step], d2 = in[l + 2 * in_step], d3 = in[l + 3 * in_step],
            d4 = in[l + 4 * in_step], d5 = in[l + 5 * in_step];
    const T even_a = d4 - bb * d2, odd_a = a * (d3 - bb * d1);
    const T even_b = d4 - aa * d2, odd_b = b * (d3 - aa * d1);
    out[l] = aa * bb * d0 - (aa + bb) * d2 + d4;
    out[l + out_step] = even_a + odd_a;
    out[l + 2 * out_step] = even_a - odd_a;
    out[l + 3 * out_step] = even_b + odd_b;
    out[l + 4 * out_step] = even_b - odd_b;
    out[l + 5 * out_step] = aa * bb * d1 - (aa + bb) * d3 + d5;
  }
}

// G
template <typename T>
D2EXT_INLINE void transform_taps(const T* in, int64_t in_step, T* out, int64_t out_step) {
  using P = Points<T>;
#pragma omp simd
  for (int64_t l = 0; l < kPanel<T>; ++l) {
    const T g0 = in[l], g1 = in[l + in_step], g2 = in[l + 2 * in_step];
    const T even_a = P::near * g0 + P::near * P::aa * g2, odd_a = P::near * P::a * g1;
    const T even_b = P::far * g0 + P::far * P::bb * g2, odd_b = P::far * P::b * g1;
    out[l] = P::zero * g0;
    out[l + out_step] = even_a + odd_a;
    out[l + 2 * out_step] = even_a - odd_a;
    out[l + 3 * out_step] = even_b + odd_b;
    out[l + 4 * out_step] = even_b - odd_b;
    out[l + 5 * out_step] = g2;
  }
}

// A^T
template <typename T>
D2EXT_INLINE void transform_products(const T* in, int64_t in_step, T* out, int64_t out_step) {
  constexpr T a = Points<T>::a, b = Points<T>::b, aa = Points<T>::aa, bb = Points<T>::bb;
#pragma omp simd
  for (int64_t l = 0; l < kPanel<T>; ++l) {
    const T m1 = in[l + in_step], m2 = in[l + 2 * in_step], m3 = in[l + 3 * in_step],
            m4 = in[l + 4 * in_step];
    const T even_a = m1 + m2, odd_a = a * (m1 - m2), even_b = m3 + m4, odd_b = b * (m3 - m4);
    out[l] = in[l] + even_a + even_b;
    out[l + out_step] = odd_a + odd_b;
    out[l + 2 * out_step] = aa * even_a + bb * even_b;
    out[l + 3 * out_step] = aa * odd_a + bb * odd_b + in[l + 5 * in_step];
  }
}

// A
template <typename T>
D2EXT_INLINE void transform_gradients(const T* in, int64_t in_step, T* out, int64_t out_step) {
  constexpr T a = Points<T>::a, b = Points<T>::b, aa = Points<T>::aa, bb = Points<T>::bb;
#pragma omp simd
  for (int64_t l = 0; l < kPanel<T>; ++l) {
    const T y0 = in[l], y1 = in[l + in_step], y2 = in[l + 2 * in_step], y3 = in[l + 3 * in_step];
    const T even_a = y0 + aa * y2, odd_a = a * (y1 + aa * y3);
    const T even_b = y0 + bb * y2, odd_b = b * (y1 + bb * y3);
    out[l] = y0;
    out[l + out_step] = even_a + odd_a;
    out[l + 2 * out_step] = even_a - odd_a;
    out[l + 3 * out_step] = even_b + odd_b;
    out[l + 4 * out_step] = even_b - odd_b;
    out[l + 5 * out_step] = y3;
  }
}

// G^T
template <typename T>
D2EXT_INLINE void transform_sums(const T* in, int64_t in_step, T* out, int64_t out_step) {
  using P = Points<T>;
#pragma omp simd
  for (int64_t l = 0; l < kPanel<T>; ++l) {
    const T u1 = in[l + in_step], u2 = in[l + 2 * in_step], u3 = in[l + 3 * in_step],
            u4 = in[l + 4 * in_step];
    const T even_a = P::near * (u1 + u2), odd_a = P::near * (u1 - u2);
    const T even_b = P::far * (u3 + u4), odd_b = P::far * (u3 - u4);
    out[l] = P::zero * in[l] + even_a + even_b;
    out[l + out_step] = P::a * odd_a + P::b * odd_b;
    out[l + 2 * out_step] = P::aa * even_a + P::bb * even_b + in[l + 5 * in_step];
  }
}

// Applies a transform to both axes of Rows x Rows lines at `in`, giving Out x Out lines at `out`.
#define D2EXT_TRANSFORM_BOTH(NAME, TRANSFORM, ROWS, OUT)                                         \
  template <typename T>                                                                          \
  D2EXT_INLINE void NAME##_of(const T* in, int64_t in_step, T* out, int64_t out_step) {          \
    T between[ROWS * OUT * kPanel<T>];                                                           \
    for (int64_t i = 0; i < ROWS; ++i) {                                                         \
      TRANSFORM<T>(in + i * ROWS * in_step, in_step, between + i * OUT * kPanel<T>, kPanel<T>);  \
    }                                                                                            \
    for (int64_t j = 0; j < OUT; ++j) {                                                          \
      TRANSFORM<T>(between + j * kPanel<T>, OUT * kPanel<T>, out + j * out_step, OUT * out_step); \
    }                                                                                            \
  }                                                                                              \
  D2EXT_VECTORS void NAME(const float* in, int64_t in_step, float* out, int64_t out_step) {      \
    NAME##_of<float>(in, in_step, out, out_step);                                                \
  }                                                                                              \
  D2EXT_VECTORS void NAME(const double* in, int64_t in_step, double* out, int64_t out_step) {    \
    NAME##_of<double>(in, in_step, out, out_step);                                               \
  }

}  // namespace d2ext
