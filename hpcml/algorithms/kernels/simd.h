/* Vectors of W doubles. Sums run in 8 lanes whatever W is, and products are added by explicit fma:
   so every instruction set gives the same bits. */
#include <math.h>
#include <string.h>

#include "kernels.h"

#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 16")

#if W == 8
#include <immintrin.h>
typedef __m512d vec;
#elif W == 4
#include <immintrin.h>
typedef __m256d vec;
#else
#include <arm_neon.h>
typedef float64x2_t vec;
#endif
typedef int64_t ivec __attribute__((vector_size(8 * W)));

enum { LANES = 8, P = LANES / W };

#if W == 8
#define vset(x) _mm512_set1_pd(x)
#define vload(p) _mm512_loadu_pd(p)
#define vstore(p, v) _mm512_storeu_pd(p, v)
#define vfma(a, b, c) _mm512_fmadd_pd(a, b, c)
#define vload_single(p) _mm512_cvtps_pd(_mm256_loadu_ps(p))
typedef __mmask8 part;
INLINE part part_of(int64_t n) { return (part)((1u << n) - 1); }
INLINE vec vload_part(const double *p, part m) { return _mm512_maskz_loadu_pd(m, p); }
INLINE vec vload_single_part(const float *p, part m) {
    return _mm512_cvtps_pd(_mm256_maskz_loadu_ps(m, p));
}
#elif W == 4
#define vset(x) _mm256_set1_pd(x)
#define vload(p) _mm256_loadu_pd(p)
#define vstore(p, v) _mm256_storeu_pd(p, v)
#define vfma(a, b, c) _mm256_fmadd_pd(a, b, c)
#define vload_single(p) _mm256_cvtps_pd(_mm_loadu_ps(p))
static const int64_t FIRST[8] = {-1, -1, -1, -1, 0, 0, 0, 0};
typedef __m256i part;
INLINE part part_of(int64_t n) { return _mm256_loadu_si256((const __m256i *)(FIRST + 4 - n)); }
INLINE vec vload_part(const double *p, part m) { return _mm256_maskload_pd(p, m); }
INLINE vec vload_single_part(const float *p, part m) {
    __m128 halves = _mm_shuffle_ps(_mm_castsi128_ps(_mm256_castsi256_si128(m)),
                                   _mm_castsi128_ps(_mm256_extracti128_si256(m, 1)), 0x88);
    return _mm256_cvtps_pd(_mm_maskload_ps(p, _mm_castps_si128(halves)));
}
#else
#define vset(x) vdupq_n_f64(x)
#define vload(p) vld1q_f64(p)
#define vstore(p, v) vst1q_f64(p, v)
#define vfma(a, b, c) vfmaq_f64(c, a, b)
#define vload_single(p) vcvt_f64_f32(vld1_f32(p))
typedef int64_t part; /* entries, 0 to 2 */
INLINE part part_of(int64_t n) { return n; }
INLINE vec vload_part(const double *p, part n) {
    return n > 1 ? vload(p) : n ? vsetq_lane_f64(*p, vset(0.0), 0) : vset(0.0);
}
INLINE vec vload_single_part(const float *p, part n) {
    return n > 1 ? vload_single(p) : n ? vsetq_lane_f64((double)*p, vset(0.0), 0) : vset(0.0);
}
#endif

INLINE vec vpick(ivec mask, vec yes, vec no) {
#if W == 8
    return _mm512_mask_blend_pd(_mm512_movepi64_mask((__m512i)mask), no, yes);
#elif W == 4
    return _mm256_blendv_pd(no, yes, (vec)mask);
#else
    return (vec)((mask & (ivec)yes) | (~mask & (ivec)no));
#endif
}

INLINE ivec vset_bits(int64_t bits) { return (ivec){0} + bits; }

INLINE vec vabs(vec x) { return (vec)((ivec)x & INT64_MAX); }

/* The sum of 8 lanes, for each of 4 rows: lanes 4 apart first, then neighbours, then the two halves. */
INLINE void sum_lanes4(vec a[4][P], double *out) {
#if W == 2
    UNROLL for (int r = 0; r < 4; r++) {
        vec pair = vpaddq_f64(a[r][0] + a[r][2], a[r][1] + a[r][3]);
        out[r] = vaddvq_f64(pair);
    }
#else
    __m256d s[4];
    UNROLL for (int r = 0; r < 4; r++) {
#if W == 8
        s[r] = _mm512_castpd512_pd256(a[r][0]) + _mm512_extractf64x4_pd(a[r][0], 1);
#else
        s[r] = a[r][0] + a[r][1];
#endif
    }
    __m256d low = _mm256_hadd_pd(s[0], s[1]), high = _mm256_hadd_pd(s[2], s[3]);
    __m256d first = _mm256_blend_pd(low, high, 0xc), second = _mm256_permute2f128_pd(low, high, 0x21);
    _mm256_storeu_pd(out, first + second);
#endif
}

INLINE double sum_lanes(const vec a[P]) {
    double s[LANES];
    UNROLL for (int p = 0; p < P; p++) vstore(s + p * W, a[p]);
    double q[4];
    for (int i = 0; i < 4; i++) q[i] = s[i] + s[i + 4];
    return (q[0] + q[1]) + (q[2] + q[3]);
}
