/* Distances of rows to centres in double precision, and from below in single precision.

   The low of a row x and a centre c is rigorously at most (|x - c|^2 - |x|^2) / 2, about the middle of the centres
   and scaled: two columns more hold what its rounding may add (centers.py). */

#include "singles.h"

enum { PLACES = 16, VECTORS = PLACES / F, MICRO = W == 8 ? 14 : 6, DEPTH = 128, MOST_ROWS = 240 };

/* What one call works with; a slot is a row of the tile that some groups of centres are looked at for. */
struct search {
    const struct rows *X;
    const struct centers *C;
    const struct found *found;
    int64_t whole, most_rows, x_width, places, groups, row_bytes;
    part m[P];
    float error;              /* of dense rows, chain_error */
    double slack;             /* relative error of a distance in double precision, many times */
    double *squares;          /* CSR: |c|^2 of each centre and the digits it lacks */
    int32_t *labels;          /* of the rows of the tile */
    double *distances, *size; /* of the rows; of the slots |x|^2 */
    int *row;                 /* of the slots */
    uint64_t *wanted;         /* of the slots, a bit for each group */
    float *x, *lows;          /* of the slots */
    float *least, *floor;     /* of the slots, for each group, in whole vectors */
    float *ways;              /* of the groups */
};

INLINE void add_away(const char *x, const double *c, int64_t j, vec sum[P], const part *m, int is_single) {
    UNROLL for (int p = 0; p < P; p++) {
        int64_t at = j + p * W;
        vec away = (m ? row_part(x, at, m[p], is_single) : row_load(x, at, is_single)) - vload(c + at);
        sum[p] = vfma(away, away, sum[p]);
    }
}

INLINE double dense_distance(const struct search *s, const char *x, const double *c, int is_single) {
    vec sum[P];
    int64_t j = 0, whole_part = s->whole, d = s->X->d;
    UNROLL for (int p = 0; p < P; p++) sum[p] = vset(0.0);
    for (; j < whole_part; j += LANES) add_away(x, c, j, sum, NULL, is_single);
    if (j < d) add_away(x, c, j, sum, s->m, is_single);
    return sum_lanes(sum);
}

/* a - b b in twice the digits. */
INLINE void subtract_square(double b, double *high, double *low) {
    double square = b * b, rest = *high - square, back = rest - *high;
    *low += ((*high - (rest - back)) - (square + back)) - __builtin_fma(b, b, -square);
    *high = rest;
}

/* What is stored, and |c|^2 less its part there. */
static double sparse_distance(const struct search *s, int64_t row, int64_t label) {
    const double *c = s->C->at + label * s->C->width;
    double near = 0.0, high = s->squares[2 * label], low = s->squares[2 * label + 1];
    for (int64_t e = pointer(s->X, row), stop = pointer(s->X, row + 1); e < stop; e++) {
        double cj = c[s->X->indices[e]], away = entry(s->X, e, s->X->is_single) - cj;
        near = __builtin_fma(away, away, near);
        subtract_square(cj, &high, &low);
    }
    double rest = high + low;
    return near + (rest < 0.0 ? 0.0 : rest);
}

static double distance(const struct search *s, int64_t row, int64_t label) {
    if (s->X->indices) return sparse_distance(s, row, label);
    const char *x = s->X->x + row * s->X->stride;
    const double *c = s->C->at + label * s->C->width;
    return s->X->is_single ? dense_distance(s, x, c, 1) : dense_distance(s, x, c, 0);
}

INLINE void take_floats(const char *x, const double *middle, vec scale, int64_t j, float *to, vec sum[P],
                        const part *m, int is_single) {
    UNROLL for (int p = 0; p < P; p++) {
        int64_t at = j + p * W;
        vec v = (m ? row_part(x, at, m[p], is_single) : row_load(x, at, is_single)) - vload(middle + at);
        v *= scale;
        sum[p] = vfma(v, v, sum[p]);
        vstore_single(to + at, v);
    }
}

/* x as floats about the middle of the centres, and |x|^2. */
INLINE double dense_floats(const struct search *s, const char *x, float *to, int is_single) {
    vec sum[P], scale = vset(s->C->scale);
    const double *middle = s->C->middle;
    int64_t j = 0, whole_part = s->whole, d = s->X->d;
    UNROLL for (int p = 0; p < P; p++) sum[p] = vset(0.0);
    for (; j < whole_part; j += LANES) take_floats(x, middle, scale, j, to, sum, NULL, is_single);
    if (j < d) take_floats(x, middle, scale, j, to, sum, s->m, is_single);
    return sum_lanes(sum);
}

static double sparse_floats(const struct search *s, int64_t row, float *to) {
    double sum = 0.0;
    for (int64_t e = pointer(s->X, row), stop = pointer(s->X, row + 1); e < stop; e++) {
        double v = entry(s->X, e, s->X->is_single) * s->C->scale;
        sum = __builtin_fma(v, v, sum);
        *to++ = (float)v;
    }
    return sum;
}

/* What a chain of products may be wrong by, of the product of the norms. */
INLINE float chain_error(double n) { return (float)(1.1 * 0x1p-24 * (n + 10.0)); }

/* x as floats, and the two columns after it: what a product with it may be wrong by is their product with those
   of a centre. */
static double row_floats(const struct search *s, int64_t row, float *to) {
    const char *x = s->X->x + row * s->X->stride;
    int64_t n = s->X->d;
    float error = s->error;
    double size;
    if (s->X->indices) {
        size = sparse_floats(s, row, to);
        n = pointer(s->X, row + 1) - pointer(s->X, row);
        error = chain_error((double)n);
    } else
        size = s->X->is_single ? dense_floats(s, x, to, 1) : dense_floats(s, x, to, 0);
    to[n] = error * sqrtf((float)size);
    to[n + 1] = error;
    return size;
}

/* lows of MICRO rows with a panel, column by column. */
INLINE void add_products(const float *const x[MICRO], const float *c, int64_t from, int64_t to,
                         fvec sum[MICRO][VECTORS]) {
    for (int64_t j = from; j < to; j++) {
        fvec cj[VECTORS];
        UNROLL for (int v = 0; v < VECTORS; v++) cj[v] = fload(c + j * PLACES + v * F);
        UNROLL for (int r = 0; r < MICRO; r++) {
            fvec xj = fset(x[r][j]);
            UNROLL for (int v = 0; v < VECTORS; v++) sum[r][v] = ffma(xj, cj[v], sum[r][v]);
        }
    }
}

static void dense_lows(const float *const x[MICRO], float *const lows[MICRO], const float *c, const float *first,
                       int64_t n) {
    fvec sum[MICRO][VECTORS];
    UNROLL for (int r = 0; r < MICRO; r++) UNROLL for (int v = 0; v < VECTORS; v++) sum[r][v] = fload(first + v * F);
    add_products(x, c, 0, n < DEPTH ? n : DEPTH, sum);
    UNROLL for (int r = 0; r < MICRO; r++) UNROLL for (int v = 0; v < VECTORS; v++) fstore(lows[r] + v * F, sum[r][v]);
    for (int64_t j = DEPTH; j < n; j += DEPTH) {
        UNROLL for (int r = 0; r < MICRO; r++) UNROLL for (int v = 0; v < VECTORS; v++) sum[r][v] = fset(0.0f);
        add_products(x, c, j, j + DEPTH < n ? j + DEPTH : n, sum);
        UNROLL for (int r = 0; r < MICRO; r++)
            UNROLL for (int v = 0; v < VECTORS; v++) fstore(lows[r] + v * F, fload(lows[r] + v * F) + sum[r][v]);
    }
}

static void sparse_lows(const struct rows *X, int64_t row, const float *x, const float *c, const float *first,
                        float *lows) {
    fvec sum[2][VECTORS];
    UNROLL for (int v = 0; v < VECTORS; v++) {
        sum[0][v] = fload(first + v * F);
        sum[1][v] = fset(0.0f);
    }
    int64_t start = pointer(X, row), n = pointer(X, row + 1) - start;
    for (int64_t e = 0; e < n + 2; e++) {
        int64_t j = e < n ? X->indices[start + e] : X->d + (e - n);
        UNROLL for (int v = 0; v < VECTORS; v++)
            sum[e & 1][v] = ffma(fset(x[e]), fload(c + j * PLACES + v * F), sum[e & 1][v]);
    }
    UNROLL for (int v = 0; v < VECTORS; v++) fstore(lows + v * F, sum[0][v] + sum[1][v]);
}

/* The lows of a panel for the slots of a list; the last are repeated, and then written to a slot to spare. */
static void panel_lows(const struct search *s, int64_t row, int64_t panel, const int *slots, int n) {
    const struct centers *C = s->C;
    const float *c = C->panels + panel * (s->X->d + 2) * PLACES, *first = C->first + panel * PLACES;
    float *to = s->lows + panel * PLACES;
    if (s->X->indices) {
        for (int i = 0; i < n; i++)
            sparse_lows(s->X, row + s->row[slots[i]], s->x + slots[i] * s->x_width, c, first, to + slots[i] * s->places);
        return;
    }
    for (int i = 0; i < n; i += MICRO) {
        const float *x[MICRO];
        float *lows[MICRO];
        for (int r = 0; r < MICRO; r++) {
            x[r] = s->x + slots[i + r < n ? i + r : n - 1] * s->x_width;
            lows[r] = to + (i + r < n ? slots[i + r] : s->most_rows) * s->places;
        }
        dense_lows(x, lows, c, first, s->X->d + 2);
    }
}
