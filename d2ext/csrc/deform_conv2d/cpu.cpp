// Deformable convolution on the CPU, without an im2col buffer: some rows (output locations) are
// sampled for one tap into a panel, which is multiplied by the weights while it is in the cache.
// Threads share the rows in the forward pass. In the backward pass they share the channels, so that
// no two add to one gradient: with the same number of threads every run gives the same bits.

#include "../types.h"
#include "operands.h"
#include "problem.h"

namespace d2ext {
namespace {

D2EXT_DEFORM_CONV2D_LOOPS(float)
D2EXT_DEFORM_CONV2D_LOOPS(double)

// Rows and channels sampled at a time: 96 kB of float, which stays in the second-level cache.
constexpr int64_t kRows = 96;
constexpr int64_t kDepth = 256;
constexpr int64_t kLeastChannels = 16;  // fewer are not worth a thread
constexpr int64_t kGrain = 1 << 18;  // fewer multiplications are not worth a thread

// ---- forward

// Some rows of the output, by one thread.
template <typename T>
class ForwardWorker {
 public:
  ForwardWorker(
      const Operands<T>& in, const std::vector<Segment>& segments, const Pixels<T>& pixels,
      const T* kernels)
      : in_(in), segments_(segments), pixels_(pixels), kernels_(kernels), found_(kRows),
        columns_(kRows * kDepth), zeros_(kDepth) {}

  // Adds to output, (count, C').
  void add(int64_t first, int64_t count, T* output) {
    for (const Segment& segment : segments_) {
      for (int64_t tap = 0; tap < in_.shape.taps(); ++tap) {
        const Samples<T> samples{first, count, tap, segment.offset_group, found_.data()};
        find_samples(in_.shape, samples, in_.offsets(), in_.masks());
        gather_rows(
            samples, {pixels_.data + segment.begin, pixels_.stride}, segment.channels(),
            zeros_.data(), columns_.data(), kDepth);
        multiply_columns(segment, tap, count, output + segment.group * in_.outputs);
      }
    }
  }

 private:
  void multiply_columns(const Segment& segment, int64_t tap, int64_t count, T* output) {
    for (int64_t panel = 0; panel < in_.panels; ++panel) {
      const int64_t done = panel * kPanel<T>;
      multiply<T>(
          {count, std::min(kPanel<T>, in_.outputs - done), segment.channels(), columns_.data(),
           kDepth, 1, kernels_ + in_.forward_panel(segment, panel, tap), output + done,
           in_.shape.out_channels});
    }
  }

  const Operands<T>& in_;
  const std::vector<Segment>& segments_;
  const Pixels<T> pixels_;
  const T* kernels_;
  std::vector<Sample<T>> found_;
  Buffer<T> columns_, zeros_;
};

template <typename T>
Tensor all_pixels(const Operands<T>& in) {
  const DeformConvShape& shape = in.shape;
  const Tensor rows = in.empty({shape.batch, shape.height, shape.width, shape.channels});
  T* to = rows.template mutable_data_ptr<T>();
  torch::stable::parallel_for(0, in.pixel_blocks(), 1, [&](int64_t begin, int64_t end) {
    in.copy_pixels(begin, end, 0, shape.channels, to, shape.channels);
  });
  return rows;
}

// (B, C', H', W'), channels last
template <typename T>
Tensor forward(const Operands<T>& in, const std::optional<Tensor>& bias) {
  const DeformConvShape& shape = in.shape;
  const int64_t channels = shape.out_channels;
  const Tensor terms = bias ? in.in_order(*bias) : in.zeros({channels});
  const Tensor output = empty_channels_last(
      terms, {shape.batch, channels, shape.out_height, shape.out_width});
  const Tensor kernels = in.forward_panels();
  std::optional<Tensor> copy;
  if (!in.is_channels_last()) copy = all_pixels(in);
  const T* pixels = copy ? copy->template const_data_ptr<T>() : in.pixels();
  const std::vector<Segment> segments = split_channels(shape, kDepth);
  const int64_t work = shape.taps() * shape.group_channels() * channels;  // of a row
  const int64_t grain = 1 + kGrain / std::max<int64_t>(work, 1);
  torch::stable::parallel_for(0, shape.rows(), grain, [&](int64_t begin, int64_t end) {
    ForwardWorker<T> worker(
        in, segments, {pixels, shape.channels}, kernels.template const_data_ptr<T>());
    for (int64_t first = begin; first < end; first += kRows) {
      const int64_t count = std::min(kRows, end - first);
      T* to = output.template mutable_data_ptr<T>() + first * channels;
      for (int64_t i = 0; i < count; ++i) {
        std::copy_n(terms.template const_data_ptr<T>(), channels, to + i * channels);
      }
      worker.add(first, count, to);
    }
  });
  return output;
}

// ---- backward

// What a worker adds to. Channels belong to one worker; offsets and masks are shared by all, so
// each has its own sums of them.
template <typename T>
struct Sums {
  T *pixels, *weights, *offsets, *masks;
};

// Some channels of all rows, by one thread.
template <typename T>
class BackwardWorker {
 public:
  BackwardWorker(
      const Operands<T>& in, const T* grad_rows, const Sums<T>& sums, const Needs& needs)
      : in_(in), grad_rows_(grad_rows), sums_(sums), needs_(needs), found_(kRows), copy_(copy_size(in)),
        kernels_(in.backward_panels_size()), grad_kernels_(in.backward_panels_size()),
        columns_(kRows * kPanel<T>), grad_columns_(kRows * kPanel<T>), products_(kRows * 4),
        bin_(kPanel<T>), zeros_(kPanel<T>) {}

  void add(const Segment& segment) {
    const Pixels<T> pixels = pixels_of(segment);
    in_.copy_backward_panels(segment, kernels_.data());
    std::fill_n(grad_kernels_.data(), in_.backward_panels_size(), T(0));
    for (int64_t tap = 0; tap < in_.shape.taps(); ++tap) {
      for (int64_t first = 0; first < in_.shape.rows(); first += kRows) {
        const int64_t count = std::min(kRows, in_.shape.rows() - first);
        const Samples<T> samples{first, count, tap, segment.offset_group, found_.data()};
        find_samples(in_.shape, samples, in_.offsets(), in_.masks());
        multiply_back(segment, samples);
        scatter_rows(
            samples, pixels, segment.channels(), zeros_.data(), grad_columns_.data(),
            columns_.data(), kPanel<T>, sums_.pixels + segment.begin, in_.shape.channels,
            bin_.data(), products_.data());
        if (needs_.weight) multiply_kernels(segment, samples);
        if (needs_.positions) add_positions(samples);
      }
    }
    if (needs_.weight) store_kernels(segment);
  }

 private:
  static int64_t copy_size(const Operands<T>& in) {
    const int64_t pixels = in.shape.batch * in.shape.height * in.shape.width;
    return in.is_channels_last() ? 0 : pixels * kPanel<T>;
  }

  Pixels<T> pixels_of(const Segment& segment) {
    if (in_.is_channels_last()) return {in_.pixels() + segment.begin, in_.shape.channels};
    in_.copy_pixels(
        0, in_.pixel_blocks(), segment.begin, segment.channels(), copy_.data(), kPanel<T>);
    return {copy_.data(), kPanel<T>};
  }

  const T* grads_of(const Segment& segment, const Samples<T>& samples) const {
    return grad_rows_ + samples.first_row * in_.shape.out_channels + segment.group * in_.outputs;
  }

  // Gradients of columns: those of rows times kernels.
  void multiply_back(const Segment& segment, const Samples<T>& samples) {
    std::fill_n(grad_columns_.data(), samples.rows * kPanel<T>, T(0));
    if (!needs_.samples()) return;
    multiply<T>(
        {samples.rows, segment.channels(), in_.outputs, grads_of(segment, samples),
         in_.shape.out_channels, 1, kernels_.data() + in_.backward_panel(samples.tap),
         grad_columns_.data(), kPanel<T>});
  }

  // Gradients of kernels: those of rows, transposed, times columns.
  void multiply_kernels(const Segment& segment, const Samples<T>& samples) {
    multiply<T>(
        {in_.outputs, segment.channels(), samples.rows, grads_of(segment, samples), 1,
         in_.shape.out_channels, columns_.data(),
         grad_kernels_.data() + in_.backward_panel(samples.tap), kPanel<T>});
  }

  void add_positions(const Samples<T>& samples) {
    const int64_t plane = in_.shape.out_height * in_.shape.out_width;
    for (int64_t i = 0; i < samples.rows; ++i) {
      const SampleGradient<T> grad = sample_gradient(found_[i], products_.data() + 4 * i);
      const SamplePlace place = samples.place(in_.shape, i);
      sums_.offsets[place.offset_index] += grad.y;
      sums_.offsets[place.offset_index + plane] += grad.x;
      if (in_.masks()) sums_.masks[place.mask_index] += grad.mask;
    }
  }

  void store_kernels(const Segment& segment) {
    for (int64_t n = 0; n < in_.outputs; ++n) {
      T* to = sums_.weights + in_.weight_index(segment, n);
      for (int64_t c = 0; c < segment.channels(); ++c) {
        for (int64_t tap = 0; tap < in_.shape.taps(); ++tap) {
          *to++ = grad_kernels_.data()[in_.backward_panel(tap) + n * kPanel<T> + c];
        }
      }
    }
  }

  const Operands<T>& in_;
  const T* grad_rows_;
  const Sums<T> sums_;
  const Needs needs_;
  std::vector<Sample<T>> found_;
  Buffer<T> copy_, kernels_, grad_kernels_, columns_, grad_columns_, products_, bin_, zeros_;
};

// Adds to `sums` (count) all `shares`, of which each stands `step` numbers after the one before.
template <typename T>
void add_shares(int64_t workers, int64_t count, const T* shares, int64_t step, T* sums) {
  torch::stable::parallel_for(0, count, kGrain, [&](int64_t begin, int64_t end) {
    for (int64_t worker = 0; worker < workers; ++worker) {
      for (int64_t i = begin; i < end; ++i) sums[i] += shares[worker * step + i];
    }
  });
}

template <typename T>
std::vector<Segment> segments_for(const DeformConvShape& shape, int64_t threads) {
  const int64_t share = quotient_above(shape.channels, threads * kLeastChannels);
  return split_channels(shape, std::min(share * kLeastChannels, kPanel<T>));
}

template <typename T>
Gradients backward(const Operands<T>& in, const Tensor& grad_output, const Needs& needs) {
  const Tensor grad_rows = channels_last(in.to_type(grad_output));
  const int64_t threads = torch::stable::get_num_threads();
  const std::vector<Segment> segments = segments_for<T>(in.shape, threads);
  const int64_t count = segments.size(), workers = std::min(threads, count);
  const Gradients grads = in.new_gradients(needs);
  const Sums<T> sums{
      grads.pixels.template mutable_data_ptr<T>(), grads.kernels.template mutable_data_ptr<T>(),
      grads.offsets.template mutable_data_ptr<T>(), grads.masks.template mutable_data_ptr<T>()};
  const int64_t offsets = grads.offsets.numel(), masks = grads.masks.numel();
  const Tensor shares = in.zeros({workers - 1, offsets + masks});  // of workers but the first
  T* more = shares.template mutable_data_ptr<T>();
  torch::stable::parallel_for(0, workers, 1, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      Sums<T> own = sums;
      if (i > 0) {
        own.offsets = more + (i - 1) * (offsets + masks);
        own.masks = own.offsets + offsets;
      }
      BackwardWorker<T> worker(in, grad_rows.template const_data_ptr<T>(), own, needs);
      for (int64_t s = count * i / workers; s < count * (i + 1) / workers; ++s) {
        worker.add(segments[s]);
      }
    }
  });
  add_shares(workers - 1, offsets, more, offsets + masks, sums.offsets);
  add_shares(workers - 1, masks, more + offsets, offsets + masks, sums.masks);
  return grads;
}

// ---- the operator

Tensor deform_conv2d(
    const Tensor& input, const Tensor& offset, const Tensor& weight,
    const std::optional<Tensor>& bias, const std::optional<Tensor>& mask, const Pair& stride,
    const Pair& padding, const Pair& dilation) {
  const DeformConvShape shape =
      shape_of(input, offset, weight, mask, stride, padding, dilation);
  check_bias(bias, shape, input);
  const Tensor output = with_type(input.scalar_type(), [&](auto zero) {
    return forward(Operands<decltype(zero)>(shape, input, offset, weight, mask), bias);
  });
  return torch::stable::to(output, input.scalar_type());
}

FourTensors deform_conv2d_backward(
    const Tensor& grad_output, const Tensor& input, const Tensor& offset, const Tensor& weight,
    const std::optional<Tensor>& mask, const Pair& stride, const Pair& padding,
    const Pair& dilation, bool needs_input, bool needs_positions, bool needs_weight) {
  const Needs needs{needs_input, needs_positions, needs_weight};
  const DeformConvShape shape =
      shape_of(input, offset, weight, mask, stride, padding, dilation);
  check_grad_output(grad_output, shape, input);
  const Gradients grads = with_type(input.scalar_type(), [&](auto zero) {
    const Operands<decltype(zero)> operands(shape, input, offset, weight, mask);
    return backward(operands, grad_output, needs);
  });
  return grads.like(input, offset, weight, mask, needs);
}

STABLE_TORCH_LIBRARY_IMPL(d2ext, CPU, library) {
  library.impl("deform_conv2d", TORCH_BOX(&deform_conv2d));
  library.impl("deform_conv2d_backward", TORCH_BOX(&deform_conv2d_backward));
}

}  // namespace
}  // namespace d2ext
