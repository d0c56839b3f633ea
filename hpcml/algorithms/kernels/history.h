/* The product of L-BFGS's inverse Hessian with a vector, by the two-loop recursion (Nocedal and Wright 2006,
   algorithm 7.4). Dot products run in 8 lanes, so every instruction set gives the same bits. */

INLINE double dot_whole(const double *a, const double *b, int64_t n) {
    vec sums[P];
    UNROLL for (int p = 0; p < P; p++) sums[p] = vset(0.0);
    int64_t i = 0;
    for (; i + LANES <= n; i += LANES)
        UNROLL for (int p = 0; p < P; p++) sums[p] = vfma(vload(a + i + p * W), vload(b + i + p * W), sums[p]);
    double rest = 0.0;
    for (; i < n; i++) rest += a[i] * b[i];
    return sum_lanes(sums) + rest;
}

INLINE void add_multiple(double *to, double t, const double *x, int64_t n) {
    for (int64_t i = 0; i < n; i++) to[i] += t * x[i];
}

/* q holds the gradient g and is left as H g; a has room for m numbers. */
static void inverse_product(const struct history *h, double *a, double *q) {
    int64_t n = h->n;
    for (int64_t i = h->m - 1; i >= 0; i--) {
        const double *s = h->moves + i * n, *y = h->changes + i * n;
        a[i] = dot_whole(s, q, n) / dot_whole(s, y, n);
        add_multiple(q, -a[i], y, n);
    }
    if (h->m) {
        const double *s = h->moves + (h->m - 1) * n, *y = h->changes + (h->m - 1) * n;
        double scale = dot_whole(s, y, n) / dot_whole(y, y, n);
        for (int64_t i = 0; i < n; i++) q[i] *= scale;
    }
    for (int64_t i = 0; i < h->m; i++) {
        const double *s = h->moves + i * n, *y = h->changes + i * n;
        add_multiple(q, a[i] - dot_whole(y, q, n) / dot_whole(s, y, n), s, n);
    }
}
