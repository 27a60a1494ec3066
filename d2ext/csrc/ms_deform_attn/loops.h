// The loops over samples and channels of multi-scale deformable attention on the CPU.
// They work on planes: the channels of one head at one level inside a border of zeros, (height + 2,
// width + 2, lanes). All four pixels around a sample lie in a plane, close together. In `value`
// neighbours are all heads apart, a stride by which they would compete for few cache sets.

#pragma once

#include <algorithm>
#include <vector>

#include "../vectors.h"
#include "geometry.h"

namespace d2ext {

constexpr int64_t kLanes = 16;  // channels summed in registers

struct AttentionShape {
  int64_t batch, pixels, heads, channels, queries, points;
  std::vector<Level> levels;

  int64_t samples() const { return int64_t(levels.size()) * points; }  // of one query and head
  int64_t lanes() const { return (channels + kLanes - 1) / kLanes * kLanes; }
};

inline int64_t plane_size(const AttentionShape& shape, const Level& level) {
  return (level.height + 2) * (level.width + 2) * shape.lanes();
}

// Numbers between a plane's rows.
D2EXT_INLINE int64_t plane_row(const Level& level, int64_t lanes) {
  return (level.width + 2) * lanes;
}

D2EXT_INLINE int64_t place_in_plane(const Level& level, int64_t y, int64_t x, int64_t lanes) {
  return (y + 1) * plane_row(level, lanes) + (x + 1) * lanes;
}

// Fills a plane from the level's pixels of one head in `value`, (N, S, M, D).
template <typename T>
void read_plane(const AttentionShape& shape, const Level& level, const T* pixels, T* plane) {
  const int64_t lanes = shape.lanes(), channels = shape.channels;
  std::fill(plane, plane + place_in_plane(level, 0, 0, lanes), T(0));
  for (int64_t y = 0; y < level.height; ++y) {
    T* to = plane + place_in_plane(level, y, 0, lanes);
    for (int64_t x = 0; x < level.width; ++x, to += lanes, pixels += shape.heads * channels) {
      std::copy(pixels, pixels + channels, to);
      std::fill(to + channels, to + lanes, T(0));
    }
    std::fill(to, to + 2 * lanes, T(0));  // the right border, and the left one of the next row
  }
  T* last = plane + place_in_plane(level, level.height, 0, lanes);
  std::fill(last, plane + plane_size(shape, level), T(0));
}

// The other way round; the border is left out.
template <typename T>
void write_plane(const AttentionShape& shape, const Level& level, const T* plane, T* pixels) {
  const int64_t lanes = shape.lanes(), channels = shape.channels;
  for (int64_t y = 0; y < level.height; ++y) {
    const T* from = plane + place_in_plane(level, y, 0, lanes);
    for (int64_t x = 0; x < level.width; ++x, from += lanes, pixels += shape.heads * channels) {
      std::copy(from, from + channels, pixels);
    }
  }
}

// Asks for memory that comes in strides too long for the processor to foresee.
template <typename T>
D2EXT_INLINE void prefetch(const T* from, int64_t count) {
#if defined(__GNUC__)
  for (int64_t i = 0; i < count; i += 64 / int64_t(sizeof(T))) __builtin_prefetch(from + i);
#endif
}

constexpr int64_t kQueriesAhead = 8;

// What one sample adds to an output: four pixels of a plane, times their weights.
template <typename T>
struct Term {
  int64_t upper, lower;  // where the left pixels are
  T weight[4];
};

// Finds the terms of one query and head; returns how many there are.
template <typename T>
D2EXT_INLINE int64_t find_terms(
    const AttentionShape& shape, const T* locations, const T* weights, Term<T>* terms) {
  const int64_t lanes = shape.lanes();
  int64_t count = 0, plane = 0;
  for (const Level& level : shape.levels) {
    for (int64_t p = 0; p < shape.points; ++p, locations += 2, ++weights) {
      const LevelSample<T> sample = level_sample(level, locations[0], locations[1]);
      if (!sample.reads) continue;
      Term<T>& term = terms[count++];
      term.upper = plane + place_in_plane(level, sample.top, sample.left, lanes);
      term.lower = term.upper + plane_row(level, lanes);
      for (int c = 0; c < 4; ++c) term.weight[c] = *weights * sample.share(c);
    }
    plane += (level.height + 2) * plane_row(level, lanes);
  }
  return count;
}

// Sets kLanes channels of a sum.
template <typename T>
D2EXT_INLINE void sum_terms(
    const Term<T>* terms, int64_t count, const T* planes, int64_t lanes, T* out) {
  T sum[kLanes] = {};
  for (int64_t k = 0; k < count; ++k) {
    const T *upper = planes + terms[k].upper, *upper_right = upper + lanes;
    const T *lower = planes + terms[k].lower, *lower_right = lower + lanes;
    const T *weight = terms[k].weight;
    const T weight0 = weight[0], weight1 = weight[1], weight2 = weight[2], weight3 = weight[3];
#pragma omp simd
    for (int c = 0; c < kLanes; ++c) {
      sum[c] += (weight0 * upper[c] + weight1 * upper_right[c]) +
          (weight2 * lower[c] + weight3 * lower_right[c]);
    }
  }
  for (int c = 0; c < kLanes; ++c) out[c] = sum[c];
}

// One image's outputs, (Q, M, D), numbered from begin to end through heads and in these through
// queries. `planes` are all of the image, heads outside.
template <typename T>
D2EXT_INLINE void attend(
    const AttentionShape& shape, const T* planes, int64_t head_planes, const T* locations,
    const T* weights, T* output, int64_t begin, int64_t end) {
  const int64_t lanes = shape.lanes(), samples = shape.samples(), channels = shape.channels;
  std::vector<Term<T>> terms(samples);
  std::vector<T> sums(lanes);
  for (int64_t i = begin; i < end; ++i) {
    const int64_t head = i / shape.queries, query = i % shape.queries;
    const int64_t row = query * shape.heads + head;
    const int64_t ahead =
        std::min(query + kQueriesAhead, shape.queries - 1) * shape.heads + head;
    prefetch(locations + ahead * samples * 2, samples * 2);
    prefetch(weights + ahead * samples, samples);
    const int64_t count = find_terms(
        shape, locations + row * samples * 2, weights + row * samples, terms.data());
    for (int64_t c = 0; c < lanes; c += kLanes) {
      sum_terms(terms.data(), count, planes + head * head_planes + c, lanes, sums.data() + c);
    }
    std::copy(sums.data(), sums.data() + channels, output + row * channels);
  }
}

// Adds weight * gradient to the gradients of four pixels, and sets the scalar products of the
// gradient with the pixels.
template <typename T>
D2EXT_INLINE void add_back(
    const T* grad, const T* weight, const T* upper, const T* lower, T* grad_upper, T* grad_lower,
    int64_t lanes, T* products) {
  const T *upper_right = upper + lanes, *lower_right = lower + lanes;
  T *grad_upper_right = grad_upper + lanes, *grad_lower_right = grad_lower + lanes;
  const T weight0 = weight[0], weight1 = weight[1], weight2 = weight[2], weight3 = weight[3];
  T product0 = 0, product1 = 0, product2 = 0, product3 = 0;
#pragma omp simd reduction(+ : product0, product1, product2, product3)
  for (int64_t c = 0; c < lanes; ++c) {
    const T value = grad[c];
    product0 += value * upper[c];
    product1 += value * upper_right[c];
    product2 += value * lower[c];
    product3 += value * lower_right[c];
    grad_upper[c] += weight0 * value;
    grad_upper_right[c] += weight1 * value;
    grad_lower[c] += weight2 * value;
    grad_lower_right[c] += weight3 * value;
  }
  products[0] = product0, products[1] = product1, products[2] = product2, products[3] = product3;
}

// One image's gradients: inputs (Q, M * D), (Q, M, L * P, 2) and (Q, M, L * P), then the gradients
// of the last two.
template <typename T>
struct AttentionGradients {
  const T *output, *locations, *weights;
  T *grad_locations, *grad_weights;
};

// The part of one head and level: adds to the gradient of its plane, and sets those of locations
// and weights.
template <typename T>
D2EXT_INLINE void attend_back(
    const AttentionShape& shape, int64_t head, int64_t number, const T* plane, T* grad_plane,
    const AttentionGradients<T>& image) {
  const Level level = shape.levels[number];
  const int64_t lanes = shape.lanes() / kLanes * kLanes;  // tells the compiler: whole vectors
  const int64_t down = plane_row(level, lanes), channels = shape.channels;
  std::vector<T> grad(lanes);
  for (int64_t query = 0; query < shape.queries; ++query) {
    const int64_t row = query * shape.heads + head;
    const int64_t ahead =
        std::min(query + kQueriesAhead, shape.queries - 1) * shape.heads + head;
    const int64_t first = row * shape.samples() + number * shape.points;
    const int64_t first_ahead = ahead * shape.samples() + number * shape.points;
    prefetch(image.output + ahead * channels, channels);
    prefetch(image.locations + first_ahead * 2, shape.points * 2);
    prefetch(image.weights + first_ahead, shape.points);
    prefetch(image.grad_locations + first_ahead * 2, shape.points * 2);
    prefetch(image.grad_weights + first_ahead, shape.points);
    std::copy(image.output + row * channels, image.output + (row + 1) * channels, grad.data());
    for (int64_t i = first; i < first + shape.points; ++i) {
      const T* location = image.locations + 2 * i;
      const LevelSample<T> sample = level_sample(level, location[0], location[1]);
      T products[4] = {}, weight[4];
      if (sample.reads) {
        const int64_t at = place_in_plane(level, sample.top, sample.left, lanes);
        for (int c = 0; c < 4; ++c) weight[c] = image.weights[i] * sample.share(c);
        add_back(
            grad.data(), weight, plane + at, plane + at + down, grad_plane + at,
            grad_plane + at + down, lanes, products);
      }
      const LevelSampleGradient<T> gradient =
          level_sample_gradient(level, sample, image.weights[i], products);
      image.grad_locations[2 * i] = gradient.x;
      image.grad_locations[2 * i + 1] = gradient.y;
      image.grad_weights[i] = gradient.weight;
    }
  }
}

#define D2EXT_MS_DEFORM_ATTN_LOOPS(T)                                                         \
  D2EXT_VECTORS void attend_rows(                                                             \
      const AttentionShape& shape, const T* planes, int64_t head_planes, const T* locations,  \
      const T* weights, T* output, int64_t begin, int64_t end) {                              \
    attend<T>(shape, planes, head_planes, locations, weights, output, begin, end);            \
  }                                                                                           \
  D2EXT_VECTORS void attend_level_back(                                                       \
      const AttentionShape& shape, int64_t head, int64_t number, const T* plane,              \
      T* grad_plane, const AttentionGradients<T>& image) {                                    \
    attend_back<T>(shape, head, number, plane, grad_plane, image);                            \
  }

}  // namespace d2ext
