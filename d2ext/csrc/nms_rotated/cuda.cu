// Non-maximum suppression of rotated boxes on CUDA without a round trip to the host. Boxes are
// taken by rank: a chunk of them is compared with all that follow, one bit per pair; then one block
// decides box by box within the chunk, and all blocks drop what its kept boxes drop behind it. Boxes
// that earlier chunks dropped are not compared again. The host synchronises once, to learn the final
// size.

#include <algorithm>
#include <optional>

#include "../box_iou_rotated/geometry.h"
#include "../cuda.h"
#include "problem.h"

namespace d2ext {
namespace {

using torch::headeronly::ScalarType;
using Word = unsigned long long;  // a bit for each of 64 ranks

constexpr int kBits = 64;
constexpr int64_t kTableBytes = 64 << 20;  // bits of a chunk
constexpr int kShares = 8;  // of 64 rows: reads that wait at the same time, not one after another
constexpr int kColumns = 128;  // words that the block that decides drops at a time
constexpr int kDropRows = 512;  // that a block drops by, behind the chunk; a multiple of kBits

template <typename T>
struct Ranked {
  int64_t count, words;  // boxes, and words for a bit each
  const T* boxes;
  const int64_t* order;  // index by rank
  const int64_t* groups;  // by index, or null: all boxes are in one
  T threshold;

  __device__ RotatedBox<T> box(int64_t rank) const { return read_box<T>(boxes + 5 * order[rank]); }
  __device__ int64_t group(int64_t rank) const { return groups ? groups[order[rank]] : 0; }
};

// table[row][word]: which later boxes of that word the row's box drops, should it stay. A block is
// 64 rows by one word. Rows that are dropped already are left out, and never read.
template <typename T>
__global__ void compare_kernel(
    Ranked<T> ranked, int64_t first_row, const Word* dropped, Word* table) {
  __shared__ RotatedBox<T> boxes[kBits];
  __shared__ int64_t groups[kBits];
  const int64_t first_word = first_row / kBits;
  const int64_t row_word = first_word + blockIdx.y, word = first_word + blockIdx.x;
  if (word < row_word) return;
  const int64_t start = word * kBits;
  const int width = int(min(int64_t(kBits), ranked.count - start));
  if (threadIdx.x < width) {
    boxes[threadIdx.x] = ranked.box(start + threadIdx.x);
    groups[threadIdx.x] = ranked.group(start + threadIdx.x);
  }
  __syncthreads();
  const int64_t row = row_word * kBits + threadIdx.x;
  if (row >= ranked.count || dropped[row_word] >> threadIdx.x & 1) return;
  const RotatedBox<T> box = ranked.box(row);
  const Direction<T> axes = direction_of(box.angle);
  const int64_t group = ranked.group(row);
  Word bits = 0;
  for (int i = 0; i < width; ++i) {
    if (start + i <= row || groups[i] != group) continue;
    if (iou_of(box, axes, boxes[i]) > ranked.threshold) bits |= Word(1) << i;
  }
  table[(row - first_row) * ranked.words + word] = bits;
}

// What one share of a word's 64 rows drops of another word, by those that are kept. The rows of boxes
// that earlier chunks dropped were not written, and are not read.
__device__ inline Word drops_of(const Word* rows, int64_t words, Word kept, int share) {
  constexpr int kRows = kBits / kShares;
  Word parts[kRows];
#pragma unroll
  for (int i = 0; i < kRows; ++i) {  // no read depends on another one
    const int row = share * kRows + i;
    parts[i] = kept >> row & 1 ? rows[row * words] : 0;
  }
  Word gone = 0;
#pragma unroll
  for (int i = 0; i < kRows; ++i) gone |= parts[i];
  return gone;
}

// Decides on the 64 boxes of a word, from what each drops within it; returns which are kept.
__device__ inline Word decide(const Word* drops, int width, Word gone) {
  Word kept = 0;
  for (int i = 0; i < width; ++i) {
    const Word stays = ~(gone >> i) & 1;
    kept |= stays << i;
    gone |= stays ? drops[i] : 0;
  }
  return kept;
}

// One block goes through the chunk's words: a thread decides on 64 boxes, all drop what follows in
// the chunk. In the end `dropped` is the complement of what the chunk keeps.
__global__ void __launch_bounds__(kShares* kColumns) decide_kernel(
    int64_t count, int64_t words, int64_t first_row, int64_t last_row, const Word* table,
    Word* dropped, bool* stays) {
  __shared__ Word drops[kBits];  // within the word
  __shared__ Word kept;
  __shared__ Word parts[kShares][kColumns];
  const int share = threadIdx.x / kColumns, column = threadIdx.x % kColumns;
  const int64_t end_word = (last_row + kBits - 1) / kBits;
  for (int64_t start = first_row; start < last_row; start += kBits) {
    const int64_t word = start / kBits;
    const Word* rows = table + (start - first_row) * words;
    const int width = int(min(int64_t(kBits), count - start));
    for (int i = threadIdx.x; i < width; i += blockDim.x) {
      const bool is_dropped = dropped[word] >> i & 1;
      drops[i] = is_dropped ? 0 : rows[i * words + word];
    }
    __syncthreads();
    if (threadIdx.x == 0) kept = decide(drops, width, dropped[word]);
    __syncthreads();
    for (int i = threadIdx.x; i < width; i += blockDim.x) stays[start + i] = kept >> i & 1;
    if (threadIdx.x == 0) dropped[word] = ~kept;
    for (int64_t first = word + 1; first < end_word; first += kColumns) {
      const int64_t other = first + column;
      parts[share][column] = other < end_word ? drops_of(rows + other, words, kept, share) : 0;
      __syncthreads();
      if (share == 0 && other < end_word) {
        Word gone = dropped[other];
        for (int i = 0; i < kShares; ++i) gone |= parts[i][column];
        dropped[other] = gone;
      }
      __syncthreads();
    }
  }
}

// Drops behind the chunk what its kept boxes drop. A block is kDropRows rows by kWarp words.
__global__ void __launch_bounds__(kShares* kWarp) drop_kernel(
    int64_t words, int64_t first_row, int64_t last_row, const Word* table, Word* dropped) {
  __shared__ Word parts[kShares][kWarp];
  const int share = threadIdx.x / kWarp, column = threadIdx.x % kWarp;
  const int64_t end_word = last_row / kBits;  // a chunk that others follow is whole words
  const int64_t other = end_word + int64_t(blockIdx.x) * kWarp + column;
  const int64_t begin = first_row + int64_t(blockIdx.y) * kDropRows;
  const int64_t end = min(begin + kDropRows, last_row);
  Word gone = 0;
  for (int64_t start = begin; start < end && other < words; start += kBits) {
    const Word* rows = table + (start - first_row) * words + other;
    gone |= drops_of(rows, words, ~dropped[start / kBits], share);
  }
  parts[share][column] = gone;
  __syncthreads();
  if (share != 0 || other >= words) return;
  for (int i = 1; i < kShares; ++i) gone |= parts[i][column];
  if (gone) atomicOr(dropped + other, gone);
}

unsigned blocks_of(int64_t count, int64_t size) { return unsigned((count + size - 1) / size); }

// ranks -> whether the box stays
template <typename T>
void launch(const Ranked<T>& ranked, const Tensor& boxes, const Tensor& stays) {
  const OnDevice device(boxes);
  const int64_t words = ranked.words;
  const int64_t fitting = kTableBytes / int64_t(sizeof(Word)) / words / kBits * kBits;
  const int64_t rows = std::clamp<int64_t>(fitting, kBits, words * kBits);
  const Tensor dropped = torch::stable::new_zeros(boxes, {words}, ScalarType::Long);
  const Tensor table = torch::stable::new_empty(boxes, {rows * words}, ScalarType::Long);
  Word* dropped_bits = reinterpret_cast<Word*>(dropped.mutable_data_ptr<int64_t>());
  Word* table_bits = reinterpret_cast<Word*>(table.mutable_data_ptr<int64_t>());
  for (int64_t first = 0; first < ranked.count; first += rows) {
    const int64_t last = std::min(first + rows, ranked.count);
    const dim3 grid(unsigned(words - first / kBits), blocks_of(last - first, kBits));
    compare_kernel<T><<<grid, kBits, 0, device.stream()>>>(ranked, first, dropped_bits, table_bits);
    check_launch();
    decide_kernel<<<1, kShares * kColumns, 0, device.stream()>>>(
        ranked.count, words, first, last, table_bits, dropped_bits,
        stays.mutable_data_ptr<bool>());
    check_launch();
    if (last == ranked.count) continue;
    const dim3 rest(blocks_of(words - last / kBits, kWarp), blocks_of(last - first, kDropRows));
    drop_kernel<<<rest, kShares * kWarp, 0, device.stream()>>>(
        words, first, last, table_bits, dropped_bits);
    check_launch();
  }
}

template <typename T>
Tensor kept_of(
    const Tensor& boxes, const Tensor& scores, const std::optional<Tensor>& groups,
    double threshold) {
  const Tensor order = ranked(scores);
  const int64_t count = boxes.size(0);
  if (count == 0) return order;
  const Tensor rows = torch::stable::contiguous(torch::stable::to(boxes, kScalarType<T>));
  const Tensor stays = torch::stable::new_empty(order, {count}, ScalarType::Bool);
  std::optional<Tensor> numbers;
  if (groups) numbers = torch::stable::contiguous(torch::stable::to(*groups, ScalarType::Long));
  const Ranked<T> problem{
      count,
      (count + kBits - 1) / kBits,
      rows.template const_data_ptr<T>(),
      order.const_data_ptr<int64_t>(),
      numbers ? numbers->const_data_ptr<int64_t>() : nullptr,
      T(threshold)};
  launch(problem, rows, stays);
  return masked_select(order, stays);
}

Tensor nms_rotated(
    const Tensor& boxes, const Tensor& scores, const std::optional<Tensor>& groups,
    double iou_threshold) {
  check_candidates(boxes, scores, groups, iou_threshold);
  if (boxes.scalar_type() == ScalarType::Double) {
    return kept_of<double>(boxes, scores, groups, iou_threshold);
  }
  return kept_of<float>(boxes, scores, groups, iou_threshold);
}

STABLE_TORCH_LIBRARY_IMPL(d2ext, CUDA, library) {
  library.impl("nms_rotated", TORCH_BOX(&nms_rotated));
}

}  // namespace
}  // namespace d2ext
