/* exp and log1p as polynomials, below 2 ulp; Chebyshev interpolation at 60 digits gave the coefficients. */

/* The polynomial of 10 coefficients, lowest first, at x: as a tree, which waits less than a chain. */
INLINE vec polynomial(vec x, const double c[10][8]) {
    vec x2 = x * x, x4 = x2 * x2, pair[5];
    UNROLL for (int i = 0; i < 5; i++) pair[i] = vfma(vload(c[2 * i + 1]), x, vload(c[2 * i]));
    vec low = vfma(pair[1], x2, pair[0]), high = vfma(pair[3], x2, pair[2]);
    return vfma(vfma(pair[4], x4, high), x4, low);
}

#define ALL(c) {c, c, c, c, c, c, c, c}
#define POLYNOMIAL(name, a, b, c, d, e, f, g, h, i, j)                                                  \
    INLINE vec name(vec x) {                                                                            \
        static const double table[10][8] = {ALL(a), ALL(b), ALL(c), ALL(d), ALL(e),                     \
                                            ALL(f), ALL(g), ALL(h), ALL(i), ALL(j)};                    \
        return polynomial(x, table);                                                                    \
    }

/* (exp(r) - 1 - r) / r^2 on |r| <= log(2) / 2 */
POLYNOMIAL(exp_rest, 0.5, 0x1.5555555555556p-3, 0x1.5555555553d37p-5, 0x1.11111111109a6p-7,
           0x1.6c16c1789d1d7p-10, 0x1.a01a01a7cebcdp-13, 0x1.a019b8ca26fcfp-16, 0x1.71de0d85293b8p-19,
           0x1.2891d4ffbb0f9p-22, 0x1.af390ba7e6f47p-26)

/* (atanh(s) / s - 1) / t for t = s^2 in [0, 1/9] */
POLYNOMIAL(atanh_rest, 0x1.5555555555555p-2, 0x1.999999999a3ddp-3, 0x1.24924923d44c6p-3,
           0x1.c71c727143318p-4, 0x1.745cf0b0e03bdp-4, 0x1.3b18b294bebf9p-4, 0x1.10ac75dc602b1p-4,
           0x1.eb905e8575054p-5, 0x1.687a6e7c95176p-5, 0x1.4b0a26c5f2aefp-4)

/* 0 where exp(x) is below 2^-1021, as if nothing lay beneath; infinity where it is too large; NaN for NaN. */
INLINE vec vexp_as(vec x, int is_negative) {
    const vec magic = vset(0x1.8p52); /* adding it rounds to an integer, in the low bits */
    vec t = vfma(x, vset(0x1.71547652b82fep+0), magic);
    vec k = t - magic;
    vec r = vfma(k, vset(-0x1.62e42fefa39efp-1), x);
    r = vfma(k, vset(-0x1.abc9e3b39803fp-56), r);
    vec e = vfma(r * r, exp_rest(r), r) + 1.0;
    e *= (vec)(((ivec)t << 52) + (is_negative ? 0x3ff0000000000000 : 0x3fe0000000000000)); /* 2^k, 2^(k - 1) */
    e = (vec)((ivec)e & ~(x < vset(-707.7)));
    return is_negative ? e : vpick(x > vset(0x1.62e42fefa39efp+9), vset(INFINITY), e * 2.0);
}

INLINE vec vexp(vec x) { return vexp_as(x, 0); }
