/* Products with CSR rows: scalars in 4 lanes by entry, columns added in the order of rows. */

INLINE int64_t pointer(const struct rows *X, int64_t row) {
    return X->is_wide ? ((const int64_t *)X->indptr)[row] : ((const int32_t *)X->indptr)[row];
}

INLINE double entry(const struct rows *X, int64_t k, int is_single) {
    return is_single ? ((const float *)X->x)[k] : ((const double *)X->x)[k];
}

INLINE double sparse_dot(const struct rows *X, int64_t row, const double *w, int is_single) {
    int64_t k = pointer(X, row), stop = pointer(X, row + 1);
    double s[4] = {0.0, 0.0, 0.0, 0.0};
    for (; k + 4 <= stop; k += 4)
        UNROLL for (int l = 0; l < 4; l++)
            s[l] = __builtin_fma(entry(X, k + l, is_single), w[X->indices[k + l]], s[l]);
    for (int l = 0; k < stop; k++, l++) s[l] = __builtin_fma(entry(X, k, is_single), w[X->indices[k]], s[l]);
    return (s[0] + s[1]) + (s[2] + s[3]);
}

INLINE void sparse_add(const struct rows *X, int64_t row, double r, double *g, int is_single) {
    for (int64_t k = pointer(X, row), stop = pointer(X, row + 1); k < stop; k++)
        g[X->indices[k]] = __builtin_fma(entry(X, k, is_single), r, g[X->indices[k]]);
}

INLINE void sparse_chunk_as(const struct rows *X, const struct model *m, int64_t row, int n, struct chunk *c,
                            double *g, struct lanes *sums, int is_single) {
    for (int i = 0; i < n; i++) c->z[i] = sparse_dot(X, row + i, m->coef, is_single);
    gather_rows(m, row, n, c);
    c->ahead = (struct ahead){X->x, 0};
    link(&m->loss, c, (n + LANES - 1) & ~(LANES - 1), sums);
    for (int i = 0; i < n; i++) sparse_add(X, row + i, c->r[i], g, is_single);
}

static void sparse_chunk(const struct rows *X, const struct model *m, int64_t row, int n, struct chunk *c,
                         double *g, struct lanes *sums) {
    if (X->is_single)
        sparse_chunk_as(X, m, row, n, c, g, sums, 1);
    else
        sparse_chunk_as(X, m, row, n, c, g, sums, 0);
}

/* The Hessian of n columns of CSR rows, and a row's entries in them. */
struct triangle {
    int64_t n;
    const int32_t *place; /* of each column of X, -1 where it has none; NULL where all have their own */
    int32_t *at;
    double *x, *H; /* (n + 1, n + 1): the last column is that of the ones */
};

static int64_t picked_entries(const struct rows *X, int64_t row, const struct triangle *T) {
    int64_t n = 0;
    for (int64_t k = pointer(X, row), stop = pointer(X, row + 1); k < stop; k++) {
        int32_t at = T->place ? T->place[X->indices[k]] : X->indices[k];
        T->at[n] = at;
        T->x[n] = entry(X, k, X->is_single);
        n += at >= 0;
    }
    return n;
}

/* h x_j x_k lies at H[j (n + 1) + k] for j <= k. */
static void sparse_gram(const struct rows *X, int64_t row, int n, const double *h, const struct triangle *T) {
    int64_t d = T->n, width = d + 1;
    for (int i = 0; i < n; i++) {
        int64_t stop = picked_entries(X, row + i, T);
        for (int64_t k = 0; k < stop; k++) {
            double hx = h[i] * T->x[k];
            double *to = T->H + T->at[k] * width;
            for (int64_t l = k; l < stop; l++) to[T->at[l]] = __builtin_fma(hx, T->x[l], to[T->at[l]]);
            to[d] += hx;
        }
        T->H[d * width + d] += h[i];
    }
}
