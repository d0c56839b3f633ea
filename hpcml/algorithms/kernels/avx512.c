/* The kernels for x86-64 with AVX512, whatever the flags of the build are. */
#if defined(__x86_64__)
#ifdef __clang__
#pragma clang attribute push(__attribute__((target("avx512f,avx512dq,avx512vl,avx512bw,avx2,fma"))), apply_to = function)
#else
#pragma GCC target("avx512f,avx512dq,avx512vl,avx512bw,avx2,fma")
#endif

#define W 8
#define NAME "avx512"
#define TABLE hpcml_avx512
#include "sums.h"

#ifdef __clang__
#pragma clang attribute pop
#endif
#else
typedef int nothing_for_this_machine;
#endif
