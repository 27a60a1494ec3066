// The loops over channels of a deformable convolution on the CPU.

#pragma once

#include <algorithm>
#include <vector>

#include "../vectors.h"
#include "geometry.h"

namespace d2ext {

// Channels that share an offset group and a convolution group.
struct Segment {
  int64_t begin, end;
  int64_t offset_group, group;

  int64_t channels() const { return end - begin; }
};

// Splits the channels at the borders of both kinds of groups and into at most `limit` at a time.
inline std::vector<Segment> split_channels(const DeformConvShape& shape, int64_t limit) {
  const int64_t in_offset_group = shape.channels / shape.offset_groups;
  std::vector<Segment> segments;
  for (int64_t begin = 0; begin < shape.channels; begin = segments.back().end) {
    const int64_t offset_group = begin / in_offset_group, group = begin / shape.group_channels();
    int64_t end = std::min(begin + limit, shape.channels);
    end = std::min(end, (offset_group + 1) * in_offset_group);
    end = std::min(end, (group + 1) * shape.group_channels());
    segments.push_back({begin, end, offset_group, group});
  }
  return segments;
}

// The samples of one tap and offset group at some rows (output locations).
template <typename T>
struct Samples {
  int64_t first_row, rows;
  int64_t tap, offset_group;
  Sample<T>* found;  // with pixels counted over all images

  SamplePlace place(const DeformConvShape& shape, int64_t row) const {
    const int64_t plane = shape.out_height * shape.out_width, all = first_row + row;
    return place_at(shape, all / plane, all % plane, tap, offset_group);
  }
};

// Some channels of all pixels: (B * H * W, stride).
template <typename T>
struct Pixels {
  const T* data;
  int64_t stride;
};

template <typename T>
D2EXT_INLINE void look_up(
    const DeformConvShape& shape, const Samples<T>& samples, const T* offsets, const T* masks) {
  for (int64_t i = 0; i < samples.rows; ++i) {
    const SamplePlace place = samples.place(shape, i);
    const int64_t image = place.image * shape.height * shape.width;
    Sample<T> sample = read_sample(shape, place, offsets, masks);
    for (int64_t& pixel : sample.pixel) pixel += pixel < 0 ? 0 : image;
    samples.found[i] = sample;
  }
}

// columns (rows, step) = mask * sum of weight * pixel. `zeros` stands for pixels outside.
template <typename T>
D2EXT_INLINE void gather(
    const Samples<T>& samples, const Pixels<T>& pixels, int64_t channels, const T* zeros,
    T* columns, int64_t step) {
  for (int64_t row = 0; row < samples.rows; ++row, columns += step) {
    const Sample<T>& sample = samples.found[row];
    const T* corner[4];
    T weight[4];
    for (int i = 0; i < 4; ++i) {
      const int64_t pixel = sample.pixel[i];
      corner[i] = pixel < 0 ? zeros : pixels.data + pixel * pixels.stride;
      weight[i] = sample.weight[i] * sample.mask;
    }
#pragma omp simd
    for (int64_t c = 0; c < channels; ++c) {
      columns[c] = weight[0] * corner[0][c] + weight[1] * corner[1][c] +
          weight[2] * corner[2][c] + weight[3] * corner[3][c];
    }
  }
}

// From the gradients of columns, (rows, step): adds mask * weight * gradient to the gradients of
// the four pixels, (B * H * W, C), leaves in `products` (rows, 4) the scalar products of the
// gradient with the pixels, and in `columns` what `gather` does. `bin` takes what falls outside.
template <typename T>
D2EXT_INLINE void scatter(
    const Samples<T>& samples, const Pixels<T>& pixels, int64_t channels, const T* zeros,
    const T* grads, T* columns, int64_t step, T* grad_pixels, int64_t grad_stride, T* bin,
    T* products) {
  for (int64_t row = 0; row < samples.rows; ++row) {
    const Sample<T>& sample = samples.found[row];
    const T* grad = grads + row * step;
    T* column = columns + row * step;
    const T* corner[4];
    T* sum[4];
    T weight[4];
    for (int i = 0; i < 4; ++i) {
      const int64_t pixel = sample.pixel[i];
      corner[i] = pixel < 0 ? zeros : pixels.data + pixel * pixels.stride;
      sum[i] = pixel < 0 ? bin : grad_pixels + pixel * grad_stride;
      weight[i] = sample.weight[i] * sample.mask;
    }
    T product0 = 0, product1 = 0, product2 = 0, product3 = 0;
#pragma omp simd reduction(+ : product0, product1, product2, product3)
    for (int64_t c = 0; c < channels; ++c) {
      product0 += grad[c] * corner[0][c];
      product1 += grad[c] * corner[1][c];
      product2 += grad[c] * corner[2][c];
      product3 += grad[c] * corner[3][c];
      column[c] = weight[0] * corner[0][c] + weight[1] * corner[1][c] +
          weight[2] * corner[2][c] + weight[3] * corner[3][c];
      sum[0][c] += weight[0] * grad[c];
      sum[1][c] += weight[1] * grad[c];
      sum[2][c] += weight[2] * grad[c];
      sum[3][c] += weight[3] * grad[c];
    }
    T* product = products + row * 4;
    product[0] = product0, product[1] = product1, product[2] = product2, product[3] = product3;
  }
}

#define D2EXT_DEFORM_CONV2D_LOOPS(T)                                                             \
  D2EXT_VECTORS void find_samples(                                                               \
      const DeformConvShape& shape, const Samples<T>& samples, const T* offsets,                 \
      const T* masks) {                                                                          \
    look_up<T>(shape, samples, offsets, masks);                                                  \
  }                                                                                              \
  D2EXT_VECTORS void gather_rows(                                                                \
      const Samples<T>& samples, const Pixels<T>& pixels, int64_t channels, const T* zeros,      \
      T* columns, int64_t step) {                                                                \
    gather<T>(samples, pixels, channels, zeros, columns, step);                                  \
  }                                                                                              \
  D2EXT_VECTORS void scatter_rows(                                                               \
      const Samples<T>& samples, const Pixels<T>& pixels, int64_t channels, const T* zeros,      \
      const T* grads, T* columns, int64_t step, T* grad_pixels, int64_t grad_stride, T* bin,     \
      T* products) {                                                                             \
    scatter<T>(                                                                                  \
        samples, pixels, channels, zeros, grads, columns, step, grad_pixels, grad_stride, bin,   \
        products);                                                                               \
  }

}  // namespace d2ext
