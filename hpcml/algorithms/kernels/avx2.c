/* The kernels for x86-64 with AVX2 and FMA, whatever the flags of the build are. */
#if defined(__x86_64__)
#ifdef __clang__
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC target("avx2,fma")
#endif

#define W 4
#define NAME "avx2"
#define TABLE hpcml_avx2
#include "sums.h"

#ifdef __clang__
#pragma clang attribute pop
#endif
#else
typedef int nothing_for_this_machine;
#endif
