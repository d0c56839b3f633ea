/* exp and log1p as polynomials, below 2 ulp; Chebyshev interpolation at 60 digits gave the coefficients. */

/* The polynomial with N coefficients c, lowest first, at x. */
#define POLYNOMIAL(name, N, ...)                                       \
    INLINE vec name(vec x) {                                           \
        static const double c[N] = {__VA_ARGS__};                      \
        vec s = vset(c[N - 1]);                                        \
        UNROLL for (int i = N - 2; i >= 0; i--) s = vfma(s, x, vset(c[i])); \
        return s;                                                      \
    }

/* (exp(r) - 1 - r) / r^2 on |r| <= log(2) / 2 */
POLYNOMIAL(exp_rest, 10, 0.5, 0x1.5555555555556p-3, 0x1.5555555553d37p-5, 0x1.11111111109a6p-7,
           0x1.6c16c1789d1d7p-10, 0x1.a01a01a7cebcdp-13, 0x1.a019b8ca26fcfp-16, 0x1.71de0d85293b8p-19,
           0x1.2891d4ffbb0f9p-22, 0x1.af390ba7e6f47p-26)

/* (atanh(s) / s - 1) / t for t = s^2 in [0, 1/9] */
POLYNOMIAL(atanh_rest, 10, 0x1.5555555555555p-2, 0x1.999999999a3ddp-3, 0x1.24924923d44c6p-3,
           0x1.c71c727143318p-4, 0x1.745cf0b0e03bdp-4, 0x1.3b18b294bebf9p-4, 0x1.10ac75dc602b1p-4,
           0x1.eb905e8575054p-5, 0x1.687a6e7c95176p-5, 0x1.4b0a26c5f2aefp-4)

/* 0 where exp(x) is below 2^-1021, as if it were 2^-1022; infinity where it is too large; NaN for NaN. */
INLINE vec vexp(vec x) {
    const vec magic = vset(0x1.8p52); /* adding it rounds to an integer, in the low bits */
    vec t = vfma(x, vset(0x1.71547652b82fep+0), magic);
    vec k = t - magic;
    vec r = vfma(-k, vset(0x1.62e42fefa39efp-1), x);
    r = vfma(-k, vset(0x1.abc9e3b39803fp-56), r);
    vec e = vfma(r * r, exp_rest(r), r) + 1.0;
    vec half = (vec)(((ivec)t << 52) + 0x3fe0000000000000); /* 2^(k - 1) */
    e = e * half * 2.0;
    e = vpick(x < vset(-707.7), vset(0.0), e);
    return vpick(x > vset(0x1.62e42fefa39efp+9), vset(INFINITY), e);
}
