/* The nearest centre of each row, and what each centre's rows add up to.

   A product in single precision gives for each row x and centre c a number that is rigorously at most
   (|x - c|^2 - |x|^2) / 2, by columns that hold its rounding error (centers.py). Centres are met in the order
   of this number, and their distances computed in double precision, until none that is left can be nearer:
   labels and distances are those of the double precision, whose bits depend on row and centre alone. */

#include "singles.h"

enum { PLACES = 16, VECTORS = PLACES / F, MICRO = W == 8 ? 14 : 6, DEPTH = 128, MOST_ROWS = 240 };

/* What one call works with; a slot is a row of the tile that some groups of centres are looked at for. */
struct search {
    const struct rows *X;
    const struct centers *C;
    const struct found *found;
    int64_t whole, most_rows, x_width, places, groups; /* the last in whole panels */
    part m[P];
    float error;                   /* of dense rows, chain_error */
    double slack;                  /* relative error of a distance in double precision, many times */
    double *squares;               /* CSR: |c|^2 of each centre and the digits it lacks */
    int32_t *labels;               /* of the rows of the tile */
    double *distances, *size;      /* of the rows; of the slots |x|^2 */
    int *row;                      /* of the slots */
    uint64_t *wanted;              /* of the slots, a bit for each group */
    float *x, *lows;       /* of the slots */
    float *least, *floor;  /* of the slots, for each group */
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

INLINE float least_of(const float *lows, int64_t n) {
    fvec least = fload(lows);
    for (int64_t i = 0; i < n; i += PLACES)
        UNROLL for (int v = 0; v < VECTORS; v++) least = fmin_of(least, fload(lows + i + v * F));
    return fleast(least);
}

INLINE void group_of(const struct centers *C, int64_t g, int64_t *first, int64_t *n) {
    *first = g * C->group_panels * PLACES;
    int64_t stop = (g + 1) * C->group_panels < C->n_panels ? (g + 1) * C->group_panels : C->n_panels;
    *n = stop * PLACES - *first;
}

/* Below which the low of every centre lies whose distance in double precision is at most `distance`. */
INLINE double reach(const struct search *s, double distance, double size) {
    double scaled = distance * s->C->scale * s->C->scale;
    return 0.5 * (scaled * (1.0 + s->slack) - size * (1.0 - s->slack));
}

/* Take a centre at its distance; the farther one of it and the row's own bounds its group. */
static void meet(const struct search *s, int slot, int64_t row, int32_t label) {
    int i = s->row[slot];
    int32_t own = s->labels[i], loser = label;
    double away = distance(s, row + i, label), far = away;
    if (own < 0 || away < s->distances[i] || (away == s->distances[i] && label < own)) {
        loser = own;
        far = s->distances[i];
        s->labels[i] = label;
        s->distances[i] = away;
    }
    if (loser < 0 || !s->found->lower) return;
    float *floor = s->floor + slot * s->groups + s->C->place[loser] / (s->C->group_panels * PLACES);
    float bound = (float)(sqrt(far) * s->C->scale * (1.0 - 0x1p-20));
    if (!(bound >= *floor)) *floor = bound;
}

/* Where `low` stands first among n numbers, whole panels of them. One branch a panel: which one is not foreseen. */
INLINE int64_t place_of(const float *lows, int64_t n, float low) {
    for (int64_t i = 0; i < n; i += PLACES) {
        unsigned found = 0;
        UNROLL for (int v = 0; v < VECTORS; v++) found |= fequal(fload(lows + i + v * F), fset(low)) << v * F;
        if (found) return i + __builtin_ctz(found);
    }
    return n - 1;
}

/* Bounds of the groups that were looked at. */
static void keep_bounds(const struct search *s, int slot, int64_t row) {
    int64_t n = s->C->n_groups;
    float *lower = s->found->lower + (row + s->row[slot]) * n;
    const float *least = s->least + slot * s->groups, *floor = s->floor + slot * s->groups;
    float size = (float)(s->size[slot] * (1.0 - 0x1p-21)), below = 1.0f - 0x1p-20f;
    for (int64_t g = 0; g < n; g++) {
        float square = size + 2.0f * least[g];
        float bound = (s->wanted[slot] >> g & 1) ? sqrtf(square > 0.0f ? square : 0.0f) * below : lower[g];
        lower[g] = floor[g] < bound ? floor[g] : bound;
    }
}

/* The least low of each group that was looked at, the row's own centre left out. */
static void group_lows(const struct search *s, int slot) {
    float *lows = s->lows + slot * s->places, *least = s->least + slot * s->groups;
    int32_t own = s->labels[s->row[slot]];
    int64_t first, n;
    if (own >= 0) lows[s->C->place[own]] = INFINITY;
    for (int64_t g = 0; g < s->C->n_groups; g++) {
        group_of(s->C, g, &first, &n);
        if (s->wanted[slot] >> g & 1) least[g] = least_of(lows + first, n);
    }
}

/* The place that comes next for a slot, taken from its lows, or -1 where none can be nearer. */
static int64_t next_place(const struct search *s, int slot, int64_t *group) {
    const float *least = s->least + slot * s->groups;
    float low = least_of(least, s->groups), *lows = s->lows + slot * s->places;
    int i = s->row[slot];
    if (low == INFINITY || (s->labels[i] >= 0 && low > reach(s, s->distances[i], s->size[slot]))) return -1;
    int64_t first, n;
    *group = place_of(least, s->groups, low);
    group_of(s->C, *group, &first, &n);
    int64_t place = first + place_of(lows + first, n, low);
    lows[place] = INFINITY;
    return place;
}

/* The nearest centre of each slot, of those whose lows are known and its own. Steps go over all slots: a vector
   read soon after one of its numbers was written waits. */
static void decide(const struct search *s, int64_t row, int used) {
    int open[MOST_ROWS];
    int64_t place[MOST_ROWS], group[MOST_ROWS], first, n;
    for (int64_t i = 0; i < used * s->groups; i++) s->least[i] = s->floor[i] = INFINITY;
    for (int slot = 0; slot < used; slot++) {
        group_lows(s, slot);
        open[slot] = slot;
    }
    for (int count = used; count;) {
        int kept = 0;
        for (int i = 0; i < count; i++) {
            open[kept] = open[i];
            place[kept] = next_place(s, open[i], &group[kept]);
            kept += place[kept] >= 0;
        }
        count = kept;
        for (int i = 0; i < count; i++) {
            group_of(s->C, group[i], &first, &n);
            s->least[open[i] * s->groups + group[i]] = least_of(s->lows + open[i] * s->places + first, n);
        }
        for (int i = 0; i < count; i++) meet(s, open[i], row, s->C->label[place[i]]);
    }
    for (int slot = 0; s->found->lower && slot < used; slot++) keep_bounds(s, slot, row);
}

/* Where floats do not reach: every distance. */
static void meet_all(const struct search *s, int i, int64_t row) {
    s->labels[i] = 0;
    s->distances[i] = distance(s, row + i, 0);
    for (int64_t c = 1; c < s->C->k; c++) {
        double away = distance(s, row + i, c);
        if (away < s->distances[i]) {
            s->labels[i] = (int32_t)c;
            s->distances[i] = away;
        }
    }
    if (s->found->lower)
        memset(s->found->lower + (row + i) * s->C->n_groups, 0, (size_t)s->C->n_groups * sizeof(float));
}

/* Groups that may hold a centre nearer than the row's own, now that centres have moved. */
static uint64_t open_groups(const struct search *s, int i, int64_t row) {
    int64_t n = s->C->n_groups;
    if (!s->found->moved) {
        s->labels[i] = -1;
        return n == 64 ? UINT64_MAX : ((uint64_t)1 << n) - 1;
    }
    float *lower = s->found->lower + (row + i) * n;
    s->labels[i] = s->found->labels[row + i];
    s->distances[i] = distance(s, row + i, s->labels[i]);
    float own = (float)(sqrt(s->distances[i]) * s->C->scale * (1.0 + 0x1p-20));
    uint64_t open = 0;
    for (int64_t g = 0; g < n; g++) {
        lower[g] = __builtin_fmaf(lower[g], 1.0f - 0x1p-22f, -s->found->moved[g]);
        open |= (uint64_t) !(lower[g] > own) << g;
    }
    return open;
}

static void search_tile(const struct search *s, int64_t row, int n) {
    int slots[MOST_ROWS], used = 0;
    for (int i = 0; i < n; i++) {
        uint64_t open = open_groups(s, i, row);
        if (!open) continue;
        s->size[used] = s->C->is_tame ? row_floats(s, row + i, s->x + used * s->x_width) : INFINITY;
        s->row[used] = i;
        s->wanted[used] = open;
        if (s->size[used] < 0x1p80)
            used++;
        else
            meet_all(s, i, row);
    }
    for (int64_t p = 0; used && p < s->C->n_panels; p++) {
        int count = 0;
        for (int slot = 0; slot < used; slot++)
            if (s->wanted[slot] >> (p / s->C->group_panels) & 1) slots[count++] = slot;
        if (count) panel_lows(s, row, p, slots, count);
    }
    decide(s, row, used);
}

/* [sum s x of each centre's rows, sum s of them, sum s distance] of some rows in order, added to out. */
static void add_clusters(const struct rows *X, int64_t row, int64_t n, const double *weight, int64_t k,
                         const int32_t *labels, const double *distances, double *out) {
    double *total = out + k * X->d, inertia = total[k];
    for (int64_t i = 0; i < n; i++) {
        double s = weight ? weight[row + i] : 1.0, *to = out + labels[i] * X->d;
        const char *x = X->x + (row + i) * X->stride;
        int64_t j = 0;
        if (X->indices)
            sparse_add(X, row + i, s, to, X->is_single);
        else if (X->is_single) {
            for (; j + W <= X->d; j += W) vstore(to + j, vfma(vset(s), row_load(x, j, 1), vload(to + j)));
            for (; j < X->d; j++) to[j] = __builtin_fma(s, (double)((const float *)x)[j], to[j]);
        } else {
            for (; j + W <= X->d; j += W) vstore(to + j, vfma(vset(s), row_load(x, j, 0), vload(to + j)));
            for (; j < X->d; j++) to[j] = __builtin_fma(s, ((const double *)x)[j], to[j]);
        }
        total[labels[i]] += s;
        inertia = __builtin_fma(s, distances[i], inertia);
    }
    total[k] = inertia;
}

static int64_t longest_row(const struct rows *X) {
    int64_t most = 0;
    for (int64_t i = 0; i < X->n; i++)
        if (pointer(X, i + 1) - pointer(X, i) > most) most = pointer(X, i + 1) - pointer(X, i);
    return most;
}

static void square_centers(const struct search *s) {
    for (int64_t c = 0; c < s->C->k; c++) {
        double high = 0.0, low = 0.0;
        for (int64_t j = 0; j < s->X->d; j++) subtract_square(s->C->at[c * s->C->width + j], &high, &low);
        s->squares[2 * c] = -high;
        s->squares[2 * c + 1] = -low;
    }
}

/* Rows of a tile: as many as lie in the second cache with their lows, whole times MICRO. */
static int64_t rows_of_tile(int64_t floats) {
    int64_t n = 32768 / floats / MICRO * MICRO, most = MOST_ROWS / MICRO * MICRO;
    return n < MICRO ? MICRO : n > most ? most : n;
}

static double *make_search(const struct rows *X, const struct centers *C, const struct found *found,
                           struct search *s) {
    int64_t width = X->indices ? longest_row(X) : X->d, places = C->n_panels * PLACES;
    int64_t x_width = whole(width + 2, PLACES), n = rows_of_tile(x_width > places ? x_width : places);
    int64_t squares = X->indices ? 2 * C->k : 0;
    int64_t groups = whole(C->n_groups, PLACES), floats = ((n + 1) * (x_width + places) + 2 * n * groups) / 2;
    double *at = zeros(floats + whole(squares, 8) + 5 * whole(n, 8)), *memory = at;
    if (!at) return NULL;
    *s = (struct search){.X = X, .C = C, .found = found, .whole = X->d & ~(int64_t)(LANES - 1), .most_rows = n,
                         .x_width = x_width, .places = places, .groups = groups, .slack = ((double)X->d + 16.0) * 0x1p-49};
    s->error = chain_error((double)((X->d < DEPTH ? X->d : DEPTH) + X->d / DEPTH));
    for (int p = 0; p < P; p++) {
        int64_t rest = X->d - s->whole - p * W;
        s->m[p] = part_of(rest < 0 ? 0 : rest < W ? rest : W);
    }
    s->squares = at;
    s->distances = at += whole(squares, 8);
    s->size = at += whole(n, 8);
    s->wanted = (uint64_t *)(at += whole(n, 8));
    s->row = (int *)(at += whole(n, 8));
    s->labels = (int32_t *)(at += whole(n, 8));
    s->x = (float *)(at += whole(n, 8));
    s->lows = s->x + (n + 1) * x_width;
    s->least = s->lows + (n + 1) * places;
    s->floor = s->least + n * groups;
    if (X->indices) square_centers(s);
    return memory;
}

static int nearest(const struct rows *X, const struct borders *b, const double *weight, const struct centers *C,
                   const struct found *found, double *out) {
    struct search s;
    double *memory = make_search(X, C, found, &s);
    if (!memory) return -1;
    int64_t width = C->k * (X->d + 1) + 1;
    for (int64_t shard = 0; shard < b->n_shards; shard++, out = out ? out + width : out) {
        if (out) memset(out, 0, (size_t)width * sizeof(double));
        for (int64_t row = b->shards[shard]; row < b->shards[shard + 1]; row += s.most_rows) {
            int64_t left = b->shards[shard + 1] - row, n = left < s.most_rows ? left : s.most_rows;
            search_tile(&s, row, (int)n);
            if (found->labels) memcpy(found->labels + row, s.labels, (size_t)n * sizeof(int32_t));
            if (found->distances) memcpy(found->distances + row, s.distances, (size_t)n * sizeof(double));
            if (out) add_clusters(X, row, n, weight, C->k, s.labels, s.distances, out);
        }
    }
    free(memory);
    return 0;
}

static void cluster_sums(const struct rows *X, const struct borders *b, const double *weight, int64_t k,
                         const int32_t *labels, const double *distances, double *out) {
    int64_t width = k * (X->d + 1) + 1;
    for (int64_t shard = 0; shard < b->n_shards; shard++, out += width) {
        int64_t row = b->shards[shard];
        memset(out, 0, (size_t)width * sizeof(double));
        add_clusters(X, row, b->shards[shard + 1] - row, weight, k, labels + row, distances + row, out);
    }
}
