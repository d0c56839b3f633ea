/* Value, slope and curvature of a loss in the raw prediction z, W rows at a time.

   A class is told by y == a; what the value has in y alone is left out:
     squared         (z - y)^2 / 2
     logistic        log(1 + exp(z)) - t z, t = 1 where y == a, else 0
     Poisson         exp(z) - y z
     gamma           z + y exp(-z)
     Tweedie         exp((2 - a) z) / (2 - a) - y exp((1 - a) z) / (1 - a), a not 1 or 2
     Huber           r^2 / 2 up to |r| = a, then a (|r| - a / 2), r = z - y
     squared hinge   max(0, 1 - t z)^2, t = 1 where y == a, else -1 */

struct terms {
    vec value, slope, curvature;
};

INLINE struct terms squared(vec z, vec y) {
    vec r = z - y;
    return (struct terms){r * r * 0.5, r, vset(1.0)};
}

/* Held at exp(700): a row of weight zero then adds zero, which infinity times zero would not be. */
INLINE vec held_exp(vec x) { return vexp(vpick(x > vset(700.0), vset(700.0), x)); }

INLINE struct terms poisson(vec z, vec y) {
    vec e = held_exp(z);
    return (struct terms){vfma(-y, z, e), e - y, e};
}

INLINE struct terms gamma_(vec z, vec y) {
    vec e = y * held_exp(-z);
    return (struct terms){z + e, 1.0 - e, e};
}

INLINE struct terms tweedie(vec z, vec y, double power) {
    double one = 1.0 - power, two = 2.0 - power;
    vec large = held_exp(z * two), small = y * held_exp(z * one);
    return (struct terms){large * (1.0 / two) - small * (1.0 / one), large - small, large * two - small * one};
}

INLINE struct terms huber(vec z, vec y, double delta) {
    vec r = z - y, far = vabs(r), sign = vpick(r < vset(0.0), vset(-delta), vset(delta));
    ivec inside = far <= vset(delta);
    vec value = vpick(inside, r * r * 0.5, (far - 0.5 * delta) * delta);
    return (struct terms){value, vpick(inside, r, sign), vpick(inside, vset(1.0), vset(0.0))};
}

INLINE struct terms squared_hinge(vec z, vec y, vec positive) {
    vec t = vpick(y == positive, vset(1.0), vset(-1.0)), gap = 1.0 - t * z;
    ivec passed = gap <= vset(0.0);
    gap = vpick(passed, vset(0.0), gap);
    return (struct terms){gap * gap, t * gap * -2.0, vpick(passed, vset(0.0), vset(2.0))};
}

/* Memory that is asked for ahead of its use, evenly and in order: `step` bytes in each round of computing. */
struct ahead {
    const char *next;
    int64_t step;
};

INLINE void fetch(struct ahead *ahead, int lines) {
    UNROLL for (int i = 0; i < lines; i++) __builtin_prefetch(ahead->next + 64 * i);
    ahead->next += ahead->step;
}

/* The link terms of a chunk: what a loss gives, then r = weight slope and h = weight curvature in place. */
struct chunk {
    struct ahead ahead;
    double z[CHUNK], y[CHUNK], weight[CHUNK], value[CHUNK], r[CHUNK], h[CHUNK];
};

/* All from u = exp(-|z|) in [0, 1]: log(1 + u) = 2 atanh(s), s = u / (2 + u), one division for both.
   Three short loops: a processor has several rounds of each in flight, and hardly one of all three. */
static void logistic(const struct loss *loss, struct chunk *c, int n) {
    const ivec sign = vset_bits(INT64_MIN);
    const vec positive = vset(loss->a);
    double u_of[CHUNK], s_of[CHUNK];
    struct ahead ahead = c->ahead;
    for (int i = 0; i < n; i += W) {
        fetch(&ahead, 1);
        vstore(u_of + i, vexp_as((vec)((ivec)vload(c->z + i) | sign), 1));
    }
    for (int i = 0; i < n; i += W) {
        fetch(&ahead, 1);
        vec z = vload(c->z + i), u = vload(u_of + i), one = u + 1.0, two = u + 2.0;
        ivec is_positive = vload(c->y + i) == positive;
        vec margin = (vec)((ivec)z ^ (sign & ~is_positive)), against = (vec)((ivec)margin ^ sign);
        vec inverse = 1.0 / (one * two), p = two * inverse, small = u * p;
        vec wrong = vpick(margin > vset(0.0), small, p);
        vstore(s_of + i, u * one * inverse);
        vstore(c->value + i, (vec)((ivec)against & (margin < vset(0.0))));
        vstore(c->r + i, (vec)((ivec)wrong ^ (sign & is_positive)));
        vstore(c->h + i, small * p);
    }
    for (int i = 0; i < n; i += W) {
        fetch(&ahead, 1);
        vec s = vload(s_of + i), t = s * s, half = vfma(s * t, atanh_rest(t), s);
        vstore(c->value + i, vfma(half, vset(2.0), vload(c->value + i)));
    }
    c->ahead = ahead;
}

INLINE struct terms terms_of(enum kind kind, const struct loss *loss, vec z, vec y) {
    switch (kind) {
    case POISSON: return poisson(z, y);
    case GAMMA: return gamma_(z, y);
    case TWEEDIE: return tweedie(z, y, loss->a);
    case HUBER: return huber(z, y, loss->a);
    case SQUARED_HINGE: return squared_hinge(z, y, vset(loss->a));
    default: return squared(z, y);
    }
}

INLINE void losses_as(enum kind kind, const struct loss *loss, struct chunk *c, int n) {
    struct ahead ahead = c->ahead;
    for (int i = 0; i < n; i += W) {
        fetch(&ahead, 1);
        struct terms t = terms_of(kind, loss, vload(c->z + i), vload(c->y + i));
        vstore(c->value + i, t.value);
        vstore(c->r + i, t.slope);
        vstore(c->h + i, t.curvature);
    }
    c->ahead = ahead;
}

/* Rounds of fetching in `losses` of n rows. */
INLINE int64_t link_rounds(enum kind kind, int n) { return (kind == LOGISTIC ? 3 : 1) * (int64_t)n / W; }

/* Value, slope and curvature of n rows, n a number of whole lanes, from z and y. */
static void losses(const struct loss *loss, struct chunk *c, int n) {
#define CASE(kind) \
    case kind: losses_as(kind, loss, c, n); break;
    switch (loss->kind) {
        CASE(SQUARED) CASE(POISSON) CASE(GAMMA) CASE(TWEEDIE) CASE(HUBER) CASE(SQUARED_HINGE)
        case LOGISTIC: logistic(loss, c, n); break;
        default: break;
    }
#undef CASE
}

/* Sums over rows, in 8 lanes by row. */
struct lanes {
    vec value[P], slope[P];
};

static void link(const struct loss *loss, struct chunk *c, int n, struct lanes *sums) {
    struct lanes sum = *sums;
    losses(loss, c, n);
    for (int i = 0; i < n; i += LANES)
        UNROLL for (int p = 0; p < P; p++) {
            int at = i + p * W;
            vec s = vload(c->weight + at), r = s * vload(c->r + at);
            sum.value[p] = vfma(s, vload(c->value + at), sum.value[p]);
            sum.slope[p] += r;
            vstore(c->r + at, r);
            vstore(c->h + at, s * vload(c->h + at));
        }
    *sums = sum;
}

/* Labels and weights of n rows, with zeros up to a whole number of lanes; intercept and offset go to z. */
static void gather_rows(const struct model *m, int64_t row, int n, struct chunk *c) {
    size_t bytes = (size_t)n * sizeof(double);
    int padded = (n + LANES - 1) & ~(LANES - 1);
    if (m->y)
        memcpy(c->y, m->y + row, bytes);
    else
        memset(c->y, 0, bytes);
    if (m->weight)
        memcpy(c->weight, m->weight + row, bytes);
    else
        for (int i = 0; i < n; i++) c->weight[i] = 1.0;
    for (int i = 0; i < n; i++) c->z[i] += m->intercept;
    if (m->offset)
        for (int i = 0; i < n; i++) c->z[i] += m->offset[row + i];
    for (int i = n; i < padded; i++) c->z[i] = c->y[i] = c->weight[i] = 0.0;
}

static void terms(const struct loss *loss, int64_t n, const double *z, const double *y, double *value,
                  double *slope, double *curvature) {
    struct chunk c = {.ahead = {(const char *)z, 0}, .z = {0.0}};
    for (int64_t i = 0; i < n; i += CHUNK) {
        int count = n - i < CHUNK ? (int)(n - i) : CHUNK;
        size_t bytes = (size_t)count * sizeof(double);
        memcpy(c.z, z + i, bytes);
        memcpy(c.y, y + i, bytes);
        losses(loss, &c, (count + LANES - 1) & ~(LANES - 1));
        memcpy(value + i, c.value, bytes);
        memcpy(slope + i, c.r, bytes);
        memcpy(curvature + i, c.h, bytes);
    }
}
