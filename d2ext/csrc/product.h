// Products of small matrices close to the processor's peak rate: a tile of the result stays in
// registers while the columns of `a` and the lines of `b` stream by.

#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "vectors.h"

namespace d2ext {

// c (rows, columns) += a (rows, depth) times b (depth, columns), where `b` is a panel: lines of
// kPanel numbers, of which those from `columns` on are not used.
template <typename T>
struct Product {
  int64_t rows, columns, depth;
  const T* a;
  int64_t a_row, a_column;  // distances in `a`
  const T* b;
  T* c;
  int64_t c_row;
};

template <typename T>
constexpr int64_t kPanel = 4 * kLineBytes / sizeof(T);

// Copies a vector from or to numbers of which only the first `count` exist.
template <typename V, typename T>
D2EXT_INLINE void copy_some(void* to, const void* from, int64_t count) {
  if (count >= int64_t(sizeof(V) / sizeof(T))) {
    std::memcpy(to, from, sizeof(V));
  } else if (count > 0) {
    std::memcpy(to, from, count * sizeof(T));
  }
}

// The tile of Rows x Vectors vectors at a row and a column of `c`.
template <typename T, int Bytes, int Rows, int Vectors>
D2EXT_INLINE void multiply_tile(const Product<T>& product, int64_t row, int64_t column) {
  using V = typename Vector<T, Bytes>::type;
  constexpr int64_t lanes = sizeof(V) / sizeof(T);
  const int64_t count = product.columns - column, a_row = product.a_row;
  const T* a = product.a + row * a_row;
  const T* b = product.b + column;
  T* c = product.c + row * product.c_row + column;
  V sums[Rows][Vectors];
  D2EXT_UNROLL
  for (int i = 0; i < Rows; ++i) {
    D2EXT_UNROLL
    for (int j = 0; j < Vectors; ++j) {
      V sum{};
      copy_some<V, T>(&sum, c + i * product.c_row + j * lanes, count - j * lanes);
      sums[i][j] = sum;
    }
  }
  for (int64_t k = 0; k < product.depth; ++k, a += product.a_column, b += kPanel<T>) {
    V line[Vectors];
    D2EXT_UNROLL
    for (int j = 0; j < Vectors; ++j) std::memcpy(&line[j], b + j * lanes, sizeof(V));
    D2EXT_UNROLL
    for (int i = 0; i < Rows; ++i) {
      D2EXT_UNROLL
      for (int j = 0; j < Vectors; ++j) sums[i][j] += a[i * a_row] * line[j];
    }
  }
  D2EXT_UNROLL
  for (int i = 0; i < Rows; ++i) {
    D2EXT_UNROLL
    for (int j = 0; j < Vectors; ++j) {
      const V sum = sums[i][j];
      copy_some<V, T>(c + i * product.c_row + j * lanes, &sum, count - j * lanes);
    }
  }
}

// The last rows, Rows of them or fewer.
template <typename T, int Bytes, int Rows, int Vectors>
D2EXT_INLINE void multiply_rest(const Product<T>& product, int64_t row, int64_t column) {
  if constexpr (Rows > 0) {
    if (product.rows - row == Rows) {
      multiply_tile<T, Bytes, Rows, Vectors>(product, row, column);
    } else {
      multiply_rest<T, Bytes, Rows - 1, Vectors>(product, row, column);
    }
  }
}

template <typename T, int Bytes, int Rows, int Vectors>
D2EXT_INLINE void multiply_strip(const Product<T>& product, int64_t column) {
  int64_t row = 0;
  for (; row + Rows <= product.rows; row += Rows) {
    multiply_tile<T, Bytes, Rows, Vectors>(product, row, column);
  }
  multiply_rest<T, Bytes, Rows - 1, Vectors>(product, row, column);
}

template <typename T, int Bytes, int Rows, int Vectors>
D2EXT_INLINE void multiply_strips(const Product<T>& product) {
  constexpr int64_t lanes = sizeof(typename Vector<T, Bytes>::type) / sizeof(T);
  for (int64_t column = 0; column < product.columns; column += Vectors * lanes) {
    if (product.columns - column > lanes) {
      multiply_strip<T, Bytes, Rows, Vectors>(product, column);
    } else {
      multiply_strip<T, Bytes, Rows, 1>(product, column);
    }
  }
}

// 24 of 32 registers hold sums, or 12 of 16; the others hold operands.
#if defined(__x86_64__) && defined(__GNUC__)
template <typename T>
__attribute__((target("avx512f"))) void multiply_avx512(const Product<T>& product) {
  multiply_strips<T, 64, 6, 4>(product);
}

template <typename T>
__attribute__((target("avx2,fma"))) void multiply_avx2(const Product<T>& product) {
  multiply_strips<T, 32, 6, 2>(product);
}
#endif

template <typename T>
void multiply(const Product<T>& product) {
#if defined(__x86_64__) && defined(__GNUC__)
  if (__builtin_cpu_supports("avx512f")) return multiply_avx512(product);
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
    return multiply_avx2(product);
  }
#endif
  multiply_strips<T, 16, 6, 2>(product);
}

}  // namespace d2ext
