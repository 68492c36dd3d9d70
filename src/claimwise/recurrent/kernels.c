/* Recurrent steps as machine code, for float and double. compiled_step.py compiles this file with the machine's C
   compiler, for the processor at hand: the vectors are as wide as its registers. */

#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#if defined(__AVX512F__)
#define VECTOR_BYTES 64
#elif defined(__AVX__)
#define VECTOR_BYTES 32
#else
#define VECTOR_BYTES 16
#endif

#define JOIN2(a, b) a##b
#define JOIN(a, b) JOIN2(a, b)
#define INLINE static inline __attribute__((always_inline))

#define REAL float
#define NAME(name) JOIN(name, _float)
#define WORD int32_t
#define MANTISSA 23
#define BIAS 127
#define LOWEST -87.0f
#define HIGHEST 88.0f
#define MAGIC 12582912.0f            /* 1.5 * 2^23: adding it rounds to the nearest integer */
#include "pointwise.h"
#include "product.h"
#include "lstm_sweep.h"
#undef REAL
#undef NAME
#undef WORD
#undef MANTISSA
#undef BIAS
#undef LOWEST
#undef HIGHEST
#undef MAGIC

#define REAL double
#define NAME(name) JOIN(name, _double)
#define WORD int64_t
#define MANTISSA 52
#define BIAS 1023
#define LOWEST -708.0
#define HIGHEST 709.0
#define MAGIC 6755399441055744.0     /* 1.5 * 2^52 */
#define DOUBLE
#include "pointwise.h"
#include "product.h"
#include "lstm_sweep.h"
