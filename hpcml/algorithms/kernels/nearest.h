/* The nearest centre of each row, and what each centre's rows add up to.

   Centres are met in the order of their lows, and their distances computed in double precision, until none that is
   left can be nearer: labels and distances are those of the double precision, whose bits depend on row and centre
   alone. */

#include "lows.h"

INLINE float least_of(const float *lows, int64_t n) {
    fvec least = fload(lows);
    for (int64_t i = F; i < n; i += F) least = fmin_of(least, fload(lows + i));
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

/* Where `low` stands first among n numbers. One branch for as many vectors as are given. */
INLINE int64_t place_of(const float *lows, int64_t n, float low, int vectors) {
    for (int64_t i = 0; i < n; i += vectors * F) {
        unsigned found = 0;
        UNROLL for (int v = 0; v < vectors; v++) found |= fequal(fload(lows + i + v * F), fset(low)) << v * F;
        if (found) return i + __builtin_ctz(found);
    }
    return n - 1;
}

/* Bounds of the groups that were looked at, each with the way of its group so far: it falls as that grows. */
static void keep_bounds(const struct search *s, int slot, int64_t row) {
    const struct centers *C = s->C;
    int64_t at = row + s->row[slot];
    int32_t before = s->found->labels[at];
    float *lower = s->found->lower + at * C->n_groups, *bounds = s->least + slot * s->groups;
    const float *floor = s->floor + slot * s->groups;
    fvec size = fset((float)(s->size[slot] * (1.0 - 0x1p-21)));
    for (int64_t g = 0; g < s->groups; g += F) {
        fvec squared = ffma(fset(2.0f), fload(bounds + g), size);
        fvec bound = fsqrt(fmax_of(squared, fset(0.0f))) * fset(1.0f - 0x1p-20f);
        fstore(bounds + g, (fmin_of(bound, fload(floor + g)) + fload(s->ways + g)) * fset(1.0f - 0x1p-22f));
    }
    for (uint64_t left = s->wanted[slot]; left; left &= left - 1)
        lower[__builtin_ctzll(left)] = bounds[__builtin_ctzll(left)];
    if (before < 0 || before == s->labels[s->row[slot]]) return;
    int64_t g = C->place[before] / (C->group_panels * PLACES); /* its group may not have been looked at */
    float bound = (floor[g] + s->ways[g]) * (1.0f - 0x1p-22f);
    if (bound < lower[g]) lower[g] = bound;
}

/* The least low of each group that was looked at, the row's own centre left out. */
static void group_lows(const struct search *s, int slot) {
    float *lows = s->lows + slot * s->places, *least = s->least + slot * s->groups;
    int32_t own = s->labels[s->row[slot]];
    int64_t first, n;
    if (own >= 0) lows[s->C->place[own]] = INFINITY;
    for (uint64_t left = s->wanted[slot]; left; left &= left - 1) {
        int64_t g = __builtin_ctzll(left);
        group_of(s->C, g, &first, &n);
        least[g] = least_of(lows + first, n);
    }
}

/* The place that comes next for a slot, taken from its lows, or -1 where none can be nearer. */
static int64_t next_place(const struct search *s, int slot, int64_t *group) {
    const float *least = s->least + slot * s->groups;
    float low = least_of(least, s->groups), *lows = s->lows + slot * s->places;
    int i = s->row[slot];
    if (low == INFINITY || (s->labels[i] >= 0 && low > reach(s, s->distances[i], s->size[slot]))) return -1;
    int64_t first, n;
    *group = place_of(least, s->groups, low, 1);
    group_of(s->C, *group, &first, &n);
    int64_t place = first + place_of(lows + first, n, low, VECTORS);
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

/* Groups that may hold a centre nearer than the row's own; a row whose own is not known is compared with all. */
static uint64_t open_groups(const struct search *s, int i, int64_t row) {
    int64_t n = s->C->n_groups;
    s->labels[i] = s->found->lower ? s->found->labels[row + i] : -1;
    if (s->labels[i] < 0) return ((uint64_t)1 << n) - 1;
    const float *lower = s->found->lower + (row + i) * n;
    s->distances[i] = distance(s, row + i, s->labels[i]);
    fvec own = fset((float)(sqrt(s->distances[i]) * s->C->scale * (1.0 + 0x1p-20)));
    uint64_t open = 0;
    for (int64_t g = 0; g < n; g += F) {
        fvec reached = (own + fload(s->ways + g)) * fset(1.0f + 0x1p-22f);
        open |= (uint64_t)fbelow(reached, fload(lower + g)) << g;
    }
    return ~open & (((uint64_t)1 << n) - 1);
}

/* A dense row that a later tile needs. */
INLINE void ask_for(const struct search *s, int64_t row) {
    if (s->X->indices || row >= s->X->n) return;
    const char *x = s->X->x + row * s->X->stride;
    for (int64_t at = 0; at < s->row_bytes; at += 64) __builtin_prefetch(x + at);
}

static void search_tile(const struct search *s, int64_t row, int n) {
    int slots[MOST_ROWS], used = 0;
    for (int i = 0; i < n; i++) {
        ask_for(s, row + i + n);
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
    for (int64_t g = 0; used && g < s->C->n_groups; g++) {
        int64_t first, n_places;
        int count = 0;
        for (int slot = 0; slot < used; slot++) {
            slots[count] = slot;
            count += s->wanted[slot] >> g & 1;
        }
        group_of(s->C, g, &first, &n_places);
        for (int64_t p = 0; count && p < n_places / PLACES; p++)
            panel_lows(s, row, first / PLACES + p, slots, count);
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
    int64_t groups = whole(C->n_groups, F), floats = ((n + 1) * (x_width + places) + (2 * n + 1) * groups + 1) / 2;
    double *at = zeros(floats + whole(squares, 8) + 5 * whole(n, 8)), *memory = at;
    if (!at) return NULL;
    *s = (struct search){.X = X, .C = C, .found = found, .whole = X->d & ~(int64_t)(LANES - 1), .most_rows = n,
                         .x_width = x_width, .places = places, .groups = groups,
                         .row_bytes = X->d * (X->is_single ? 4 : 8), .slack = ((double)X->d + 16.0) * 0x1p-49};
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
    s->ways = s->floor + n * groups;
    if (found->ways) memcpy(s->ways, found->ways, (size_t)C->n_groups * sizeof(float));
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
