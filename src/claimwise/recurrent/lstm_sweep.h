/* A layer of the LSTM family over all steps of packed rows, forward and backward, products included.

   Step t has sizes[t] rows from row offsets[t] on; sizes never grow, so that row r of every step belongs to sequence r.
   Sequences do not see each other: a thread takes some of them through all steps and waits for nobody. */

#define ROWS_AT_ONCE 256             /* rows whose gradients are gathered at once: they stay in the cache */
#define LEAST(a, b) ((a) < (b) ? (a) : (b))

typedef struct {
    const NAME(lstm) *cell;
    long inputs, seen, steps, threads;                   /* seen: width of the gates that gates see */
    void (*parallel)(void (*)(void *), void *, unsigned, unsigned);      /* GOMP_parallel, or NULL */
    const long *sizes, *offsets;
    const REAL *x, *w_ih, *w_hh, *w_gh, *bias;           /* weights are (width, k); w_gh, bias may be NULL */
    const REAL *y_start, *c_start;
    REAL *gates, *ys, *cs;                               /* all that the way back needs */
    const REAL *d_ys;                                    /* may be NULL */
    REAL *d_y, *d_c;                                     /* of the last states, become those of the first */
    REAL *d_x, *d_ih, *d_hh, *d_bias, *d_ph, *d_gh;      /* NULL: not wanted; all but d_x are 0 at the start */
} NAME(sweep);

typedef struct {
    const NAME(sweep) *sweep;
    const REAL *ih, *hh, *gh;                            /* packed */
    long first, end;                                     /* sequences */
    REAL *d_ih, *d_hh, *d_bias, *d_ph, *d_gh;
    REAL *made;                                          /* what was allocated */
    int failed;
} NAME(part);

/* Numbers of peepholes: of each gate that is there. */
static long NAME(peepholes)(const NAME(lstm) *cell) {
    return cell->hidden * ((cell->input >= 0) + (cell->forget >= 0) + (cell->output >= 0));
}

/* Sequences from part->first on that reach step t. */
static long NAME(reached)(const NAME(part) *part, long t) {
    const long n = LEAST(part->end, part->sweep->sizes[t]) - part->first;
    return n > 0 ? n : 0;
}

static void *NAME(forward_part)(void *argument) {
    const NAME(part) *part = argument;
    const NAME(sweep) *s = part->sweep;
    const NAME(lstm) *cell = s->cell;
    const long n = cell->hidden, width = cell->width, lo = part->first;
    const int all = lo == 0 && part->end == s->sizes[0];
    for (long t = 0, ready = 0; t < s->steps; t++) {
        const long rows = NAME(reached)(part, t), here = s->offsets[t] + lo;
        if (!rows) break;
        if (t == ready) {                                /* input products of some steps: one, if all rows are ours */
            long count = rows;
            for (ready++; all && ready < s->steps && count < 64; ready++) count += s->sizes[ready];
            for (long r = 0; r < count; r++) {
                REAL *to = s->gates + (here + r) * width;
                if (s->bias) memcpy(to, s->bias, sizeof(REAL) * width);
                else memset(to, 0, sizeof(REAL) * width);
            }
            NAME(add_product)(
                count, s->inputs, width, s->x + here * s->inputs, s->inputs, part->ih, s->gates + here * width, width
            );
        }
        const long before = t ? s->offsets[t - 1] + lo : 0;
        const REAL *y = t ? s->ys + before * n : s->y_start + lo * n;
        const REAL *c = t ? s->cs + before * n : s->c_start + lo * n;
        REAL *pre = s->gates + here * width;
        NAME(add_product)(rows, n, width, y, n, part->hh, pre, width);
        if (part->gh && t)
            NAME(add_product)(rows, s->seen, s->seen, s->gates + before * width, width, part->gh, pre, width);
        NAME(lstm_forward)(cell, rows, pre, c, s->cs + here * n, s->ys + here * n);
    }
    return 0;
}

static void *NAME(backward_part)(void *argument) {
    NAME(part) *part = argument;
    const NAME(sweep) *s = part->sweep;
    const NAME(lstm) *cell = s->cell;
    const long n = cell->hidden, width = cell->width, seen = s->seen, lo = part->first, mine = part->end - lo;
    const int all = lo == 0 && part->end == s->sizes[0];
    const long peeps = NAME(peepholes)(cell), capacity = mine > ROWS_AT_ONCE ? mine : ROWS_AT_ONCE;
    const long columns = s->inputs > n ? (s->inputs > seen ? s->inputs : seen) : (n > seen ? n : seen);
    const size_t room = NAME(outer_room)(columns), gathered = width + peeps + (part->gh ? mine * seen : 0);
    REAL *d = malloc(sizeof(REAL) * (capacity * width + gathered + room));
    const REAL **rows_of = malloc(sizeof(REAL *) * capacity * 2);
    REAL *nothing = part->gh ? calloc(seen, sizeof(REAL)) : 0;   /* gates before the first step */
    if (!d || !rows_of || (part->gh && !nothing)) {
        part->failed = 1;
        goto end;
    }
    REAL *bias = d + capacity * width, *peep = bias + width, *d_seen = part->gh ? peep + peeps : 0;
    REAL *outer = bias + gathered;
    REAL *d_y = s->d_y + lo * n, *d_c = s->d_c + lo * n;
    if (d_seen) memset(d_seen, 0, sizeof(REAL) * mine * seen);
    for (long last = s->steps, first; last > 0; last = first) {
        long count = NAME(reached)(part, last - 1);
        for (first = last - 1; first > 0; first--) {
            const long more = NAME(reached)(part, first - 1);
            if (count + more > capacity) break;
            count += more;
        }
        memset(bias, 0, sizeof(REAL) * (width + peeps));
        REAL *now = d + count * width;
        for (long t = last - 1; t >= first; t--) {
            const long rows = NAME(reached)(part, t), here = s->offsets[t] + lo;
            if (!rows) continue;
            const REAL *c = t ? s->cs + (s->offsets[t - 1] + lo) * n : s->c_start + lo * n;
            now -= rows * width;
            NAME(lstm_backward)(
                cell, rows, s->gates + here * width, c, s->cs + here * n, s->d_ys ? s->d_ys + here * n : 0, d_y, d_seen,
                seen, d_c, now
            );
            memset(d_y, 0, sizeof(REAL) * rows * n);
            NAME(add_product)(rows, width, n, now, width, part->hh, d_y, n);
            if (d_seen) {
                memset(d_seen, 0, sizeof(REAL) * rows * seen);
                NAME(add_product)(rows, seen, seen, now, width, part->gh, d_seen, seen);
            }
            if (s->d_x && !all) {
                REAL *d_x = s->d_x + here * s->inputs;
                memset(d_x, 0, sizeof(REAL) * rows * s->inputs);
                NAME(add_product)(rows, width, s->inputs, now, width, part->ih, d_x, s->inputs);
            }
            if (part->d_bias) for (long r = 0; r < rows; r++)
                for (long j = 0; j < width; j++) bias[j] += now[r * width + j];
            if (part->d_ph) NAME(lstm_peepholes)(cell, rows, now, c, s->cs + here * n, peep);
        }
        if (s->d_x && all) {
            REAL *d_x = s->d_x + s->offsets[first] * s->inputs;
            memset(d_x, 0, sizeof(REAL) * count * s->inputs);
            NAME(add_product)(count, width, s->inputs, d, width, part->ih, d_x, s->inputs);
        }
        if (part->d_bias) for (long j = 0; j < width; j++) part->d_bias[j] += bias[j];
        if (part->d_ph) for (long j = 0; j < peeps; j++) part->d_ph[j] += peep[j];
        const REAL **given = rows_of, **earlier = rows_of + capacity;
        long k = 0;
        for (long t = first; t < last; t++)
            for (long r = lo; r < lo + NAME(reached)(part, t); r++, k++) {
                given[k] = s->x + (s->offsets[t] + r) * s->inputs;
                earlier[k] = t ? s->ys + (s->offsets[t - 1] + r) * n : s->y_start + r * n;
            }
        if (part->d_ih) NAME(add_outer)(count, width, s->inputs, d, width, given, part->d_ih, outer);
        if (part->d_hh) NAME(add_outer)(count, width, n, d, width, earlier, part->d_hh, outer);
        if (part->d_gh) {
            k = 0;
            for (long t = first; t < last; t++)
                for (long r = lo; r < lo + NAME(reached)(part, t); r++, k++)
                    given[k] = t ? s->gates + (s->offsets[t - 1] + r) * width : nothing;
            NAME(add_outer)(count, seen, seen, d, width, given, part->d_gh, outer);
        }
    }
end:
    free(d);
    free(rows_of);
    free(nothing);
    return 0;
}

/* Cuts the sequences into parts of about as many steps; returns how many parts there are. */
static long NAME(cut)(const NAME(sweep) *s, NAME(part) *parts) {
    const long batch = s->sizes[0], total = s->offsets[s->steps - 1] + s->sizes[s->steps - 1];
    long count = 0, done = 0, length = s->steps;
    parts[0].first = 0;
    for (long r = 0; r < batch; r++) {
        while (length > 0 && s->sizes[length - 1] <= r) length--;
        done += length;
        if (r + 1 == batch || done * s->threads >= total * (count + 1)) {
            parts[count++].end = r + 1;
            if (r + 1 < batch) parts[count].first = r + 1;
        }
    }
    return count;
}

typedef struct {
    void *(*work)(void *);
    NAME(part) *parts;
    long count, next;
} NAME(team);

/* What each thread of a team does: parts, while there are any. */
static void NAME(take)(void *argument) {
    NAME(team) *team = argument;
    for (long k; (k = __atomic_fetch_add(&team->next, 1, __ATOMIC_RELAXED)) < team->count;) team->work(team->parts + k);
}

static void *NAME(take_there)(void *argument) {
    NAME(take)(argument);
    return 0;
}

/* Runs all parts, on the threads of `parallel` or, without it, on new ones. */
static void NAME(run)(const NAME(sweep) *s, void *(*work)(void *), NAME(part) *parts, long count) {
    NAME(team) team = {work, parts, count, 0};
    if (count > 1 && s->parallel) {
        s->parallel(NAME(take), &team, count, 0);
        return;
    }
    pthread_t *threads = count > 1 ? malloc(sizeof(pthread_t) * count) : 0;
    long started = 0;
    while (threads && started < count - 1 && !pthread_create(threads + started, 0, NAME(take_there), &team)) started++;
    NAME(take)(&team);
    while (started > 0) pthread_join(threads[--started], 0);
    free(threads);
}

/* Not 0: there was too little memory, and what was to be filled in is not. */
int NAME(lstm_sweep_forward)(const NAME(sweep) *s) {
    const long n = s->cell->hidden, width = s->cell->width, seen = s->w_gh ? s->seen : 0;
    const size_t ih = NAME(packed)(s->inputs, width), hh = NAME(packed)(n, width), gh = NAME(packed)(seen, seen);
    NAME(part) *parts = calloc(s->threads + 1, sizeof *parts);
    REAL *packed = malloc(sizeof(REAL) * (ih + hh + gh));
    const int failed = !parts || !packed;
    if (!failed) {
        NAME(pack)(s->inputs, width, s->w_ih, 1, s->inputs, packed);
        NAME(pack)(n, width, s->w_hh, 1, n, packed + ih);
        NAME(pack)(seen, seen, s->w_gh, 1, seen, packed + ih + hh);
        const long count = NAME(cut)(s, parts);
        for (long k = 0; k < count; k++) {
            parts[k].sweep = s;
            parts[k].ih = packed;
            parts[k].hh = packed + ih;
            parts[k].gh = seen ? packed + ih + hh : 0;
        }
        NAME(run)(s, NAME(forward_part), parts, count);
    }
    free(parts);
    free(packed);
    return failed;
}

/* Where part k adds up a gradient, if it is wanted: the first one in the result, the others in room of their own. */
static REAL *NAME(own)(long k, REAL *wanted, REAL **room, size_t count) {
    if (!k || !wanted) return wanted;
    *room += count;
    return *room - count;
}

static void NAME(add_to)(REAL *restrict sum, const REAL *restrict more, size_t count) {
    if (sum) for (size_t j = 0; j < count; j++) sum[j] += more[j];
}

int NAME(lstm_sweep_backward)(const NAME(sweep) *s) {
    const long n = s->cell->hidden, width = s->cell->width, seen = s->w_gh ? s->seen : 0;
    const long peeps = NAME(peepholes)(s->cell);
    const size_t ih = s->d_x ? NAME(packed)(width, s->inputs) : 0, hh = NAME(packed)(width, n);
    const size_t gh = NAME(packed)(seen, seen);
    const size_t sums = width * s->inputs + width * n + width + peeps + seen * seen;
    NAME(part) *parts = calloc(s->threads + 1, sizeof *parts);
    REAL *packed = malloc(sizeof(REAL) * (ih + hh + gh));
    int failed = !parts || !packed;
    long count = 0;
    if (!failed) {
        if (s->d_x) NAME(pack)(width, s->inputs, s->w_ih, s->inputs, 1, packed);
        NAME(pack)(width, n, s->w_hh, n, 1, packed + ih);
        NAME(pack)(seen, seen, s->w_gh, seen, 1, packed + ih + hh);
        count = NAME(cut)(s, parts);
    }
    for (long k = 0; k < count; k++) {
        NAME(part) *part = parts + k;
        part->sweep = s;
        part->ih = packed;
        part->hh = packed + ih;
        part->gh = seen ? packed + ih + hh : 0;
        REAL *room = part->made = k ? calloc(sums, sizeof(REAL)) : 0;
        failed |= k && !room;
        part->d_ih = NAME(own)(k, s->d_ih, &room, width * s->inputs);
        part->d_hh = NAME(own)(k, s->d_hh, &room, width * n);
        part->d_bias = NAME(own)(k, s->d_bias, &room, width);
        part->d_ph = NAME(own)(k, s->d_ph, &room, peeps);
        part->d_gh = NAME(own)(k, s->d_gh, &room, seen * seen);
    }
    if (!failed) NAME(run)(s, NAME(backward_part), parts, count);
    for (long k = 0; k < count; k++) {
        NAME(part) *part = parts + k;
        failed |= part->failed;
        if (k && !failed) {
            NAME(add_to)(s->d_ih, part->d_ih, width * s->inputs);
            NAME(add_to)(s->d_hh, part->d_hh, width * n);
            NAME(add_to)(s->d_bias, part->d_bias, width);
            NAME(add_to)(s->d_ph, part->d_ph, peeps);
            NAME(add_to)(s->d_gh, part->d_gh, seen * seen);
        }
        free(part->made);
    }
    free(parts);
    free(packed);
    return failed;
}

#undef ROWS_AT_ONCE
#undef LEAST
