/* Vectors of F floats, for products that only propose: what they say is checked in doubles. fequal gives a bit
   for each place, fleast the least number. */

enum { F = 2 * W };

#if W == 8
typedef __m512 fvec;
#define fset(x) _mm512_set1_ps(x)
#define fload(p) _mm512_loadu_ps(p)
#define fstore(p, v) _mm512_storeu_ps(p, v)
#define ffma(a, b, c) _mm512_fmadd_ps(a, b, c)
#define fmin_of(a, b) _mm512_min_ps(a, b)
#define vstore_single(p, v) _mm256_storeu_ps(p, _mm512_cvtpd_ps(v))
#define fequal(a, b) (unsigned)_mm512_cmp_ps_mask(a, b, _CMP_EQ_OQ)
INLINE float fleast(fvec v) { return _mm512_reduce_min_ps(v); }
#elif W == 4
typedef __m256 fvec;
#define fset(x) _mm256_set1_ps(x)
#define fload(p) _mm256_loadu_ps(p)
#define fstore(p, v) _mm256_storeu_ps(p, v)
#define ffma(a, b, c) _mm256_fmadd_ps(a, b, c)
#define fmin_of(a, b) _mm256_min_ps(a, b)
#define vstore_single(p, v) _mm_storeu_ps(p, _mm256_cvtpd_ps(v))
#define fequal(a, b) (unsigned)_mm256_movemask_ps(_mm256_cmp_ps(a, b, _CMP_EQ_OQ))
INLINE float fleast(fvec v) {
    __m128 four = _mm_min_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    __m128 two = _mm_min_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_min_ss(two, _mm_movehdup_ps(two)));
}
#else
typedef float32x4_t fvec;
#define fset(x) vdupq_n_f32(x)
#define fload(p) vld1q_f32(p)
#define fstore(p, v) vst1q_f32(p, v)
#define ffma(a, b, c) vfmaq_f32(c, a, b)
#define fmin_of(a, b) vminq_f32(a, b)
#define vstore_single(p, v) vst1_f32(p, vcvt_f32_f64(v))
INLINE unsigned fequal(fvec a, fvec b) {
    static const uint32_t bits[4] = {1, 2, 4, 8};
    return vaddvq_u32(vandq_u32(vceqq_f32(a, b), vld1q_u32(bits)));
}
INLINE float fleast(fvec v) { return vminvq_f32(v); }
#endif
