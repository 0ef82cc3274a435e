// The fused update of one tensor by a network per element, as handlers of XLA's foreign function interface.
//
// The tensor is a number of rows of `cols` contiguous elements. A value may vary along both, along rows alone, along
// columns alone, or not at all; only the first kind is computed per element. What depends on the rule is generated:
// the number type `T`, the sizes of the network, and functions that compute features and results of a few elements.

#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <thread>
#include <vector>

#if defined(__AVX__)
#include <immintrin.h>
#endif

#include "xla/ffi/api/c_api.h"

// Vectors as wide as the instruction set has them, and as many sums as its registers hold.
#if defined(__AVX512F__)
#define BYTES 64
#define UNITS 8
#elif defined(__AVX__)
#define BYTES 32
#define UNITS 4
#else
#define BYTES 16
#define UNITS 4
#endif
#if defined(__AVX__) || defined(__aarch64__)
#define VECTORS 3
#else
#define VECTORS 2
#endif

// glibc has vector forms of these; this is how its own headers announce them, which they do only with -ffast-math.
#if defined(__x86_64__) && defined(__GLIBC__) && defined(__GNUC__) && !defined(__clang__)
#define SIMD __attribute__((__simd__("notinbranch"), const, nothrow, leaf))
extern "C" {
SIMD float expf(float);
SIMD float logf(float);
SIMD float sinf(float);
SIMD float cosf(float);
SIMD double exp(double);
SIMD double log(double);
SIMD double sin(double);
SIMD double cos(double);
#if __GLIBC_PREREQ(2, 35)
SIMD float tanhf(float);
SIMD float expm1f(float);
SIMD float log1pf(float);
SIMD double tanh(double);
SIMD double expm1(double);
SIMD double log1p(double);
#endif
}
#endif

namespace {

// @constants

// The network sees so many elements at a time, and elementwise loops a few times more.
constexpr int LANES = VECTORS * BYTES / sizeof(T), BLOCK = 4 * LANES;

typedef T Vector __attribute__((vector_size(BYTES)));
typedef T Unaligned __attribute__((vector_size(BYTES), aligned(sizeof(T)), may_alias));
constexpr int WIDTH = BYTES / sizeof(T);

// Rectified, where what is not a number stays so.
static inline Vector rectified(Vector x) {
#if defined(__AVX512F__)
  if constexpr (sizeof(T) == 4) return (Vector)_mm512_max_ps((__m512)Vector{}, (__m512)x);
  else return (Vector)_mm512_max_pd((__m512d)Vector{}, (__m512d)x);
#elif defined(__AVX__)
  if constexpr (sizeof(T) == 4) return (Vector)_mm256_max_ps((__m256)Vector{}, (__m256)x);
  else return (Vector)_mm256_max_pd((__m256d)Vector{}, (__m256d)x);
#else
  return Vector{} > x ? Vector{} : x;
#endif
}

// One tile of a dense layer: Q units for LANES elements, whose sums stay in registers. IN and OUT are how far apart
// inputs and units are in memory.
template <int K, int H, int Q, bool HIDDEN, bool PANEL, int IN, int OUT>
static inline __attribute__((always_inline)) void tile(const T* in, const T* weight, const T* bias, const T* panel,
                                                       T* out, int j) {
  Vector sum[Q][VECTORS];
#pragma GCC unroll 8
  for (int q = 0; q < Q; q++)
#pragma GCC unroll 8
    for (int u = 0; u < VECTORS; u++) {
      sum[q][u] = bias[j + q] - Vector{};
      if (PANEL) sum[q][u] += *(const Unaligned*)(panel + (j + q) * LANES + u * WIDTH);
    }
#pragma GCC unroll 4
  for (int k = 0; k < K; k++) {
    Vector x[VECTORS];
#pragma GCC unroll 8
    for (int u = 0; u < VECTORS; u++) x[u] = *(const Vector*)(in + k * IN + u * WIDTH);
#pragma GCC unroll 8
    for (int q = 0; q < Q; q++) {
      const T w = weight[k * H + j + q];
#pragma GCC unroll 8
      for (int u = 0; u < VECTORS; u++) sum[q][u] += x[u] * w;
    }
  }
#pragma GCC unroll 8
  for (int q = 0; q < Q; q++)
#pragma GCC unroll 8
    for (int u = 0; u < VECTORS; u++)
      *(Vector*)(out + (j + q) * OUT + u * WIDTH) = HIDDEN ? rectified(sum[q][u]) : sum[q][u];
}

template <int K, int H, bool HIDDEN, bool PANEL, int IN, int OUT>
static inline void layer(const T* in, const T* weight, const T* bias, const T* panel, T* out) {
  int j = 0;
  for (; j + UNITS <= H; j += UNITS) tile<K, H, UNITS, HIDDEN, PANEL, IN, OUT>(in, weight, bias, panel, out, j);
  if constexpr (H % UNITS != 0) tile<K, H, H % UNITS, HIDDEN, PANEL, IN, OUT>(in, weight, bias, panel, out, j);
}

// What is read two blocks later is fetched while the network works.
static inline void fetch(const T* p) {
  for (int i = 2 * BLOCK; i < 3 * BLOCK; i += 64 / sizeof(T)) __builtin_prefetch(p + i);
}

// @functions

// Work in pieces on the threads of XLA. The caller works too, so that it never waits for a piece that has not begun.
template <typename F>
struct Job {
  explicit Job(int64_t count, F& work) : count(count), work(&work) {}
  std::atomic<int64_t> next{0}, done{0};
  const int64_t count;
  F* work;
  void help() {
    for (int64_t i; (i = next.fetch_add(1)) < count; done.fetch_add(1, std::memory_order_release)) (*work)(i);
  }
};

template <typename F>
void parallel(const XLA_FFI_CallFrame* frame, int64_t count, F work) {
  auto job = std::make_shared<Job<F>>(count, work);
  int64_t threads = 1;
  XLA_FFI_ThreadPool_NumThreads_Args size{XLA_FFI_ThreadPool_NumThreads_Args_STRUCT_SIZE, nullptr, frame->ctx,
                                          &threads};
  if (auto* error = frame->api->XLA_FFI_ThreadPool_NumThreads(&size)) {
    XLA_FFI_Error_Destroy_Args destroy{XLA_FFI_Error_Destroy_Args_STRUCT_SIZE, nullptr, error};
    frame->api->XLA_FFI_Error_Destroy(&destroy);
    threads = 1;
  }
  for (int64_t i = 1; i < std::min(threads, count); i++) {
    auto* helper = new std::shared_ptr<Job<F>>(job);
    XLA_FFI_Task* run = +[](void* data) {
      auto* own = static_cast<std::shared_ptr<Job<F>>*>(data);
      (*own)->help();
      delete own;
    };
    XLA_FFI_ThreadPool_Schedule_Args args{XLA_FFI_ThreadPool_Schedule_Args_STRUCT_SIZE, nullptr, frame->ctx, run,
                                          helper};
    if (auto* error = frame->api->XLA_FFI_ThreadPool_Schedule(&args)) {
      XLA_FFI_Error_Destroy_Args destroy{XLA_FFI_Error_Destroy_Args_STRUCT_SIZE, nullptr, error};
      frame->api->XLA_FFI_Error_Destroy(&destroy);
      delete helper;
      break;
    }
  }
  job->help();
  while (job->done.load(std::memory_order_acquire) < count) std::this_thread::yield();
}

// How the tensor lies in memory; sent along with each call.
struct Layout {
  int64_t axes, rows, cols;
  const int64_t *dims, *strides, *free;

  explicit Layout(const XLA_FFI_CallFrame* frame) {
    const auto* array = static_cast<const XLA_FFI_Array*>(frame->attrs.attrs[0]);
    const auto* data = static_cast<const int64_t*>(array->data);
    axes = data[0], cols = data[1], dims = data + 2, strides = dims + axes, free = strides + axes * LEAVES;
    rows = 1;
    for (int64_t a = 0; a < axes; a++) rows *= dims[a];
  }
  // Where a row begins in each leaf.
  void begin(int64_t row, int64_t* at) const {
    for (int l = 0; l < LEAVES; l++) at[l] = 0;
    for (int64_t a = axes - 1; a >= 0; a--) {
      const int64_t i = row % dims[a];
      row /= dims[a];
      for (int l = 0; l < LEAVES; l++) at[l] += i * strides[a * LEAVES + l];
    }
  }
};

const T* argument(const XLA_FFI_CallFrame* frame, int i) {
  return static_cast<const T*>(static_cast<const XLA_FFI_Buffer*>(frame->args.args[i])->data);
}
T* result(const XLA_FFI_CallFrame* frame, int i) {
  return static_cast<T*>(static_cast<const XLA_FFI_Buffer*>(frame->rets.rets[i])->data);
}

// Pieces of about `size` elements: some whole rows, or part of one.
struct Pieces {
  int64_t rows, cols, height, width, across, count;
  Pieces(const Layout& layout, int64_t size) : rows(layout.rows), cols(layout.cols) {
    width = cols <= 2 * size ? cols : (size / BLOCK) * BLOCK;
    height = std::max<int64_t>(1, size / std::max<int64_t>(width, 1));
    across = (cols + width - 1) / width;
    count = across * ((rows + height - 1) / height);
  }
  template <typename F>
  void visit(int64_t i, F f) const {
    const int64_t first = (i / across) * height, col = (i % across) * width;
    for (int64_t row = first; row < std::min(rows, first + height); row++) f(row, col, std::min(cols, col + width));
  }
};

struct Columns {  // what varies along columns alone, computed once
  std::vector<T> values;
  int64_t stride;
  Columns(const XLA_FFI_CallFrame* frame, const Layout& layout, const T* const* in, const T* scalars)
      : stride(layout.cols + BLOCK) {
    if (COLUMN_VALUES == 0) return;
    values.assign(COLUMN_VALUES * stride, T(0));
    parallel(frame, (layout.cols + 4095) / 4096, [&](int64_t i) {
      columns(in, layout.free, scalars, i * 4096, std::min(layout.cols, (i + 1) * 4096), values.data(), stride);
    });
  }
};

XLA_FFI_Error* mean_squares(const XLA_FFI_CallFrame* frame) {
  const Layout layout(frame);
  const T* in[LEAVES];
  for (int l = 0; l < LEAVES; l++) in[l] = argument(frame, l);
  T scalars[SCALAR_VALUES + 1];
  once(in, layout.free, scalars);
  const Columns table(frame, layout, in, scalars);
  const Pieces pieces(layout, 16384);
  std::vector<double> totals(pieces.count * FEATURES, 0.0);
  parallel(frame, pieces.count, [&](int64_t i) {
    double* total = totals.data() + i * FEATURES;
    alignas(64) T sums[FULL_SQUARES_COUNT + 1][LANES] = {};
    pieces.visit(i, [&](int64_t row, int64_t col, int64_t end) {
      int64_t at[LEAVES];
      T rows[ROW_VALUES + 1];
      std::array<const T*, POINTERS + 1> starts;
      const T* const* p = starts.data();
      layout.begin(row, at);
      pointers(in, at, layout.free, starts.data());
      each_row(in, at, layout.free, scalars, rows);
      if (col == 0) row_squares(scalars, rows, total);
      if (row == 0) column_squares(table.values.data(), table.stride, col, end, total);
      for (; col + LANES <= end; col += LANES)
        squares<true>(p, scalars, rows, table.values.data(), table.stride, col, LANES, sums);
      if (col < end) squares<false>(p, scalars, rows, table.values.data(), table.stride, col, int(end - col), sums);
    });
    for (int k = 0; k < FULL_SQUARES_COUNT; k++)
      for (int l = 0; l < LANES; l++) total[FULL_SQUARES[k]] += sums[k][l];
  });
  T* out = result(frame, 0);
  const double counts[4] = {1.0, double(layout.rows), double(layout.cols), double(layout.rows) * layout.cols};
  for (int k = 0; k < FEATURES; k++) {
    double total = 0;
    for (int64_t i = 0; i < pieces.count; i++) total += totals[i * FEATURES + k];
    out[k] = T(total / counts[KINDS[k]]);
  }
  scalar_squares(scalars, out);
  return nullptr;
}

XLA_FFI_Error* update(const XLA_FFI_CallFrame* frame) {
  const Layout layout(frame);
  const T* in[LEAVES];
  T* out[RESULTS];
  for (int l = 0; l < LEAVES; l++) in[l] = argument(frame, l);
  for (int l = 0; l < RESULTS; l++) out[l] = result(frame, l);
  const T *means = argument(frame, LEAVES), *context = argument(frame, LEAVES + 1);
  T scalars[SCALAR_VALUES + 1];
  once(in, layout.free, scalars);
  const Columns table(frame, layout, in, scalars);

  // The first layer takes the scales of features into its weights, and into its bias all that is the same everywhere.
  constexpr int H = SIZES[1];
  const T *first = argument(frame, LEAVES + 2), *first_bias = argument(frame, LEAVES + 3);
  std::vector<T> scaled(FEATURES * H);
  alignas(64) T weight[(FULL + 1) * H], bias[H];
  for (int k = 0; k < FEATURES; k++)
    for (int j = 0; j < H; j++) scaled[k * H + j] = first[j * SIZES[0] + k] / std::sqrt(means[k] + T(EPSILON));
  for (int k = 0; k < FULL; k++)
    for (int j = 0; j < H; j++) weight[k * H + j] = scaled[FULL_FEATURES[k] * H + j];
  for (int j = 0; j < H; j++) {
    bias[j] = first_bias[j];
    for (int k = FEATURES; k < SIZES[0]; k++) bias[j] += first[j * SIZES[0] + k] * context[k - FEATURES];
  }
  add_scalars(scalars, scaled.data(), bias);
  std::vector<T> panel;  // what columns contribute, with the units of each LANES columns side by side
  if (COLUMN_FEATURES > 0) {
    const int64_t stretches = (layout.cols + BLOCK - 1) / BLOCK * (BLOCK / LANES);
    panel.assign(stretches * H * LANES, T(0));
    parallel(frame, (stretches + 31) / 32, [&](int64_t i) {
      for (int64_t k = 32 * i; k < std::min(stretches, 32 * (i + 1)); k++)
        add_columns(table.values.data() + k * LANES, table.stride, scaled.data(), panel.data() + k * H * LANES);
    });
  }
  // Further layers: weights by input, so that those of a tile are neighbors.
  constexpr int LAYERS = sizeof(SIZES) / sizeof(int) - 1;
  std::vector<T> others[LAYERS];
  const T* biases[LAYERS];
  for (int l = 1; l < LAYERS; l++) {
    const T* w = argument(frame, LEAVES + 2 + 2 * l);
    biases[l] = argument(frame, LEAVES + 3 + 2 * l);
    others[l].resize(SIZES[l] * SIZES[l + 1]);
    for (int j = 0; j < SIZES[l + 1]; j++)
      for (int k = 0; k < SIZES[l]; k++) others[l][k * SIZES[l + 1] + j] = w[j * SIZES[l] + k];
  }

  const Pieces pieces(layout, 8192);
  parallel(frame, pieces.count, [&](int64_t i) {
    alignas(64) T f[FULL + 1][BLOCK] = {}, y[SIZES[LAYERS]][BLOCK], hidden[2][WIDEST][LANES];
    pieces.visit(i, [&](int64_t row, int64_t col, int64_t end) {
      int64_t at[LEAVES];
      T rows[ROW_VALUES + 1], row_bias[H];
      std::array<const T*, POINTERS + 1> starts;
      layout.begin(row, at);
      each_row(in, at, layout.free, scalars, rows);
      std::memcpy(row_bias, bias, sizeof bias);
      add_rows(rows, scaled.data(), row_bias);
      const T* const* p = starts.data();
      pointers(in, at, layout.free, starts.data());
      for (; col < end; col += BLOCK) {
        const int n = int(std::min<int64_t>(BLOCK, end - col));
        const T* c = table.values.data();
        if (n == BLOCK) features<true>(p, scalars, rows, c, table.stride, col, n, f);
        else features<false>(p, scalars, rows, c, table.stride, col, n, f);
        for (int i = 0; i < n; i += LANES)
          network(f[0] + i, weight, row_bias, panel.data() + (col + i) * H, others, biases, hidden, y[0] + i);
        if (n == BLOCK) finish<true>(p, scalars, rows, c, table.stride, col, n, y, out, at[0], layout.free[0]);
        else finish<false>(p, scalars, rows, c, table.stride, col, n, y, out, at[0], layout.free[0]);
      }
    });
  });
  return nullptr;
}

template <XLA_FFI_Error* (*KERNEL)(const XLA_FFI_CallFrame*)>
XLA_FFI_Error* handle(XLA_FFI_CallFrame* frame) {
  for (auto* extension = frame->extension_start; extension; extension = extension->next)
    if (extension->type == XLA_FFI_Extension_Metadata) {
      auto* metadata = reinterpret_cast<XLA_FFI_Metadata_Extension*>(extension)->metadata;
      metadata->api_version.major_version = XLA_FFI_API_MAJOR;
      metadata->api_version.minor_version = XLA_FFI_API_MINOR;
      metadata->traits = 0;
      return nullptr;
    }
  return frame->stage == XLA_FFI_ExecutionStage_EXECUTE ? KERNEL(frame) : nullptr;
}

}  // namespace

extern "C" XLA_FFI_Error* metaopt_mean_squares(XLA_FFI_CallFrame* frame) { return handle<mean_squares>(frame); }
extern "C" XLA_FFI_Error* metaopt_update(XLA_FFI_CallFrame* frame) { return handle<update>(frame); }
