// Focal loss on the CPU: tiles that fit the first cache are widened, computed and narrowed again.
// Sums are taken tile by tile in a fixed order: the number of threads does not change their bits.

#include <algorithm>
#include <vector>

#include "../elementary.h"
#include "../types.h"
#include "geometry.h"
#include "problem.h"

namespace d2ext {
namespace {

constexpr int64_t kTile = 1024;  // numbers computed at a time
constexpr int64_t kChunk = 32 * kTile;  // numbers worth a thread

template <typename T, bool kSquare>
D2EXT_INLINE void losses(int64_t count, const T* x, const T* target, Focus<T> focus, T* loss) {
#pragma omp simd
  for (int64_t i = 0; i < count; ++i) {
    loss[i] = focal_loss<Elementary<T>, kSquare>(x[i], target[i], focus);
  }
}

template <typename T, bool kSquare>
D2EXT_INLINE void slopes(int64_t count, const T* x, const T* target, Focus<T> focus, T* slope) {
#pragma omp simd
  for (int64_t i = 0; i < count; ++i) {
    slope[i] = focal_slope<Elementary<T>, kSquare>(x[i], target[i], focus);
  }
}

#define D2EXT_FOCAL_LOOPS(T)                                                                    \
  D2EXT_VECTORS void set_losses(                                                                \
      int64_t count, const T* x, const T* target, const Focus<T>& focus, T* loss) {             \
    focus.gamma == 2 ? losses<T, true>(count, x, target, focus, loss)                           \
                     : losses<T, false>(count, x, target, focus, loss);                         \
  }                                                                                             \
  D2EXT_VECTORS void set_slopes(                                                                \
      int64_t count, const T* x, const T* target, const Focus<T>& focus, T* slope) {            \
    focus.gamma == 2 ? slopes<T, true>(count, x, target, focus, slope)                          \
                     : slopes<T, false>(count, x, target, focus, slope);                        \
  }                                                                                             \
  D2EXT_VECTORS T sum_of(int64_t count, const T* values) {                                      \
    T sum = 0;                                                                                  \
    _Pragma("omp simd reduction(+ : sum)") for (int64_t i = 0; i < count; ++i) sum += values[i]; \
    return sum;                                                                                 \
  }

D2EXT_FOCAL_LOOPS(float)
D2EXT_FOCAL_LOOPS(double)

// Targets in either form: a number for each logit, or the class of each row of logits.
template <typename T>
class Targets {
 public:
  Targets(const Tensor& inputs, const Tensor& targets)
      : by_class_(targets.dim() < inputs.dim()),
        tensor_(torch::stable::contiguous(
            by_class_ ? targets : torch::stable::to(targets, kTypeOf<T>))),
        num_classes_(by_class_ ? std::max<int64_t>(inputs.size(-1), 1) : 1) {}

  // `buffer` holds kTile numbers.
  const T* read(int64_t begin, int64_t count, T* buffer) const {
    if (!by_class_) return tensor_.template const_data_ptr<T>() + begin;
    std::fill_n(buffer, count, T(0));
    for_rows(begin, count, [&](int64_t label, int64_t first, int64_t, int64_t) {
      const int64_t at = first + label;
      if (label >= 0 && label < num_classes_ && at >= 0 && at < count) buffer[at] = 1;
    });
    return buffer;
  }

  // Zeros for the rows without a class.
  void clear_ignored(int64_t begin, int64_t count, T* values) const {
    if (!by_class_) return;
    for_rows(begin, count, [&](int64_t label, int64_t, int64_t from, int64_t to) {
      if (label < 0) std::fill(values + from, values + to, T(0));
    });
  }

 private:
  // Each row's class, where it begins relative to the tile, and its part inside.
  template <typename F>
  void for_rows(int64_t begin, int64_t count, const F& visit) const {
    const int64_t* classes = tensor_.template const_data_ptr<int64_t>();
    for (int64_t row = begin / num_classes_; row * num_classes_ < begin + count; ++row) {
      const int64_t first = row * num_classes_ - begin;
      const int64_t from = std::max<int64_t>(first, 0);
      visit(classes[row], first, from, std::min(first + num_classes_, count));
    }
  }

  const bool by_class_;
  const Tensor tensor_;
  const int64_t num_classes_;
};

// Calls `visit` with the first number and the count of each tile, threads sharing the chunks.
template <typename F>
void for_tiles(int64_t count, const F& visit) {
  const int64_t chunks = (count + kChunk - 1) / kChunk;
  torch::stable::parallel_for(0, chunks, 1, [&](int64_t first, int64_t last) {
    for (int64_t begin = first * kChunk; begin < std::min(last * kChunk, count); begin += kTile) {
      visit(begin, std::min(kTile, count - begin));
    }
  });
}

template <typename T, typename S>
const T* widened(int64_t count, const S* from, T* buffer) {
  if constexpr (std::is_same_v<T, S>) return from;
  for (int64_t i = 0; i < count; ++i) buffer[i] = load(from + i);
  return buffer;
}

// T is the type to compute in, S that of the logits.
template <typename T, typename S>
Tensor forward(const Tensor& inputs, const Tensor& targets, Focus<T> focus, bool sum) {
  const Tensor logits = torch::stable::contiguous(inputs);
  const Targets<T> wanted(inputs, targets);
  const int64_t count = inputs.numel();
  const S* from = logits.template const_data_ptr<S>();
  Tensor output = sum ? torch::stable::new_zeros(logits, {}, kTypeOf<T>)
                      : torch::stable::new_empty(logits, logits.sizes(), kTypeOf<T>);
  T* out = output.template mutable_data_ptr<T>();
  std::vector<double> sums(sum ? (count + kTile - 1) / kTile : 0);
  for_tiles(count, [&](int64_t begin, int64_t size) {
    T x[kTile], target[kTile], buffer[kTile];
    T* loss = sum ? buffer : out + begin;
    set_losses(
        size, widened(size, from + begin, x), wanted.read(begin, size, target), focus, loss);
    wanted.clear_ignored(begin, size, loss);
    if (sum) sums[begin / kTile] = double(sum_of(size, loss));
  });
  if (sum) *out = T(sum_of(int64_t(sums.size()), sums.data()));
  return output;
}

template <typename T, typename S>
Tensor backward(
    const Tensor& grad_output, const Tensor& inputs, const Tensor& targets, Focus<T> focus,
    bool sum) {
  const Tensor logits = torch::stable::contiguous(inputs);
  const Tensor grads = torch::stable::contiguous(torch::stable::to(grad_output, kTypeOf<T>));
  const Targets<T> wanted(inputs, targets);
  const S* from = logits.template const_data_ptr<S>();
  const T* grad = grads.template const_data_ptr<T>();
  Tensor output = torch::stable::new_empty(logits, logits.sizes());
  S* out = output.template mutable_data_ptr<S>();
  for_tiles(inputs.numel(), [&](int64_t begin, int64_t size) {
    T x[kTile], target[kTile], slope[kTile];
    set_slopes(
        size, widened(size, from + begin, x), wanted.read(begin, size, target), focus, slope);
    wanted.clear_ignored(begin, size, slope);
    for (int64_t i = 0; i < size; ++i) {
      store(out + begin + i, S(slope[i] * grad[sum ? 0 : begin + i]));
    }
  });
  return output;
}

Tensor sigmoid_focal_loss(
    const Tensor& inputs, const Tensor& targets, double alpha, double gamma, bool sum) {
  check_targets(inputs, targets);
  return with_types(inputs.scalar_type(), [&](auto t, auto s) {
    using T = decltype(t);
    return forward<T, decltype(s)>(inputs, targets, Focus<T>(alpha, gamma), sum);
  });
}

Tensor sigmoid_focal_loss_backward(
    const Tensor& grad_output, const Tensor& inputs, const Tensor& targets, double alpha,
    double gamma, bool sum) {
  check_targets(inputs, targets);
  check_grad_output(grad_output, inputs, sum);
  return with_types(inputs.scalar_type(), [&](auto t, auto s) {
    using T = decltype(t);
    return backward<T, decltype(s)>(grad_output, inputs, targets, Focus<T>(alpha, gamma), sum);
  });
}

STABLE_TORCH_LIBRARY_IMPL(d2ext, CPU, library) {
  library.impl("sigmoid_focal_loss", TORCH_BOX(&sigmoid_focal_loss));
  library.impl("sigmoid_focal_loss_backward", TORCH_BOX(&sigmoid_focal_loss_backward));
}

}  // namespace
}  // namespace d2ext
