// Multi-scale deformable attention on CUDA. A team of eight threads shares a query and head: each
// finds the four pixels of every eighth sample; then, sample by sample, all read a few channels of
// each pixel. The queries of a block are neighbours that attend with the same head, so that pixels
// are read from the first-level cache.

#include <initializer_list>
#include <tuple>

#include "../cuda.h"
#include "geometry.h"
#include "problem.h"

namespace d2ext {
namespace {

constexpr int kTeam = 8;  // threads that share a query and head
constexpr int kThreads = 128;
constexpr int kQueries = kThreads / kTeam;  // of a block
constexpr unsigned kWholeWarp = 0xFFFFFFFF;

struct Problem {
  int64_t batch, pixels, heads, channels, queries;
  int points, samples;  // of a level, and of all
  Level levels[kMostLevels];

  int64_t tiles_of_head() const { return (queries + kQueries - 1) / kQueries; }
};

Problem problem_of(
    const Tensor& value, const std::vector<int64_t>& spatial_shapes, const Tensor& locations) {
  const std::vector<Level> levels = levels_of(spatial_shapes);
  Problem problem{};
  problem.batch = value.size(0), problem.pixels = value.size(1);
  problem.heads = value.size(2), problem.channels = value.size(3);
  problem.queries = locations.size(1), problem.points = int(locations.size(4));
  problem.samples = int(levels.size()) * problem.points;
  std::copy(levels.begin(), levels.end(), problem.levels);
  return problem;
}

// ---- the part of one thread

// Where the threads of a team are: all of one head, each with a query.
struct Place {
  bool active;  // the last teams of a head may have no query
  int64_t row;  // in (N, Q, M)
  int64_t pixel;  // first number of the head's first pixel, in (N, S, M, D)
};

__device__ inline Place place_of(const Problem& problem, int64_t tiles_of_head, int64_t tile) {
  const int64_t head_of_batch = tile / tiles_of_head;
  const int64_t image = head_of_batch / problem.heads, head = head_of_batch % problem.heads;
  const int64_t query = (tile % tiles_of_head) * kQueries + threadIdx.x / kTeam;
  return {
      query < problem.queries, (image * problem.queries + query) * problem.heads + head,
      (image * problem.pixels * problem.heads + head) * problem.channels};
}

// A sample as its finder sees it.
template <typename W>
struct Found {
  Level level;
  LevelSample<W> sample;
  W weight;
};

template <typename W>
__device__ inline Found<W> find(
    const Problem& problem, const Place& place, int number, const W* locations,
    const W* weights) {
  Found<W> found{};
  if (!place.active || number >= problem.samples) return found;
  const int64_t at = place.row * problem.samples + number;
  found.level = problem.levels[number / problem.points];
  found.sample = level_sample(found.level, locations[2 * at], locations[2 * at + 1]);
  found.weight = weights[at];
  return found;
}

// A sample as the whole team sees it: its upper left pixel, which of the four are inside, a bit
// each, and their weights.
template <typename W>
struct Corners {
  int64_t pixel;
  int width, inside;
  W weight[4];

  __device__ bool has(int corner) const { return inside >> corner & 1; }
  __device__ int64_t pixel_of(int corner) const {
    return pixel + (corner / 2) * int64_t(width) + corner % 2;
  }
};

template <typename W>
__device__ inline Corners<W> corners_of(const Found<W>& found) {
  Corners<W> corners{};
  if (!found.sample.reads) return corners;
  const int64_t top = found.sample.top, left = found.sample.left;
  corners.pixel = found.level.first + top * found.level.width + left;
  corners.width = int(found.level.width);
  const int rows = int(top >= 0) * 3 | int(top + 1 < found.level.height) * 12;
  const int columns = int(left >= 0) * 5 | int(left + 1 < found.level.width) * 10;
  corners.inside = rows & columns;
  for (int c = 0; c < 4; ++c) corners.weight[c] = found.weight * found.sample.share(c);
  return corners;
}

// Reads a value that another thread of the team holds.
template <typename W>
__device__ inline Corners<W> from_member(const Corners<W>& own, int member) {
  Corners<W> corners;
  corners.pixel = __shfl_sync(kWholeWarp, own.pixel, member, kTeam);
  corners.width = __shfl_sync(kWholeWarp, own.width, member, kTeam);
  corners.inside = __shfl_sync(kWholeWarp, own.inside, member, kTeam);
  for (int c = 0; c < 4; ++c) {
    corners.weight[c] = __shfl_sync(kWholeWarp, own.weight[c], member, kTeam);
  }
  return corners;
}

// Sums over a team of each of kTeam values; thread i gets the i-th.
template <typename W>
__device__ inline W team_sum(W (&values)[kTeam], int member) {
#pragma unroll
  for (int half = kTeam / 2; half > 0; half /= 2) {
    const bool upper = member & half;
#pragma unroll
    for (int i = 0; i < half; ++i) {
      const W kept = upper ? values[i + half] : values[i];
      const W given = upper ? values[i] : values[i + half];
      values[i] = kept + __shfl_xor_sync(kWholeWarp, given, half);
    }
  }
  return values[0];
}

template <typename T, int N>
__device__ inline Pack<T, N> read(const T* from) {
  return *reinterpret_cast<const Pack<T, N>*>(from);
}

// Adds N neighbours, four floats at once where the GPU can.
template <typename W, int N>
__device__ inline void add(W* to, const W (&terms)[N]) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  if constexpr (N == 4 && std::is_same_v<W, float>) {
    atomicAdd(
        reinterpret_cast<float4*>(to), make_float4(terms[0], terms[1], terms[2], terms[3]));
  } else
#endif
  {
#pragma unroll
    for (int n = 0; n < N; ++n) atomicAdd(to + n, terms[n]);
  }
}

// ---- forward

// Each thread sums N channels at a time. No thread leaves a loop early: shuffles need all of a
// warp.
template <typename T, int N>
__global__ void __launch_bounds__(kThreads) attend(
    const __grid_constant__ Problem problem, int64_t tiles_of_head, int64_t tiles,
    const T* __restrict__ value, const Wide<T>* __restrict__ locations,
    const Wide<T>* __restrict__ weights, T* __restrict__ output) {
  using W = Wide<T>;
  const int member = threadIdx.x % kTeam;
  const int64_t stride = problem.heads * problem.channels;
  for (int64_t tile = blockIdx.x; tile < tiles; tile += gridDim.x) {
    const Place place = place_of(problem, tiles_of_head, tile);
    for (int64_t first = 0; first < problem.channels; first += kTeam * N) {
      const int64_t channel = first + member * N;
      const bool has_channel = channel < problem.channels;
      const T* pixels = value + place.pixel + channel;
      W sums[N] = {};
      for (int turn = 0; turn < problem.samples; turn += kTeam) {
        const Corners<W> own =
            corners_of(find(problem, place, turn + member, locations, weights));
#pragma unroll 2
        for (int i = 0; i < kTeam; ++i) {
          const Corners<W> corners = from_member(own, i);
#pragma unroll
          for (int c = 0; c < 4; ++c) {
            if (!corners.has(c) || !has_channel) continue;
            const Pack<T, N> pixel = read<T, N>(pixels + corners.pixel_of(c) * stride);
#pragma unroll
            for (int n = 0; n < N; ++n) sums[n] += corners.weight[c] * W(pixel.at[n]);
          }
        }
      }
      if (!place.active || !has_channel) continue;
      Pack<T, N> sum;
#pragma unroll
      for (int n = 0; n < N; ++n) sum.at[n] = T(sums[n]);
      *reinterpret_cast<Pack<T, N>*>(output + place.row * problem.channels + channel) = sum;
    }
  }
}

// ---- backward

// Adds weight * gradient to the gradients of a sample's four pixels, for the channels of a thread,
// and its terms to the scalar products of the gradient with the pixels.
template <typename T, int N>
__device__ inline void add_back(
    const Problem& problem, const Corners<Wide<T>>& corners, int member, const T* grads,
    const T* pixels, Wide<T>* grad_pixels, Wide<T> (&products)[4]) {
  using W = Wide<T>;
  if (!corners.inside) return;  // a team without a query has no gradient to read either
  const int64_t stride = problem.heads * problem.channels;
  for (int64_t channel = member * N; channel < problem.channels; channel += kTeam * N) {
    const Pack<T, N> grad = read<T, N>(grads + channel);
#pragma unroll
    for (int c = 0; c < 4; ++c) {
      if (!corners.has(c)) continue;
      const int64_t at = corners.pixel_of(c) * stride + channel;
      const Pack<T, N> pixel = read<T, N>(pixels + at);
      W terms[N];
#pragma unroll
      for (int n = 0; n < N; ++n) {
        products[c] += W(grad.at[n]) * W(pixel.at[n]);
        terms[n] = corners.weight[c] * W(grad.at[n]);
      }
      add<W, N>(grad_pixels + at, terms);
    }
  }
}

template <typename T, int N>
__global__ void __launch_bounds__(kThreads) attend_back(
    const __grid_constant__ Problem problem, int64_t tiles_of_head, int64_t tiles,
    const T* __restrict__ grad_output, const T* __restrict__ value,
    const Wide<T>* __restrict__ locations, const Wide<T>* __restrict__ weights,
    Wide<T>* __restrict__ grad_value, Wide<T>* __restrict__ grad_locations,
    Wide<T>* __restrict__ grad_weights) {
  using W = Wide<T>;
  const int member = threadIdx.x % kTeam;
  for (int64_t tile = blockIdx.x; tile < tiles; tile += gridDim.x) {
    const Place place = place_of(problem, tiles_of_head, tile);
    const T* grads = grad_output + place.row * problem.channels;
    for (int turn = 0; turn < problem.samples; turn += kTeam) {
      const Found<W> found = find(problem, place, turn + member, locations, weights);
      const Corners<W> own = corners_of(found);
      W terms[4][kTeam];
#pragma unroll
      for (int i = 0; i < kTeam; ++i) {
        W products[4] = {};
        add_back<T, N>(
            problem, from_member(own, i), member, grads, value + place.pixel,
            grad_value + place.pixel, products);
#pragma unroll
        for (int c = 0; c < 4; ++c) terms[c][i] = products[c];
      }
      W products[4];
#pragma unroll
      for (int c = 0; c < 4; ++c) products[c] = team_sum(terms[c], member);
      const int number = turn + member;
      if (!place.active || number >= problem.samples) continue;
      const LevelSampleGradient<W> gradient =
          level_sample_gradient(found.level, found.sample, found.weight, products);
      const int64_t at = place.row * problem.samples + number;
      grad_locations[2 * at] = gradient.x;
      grad_locations[2 * at + 1] = gradient.y;
      grad_weights[at] = gradient.weight;
    }
  }
}

// ---- launches

template <typename T>
Tensor as_contiguous(const Tensor& tensor) {
  return torch::stable::contiguous(torch::stable::to(tensor, kScalarType<T>));
}

// Whether four channels can be read at once.
template <typename T>
bool is_packed(const Problem& problem, std::initializer_list<const Tensor*> tensors) {
  bool packed = problem.channels % 4 == 0;
  for (const Tensor* tensor : tensors) {
    packed &= reinterpret_cast<uintptr_t>(tensor->data_ptr()) % sizeof(Pack<T, 4>) == 0;
  }
  return packed;
}

template <typename T>
Tensor forward(
    const Problem& problem, const Tensor& value_in, const Tensor& locations_in,
    const Tensor& weights_in, cudaStream_t stream) {
  using W = Wide<T>;
  const Tensor value = as_contiguous<T>(value_in);
  const Tensor locations = as_contiguous<W>(locations_in);
  const Tensor weights = as_contiguous<W>(weights_in);
  const Tensor output = torch::stable::new_empty(
      value, {problem.batch, problem.queries, problem.heads * problem.channels});
  const int64_t tiles = problem.batch * problem.heads * problem.tiles_of_head();
  const auto kernel = is_packed<T>(problem, {&value, &output}) ? attend<T, 4> : attend<T, 1>;
  kernel<<<blocks_for(tiles, 1), kThreads, 0, stream>>>(
      problem, problem.tiles_of_head(), tiles, value.const_data_ptr<T>(),
      locations.const_data_ptr<W>(), weights.const_data_ptr<W>(),
      output.mutable_data_ptr<T>());
  check_launch();
  return output;
}

struct Gradients {
  Tensor value, locations, weights;
};

template <typename T>
Gradients backward(
    const Problem& problem, const Tensor& grad_output_in, const Tensor& value_in,
    const Tensor& locations_in, const Tensor& weights_in, cudaStream_t stream) {
  using W = Wide<T>;
  const Tensor grad_output = as_contiguous<T>(grad_output_in);
  const Tensor value = as_contiguous<T>(value_in);
  const Tensor locations = as_contiguous<W>(locations_in);
  const Tensor weights = as_contiguous<W>(weights_in);
  const Gradients grads{
      torch::stable::new_zeros(value, value.sizes(), kScalarType<W>),
      torch::stable::empty_like(locations), torch::stable::empty_like(weights)};
  const int64_t tiles = problem.batch * problem.heads * problem.tiles_of_head();
  const auto kernel =
      is_packed<T>(problem, {&grad_output, &value}) ? attend_back<T, 4> : attend_back<T, 1>;
  kernel<<<blocks_for(tiles, 1), kThreads, 0, stream>>>(
      problem, problem.tiles_of_head(), tiles, grad_output.const_data_ptr<T>(),
      value.const_data_ptr<T>(), locations.const_data_ptr<W>(), weights.const_data_ptr<W>(),
      grads.value.mutable_data_ptr<W>(), grads.locations.mutable_data_ptr<W>(),
      grads.weights.mutable_data_ptr<W>());
  check_launch();
  return grads;
}

Tensor ms_deform_attn(
    const Tensor& value, const std::vector<int64_t>& spatial_shapes, const Tensor& locations,
    const Tensor& weights) {
  check_attention(value, spatial_shapes, locations, weights);
  const OnDevice device(value);
  const Problem problem = problem_of(value, spatial_shapes, locations);
  return with_floats(value.scalar_type(), [&](auto zero) {
    return forward<decltype(zero)>(problem, value, locations, weights, device.stream());
  });
}

// Gradients of value, locations and weights.
std::tuple<Tensor, Tensor, Tensor> ms_deform_attn_backward(
    const Tensor& grad_output, const Tensor& value, const std::vector<int64_t>& spatial_shapes,
    const Tensor& locations, const Tensor& weights) {
  check_attention(value, spatial_shapes, locations, weights);
  check_grad_output(grad_output, value, locations);
  const OnDevice device(value);
  const Problem problem = problem_of(value, spatial_shapes, locations);
  const Gradients grads = with_floats(value.scalar_type(), [&](auto zero) {
    return backward<decltype(zero)>(
        problem, grad_output, value, locations, weights, device.stream());
  });
  return std::make_tuple(
      torch::stable::to(grads.value, value.scalar_type()),
      torch::stable::to(grads.locations, locations.scalar_type()),
      torch::stable::to(grads.weights, weights.scalar_type()));
}

STABLE_TORCH_LIBRARY_IMPL(d2ext, CUDA, library) {
  library.impl("ms_deform_attn", TORCH_BOX(&ms_deform_attn));
  library.impl("ms_deform_attn_backward", TORCH_BOX(&ms_deform_attn_backward));
}

}  // namespace
}  // namespace d2ext
