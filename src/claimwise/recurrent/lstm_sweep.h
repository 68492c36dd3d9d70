/* A layer of the LSTM family over all steps of packed rows, forward and backward, products included.

   Step t has sizes[t] rows from row offsets[t] on; sizes never grow, so that row r of every step belongs to sequence r.
   Threads share the work in one of two ways. By sequences, which do not see each other: a thread takes some of them
   through all steps and waits for nobody, but reads all weights at every step. By units: a thread keeps the weights of
   some units close by and waits for the others once a step, which pays where weights are many and sequences few. */

#define LEAST(a, b) ((a) < (b) ? (a) : (b))
#define MOST(a, b) ((a) > (b) ? (a) : (b))
#define GATHERED_ROWS 256            /* rows whose gradients are gathered at once: they stay in the cache */
#define INPUT_ROWS 72                /* rows whose input products are made at once: likewise */

typedef struct {
    const NAME(lstm) *cell;
    long inputs, seen, steps;                            /* seen: width of the gates that gates see, or 0 */
    long threads, by_units;
    /* Functions of the OpenMP that torch uses: GOMP_parallel, GOMP_barrier, omp_get_thread_num, omp_get_num_threads.
       They may be NULL; by_units needs them. */
    void (*parallel)(void (*)(void *), void *, unsigned, unsigned);
    void (*barrier)(void);
    int (*thread)(void);
    int (*team)(void);
    const long *sizes, *offsets;
    const REAL *x, *w_ih, *w_hh, *w_gh, *bias;           /* weights are (width, k); w_gh, bias may be NULL */
    const REAL *y_start, *c_start;
    REAL *gates, *ys, *cs;                               /* all that the way back needs */
    const REAL *d_ys;                                    /* may be NULL */
    REAL *d_y, *d_c;                                     /* of the last states, become those of the first */
    REAL *d_x, *d_ih, *d_hh, *d_bias, *d_ph, *d_gh;      /* NULL: not wanted; all but d_x are 0 at the start */
} NAME(sweep);

/* What one thread does: some of the sequences, or share `index` of `of` of the units. */
typedef struct {
    const NAME(sweep) *sweep;
    long first, end, index, of;
    REAL *ih, *hh, *gh;                                  /* packed; by_units each packs its own share */
    REAL *d, *d_seen;                                    /* gradients of gathered rows, and of the next step's gates */
    REAL *own;                                           /* room of this thread alone */
    const REAL **rows_of;
    const REAL *nothing;                                 /* the gates before the first step */
    REAL *d_ih, *d_hh, *d_bias, *d_ph, *d_gh;
} NAME(part);

/* Numbers of peepholes: of each gate that is there. */
static long NAME(peepholes)(const NAME(lstm) *cell) {
    return cell->hidden * ((cell->input >= 0) + (cell->forget >= 0) + (cell->output >= 0));
}

static long NAME(total)(const NAME(sweep) *s) { return s->offsets[s->steps - 1] + s->sizes[s->steps - 1]; }

/* Sequences from part->first on that reach step t. */
static long NAME(reached)(const NAME(part) *part, long t) {
    return MOST(0, LEAST(part->end, part->sweep->sizes[t]) - part->first);
}

/* A matrix whose columns are `blocks` blocks of `columns`, each packed by itself. By units, a thread's share are its
   panels of every block, so that it has all gates of its units; else the blocks are one. */

static long NAME(packed_blocks)(long k, long blocks, long columns) { return blocks * NAME(packed)(k, columns); }

/* The share's first column of a block; share index + 1 begins where share index ends. */
static long NAME(share)(long columns, long index, long of) {
    return LEAST(columns, NAME(panels)(columns) * index / of * COLUMNS);
}

static void NAME(pack_share)(
    const NAME(part) *part, long k, long blocks, long columns, const REAL *b, long row, long column, REAL *packed
) {
    const long from = NAME(share)(columns, part->index, part->of), to = NAME(share)(columns, part->index + 1, part->of);
    for (long block = 0; block < blocks && from < to; block++)
        NAME(pack)(
            k, to - from, b + (block * columns + from) * column, row, column,
            packed + block * NAME(packed)(k, columns) + from * k
        );
}

static void NAME(add_share)(
    const NAME(part) *part, long rows, long k, long blocks, long columns, const REAL *a, long a_row, const REAL *packed,
    REAL *c, long c_row
) {
    const long from = NAME(share)(columns, part->index, part->of), to = NAME(share)(columns, part->index + 1, part->of);
    for (long block = 0; block < blocks && from < to; block++)
        NAME(add_product)(
            rows, k, to - from, a, a_row, packed + block * NAME(packed)(k, columns) + from * k,
            c + block * columns + from, c_row
        );
}

/* Sets the share to 0, or to what `row` has there. */
static void NAME(set_share)(
    const NAME(part) *part, long rows, long blocks, long columns, const REAL *row, REAL *c, long c_row
) {
    const long from = NAME(share)(columns, part->index, part->of), to = NAME(share)(columns, part->index + 1, part->of);
    for (long r = 0; r < rows; r++)
        for (long block = 0; block < blocks; block++) {
            REAL *begin = c + r * c_row + block * columns + from;
            if (row) memcpy(begin, row + block * columns + from, sizeof(REAL) * (to - from));
            else memset(begin, 0, sizeof(REAL) * (to - from));
        }
}

/* Blocks of the gates, and of the gates that are seen, as they are packed. */
static long NAME(blocks)(const NAME(sweep) *s, long width) { return s->by_units ? width / s->cell->hidden : 1; }

static void NAME(wait)(const NAME(part) *part) {
    if (part->of > 1) part->sweep->barrier();
}

/* Forward */

static void NAME(pack_forward)(const NAME(part) *part) {
    const NAME(sweep) *s = part->sweep;
    const long n = s->cell->hidden, width = s->cell->width, gates = NAME(blocks)(s, width);
    NAME(pack_share)(part, s->inputs, gates, width / gates, s->w_ih, 1, s->inputs, part->ih);
    NAME(pack_share)(part, n, gates, width / gates, s->w_hh, 1, n, part->hh);
    if (!s->seen) return;
    const long seen = NAME(blocks)(s, s->seen);
    NAME(pack_share)(part, s->seen, seen, s->seen / seen, s->w_gh, 1, s->seen, part->gh);
}

/* Input products of some rows. */
static void NAME(add_inputs)(const NAME(part) *part, long first, long end) {
    const NAME(sweep) *s = part->sweep;
    const long width = s->cell->width, gates = NAME(blocks)(s, width);
    for (long r = first; r < end; r += INPUT_ROWS) {
        const long rows = LEAST(INPUT_ROWS, end - r);
        REAL *pre = s->gates + r * width;
        NAME(set_share)(part, rows, gates, width / gates, s->bias, pre, width);
        NAME(add_share)(
            part, rows, s->inputs, gates, width / gates, s->x + r * s->inputs, s->inputs, part->ih, pre, width
        );
    }
}

static void NAME(input_part)(NAME(part) *part) { NAME(add_inputs)(part, part->first, part->end); }

static void NAME(forward_part)(NAME(part) *part) {
    const NAME(sweep) *s = part->sweep;
    const NAME(lstm) *cell = s->cell;
    const long n = cell->hidden, width = cell->width, lo = part->first, gates = NAME(blocks)(s, width);
    const long from = NAME(share)(n, part->index, part->of), to = NAME(share)(n, part->index + 1, part->of);
    if (s->by_units) {
        NAME(pack_forward)(part);
        NAME(add_inputs)(part, 0, NAME(total)(s));
    }
    for (long t = 0; t < s->steps; t++) {
        const long rows = NAME(reached)(part, t), here = s->offsets[t] + lo, before = t ? s->offsets[t - 1] + lo : 0;
        if (!rows) break;
        const REAL *y = t ? s->ys + before * n : s->y_start + lo * n;
        const REAL *c = t ? s->cs + before * n : s->c_start + lo * n;
        REAL *pre = s->gates + here * width;
        NAME(add_share)(part, rows, n, gates, width / gates, y, n, part->hh, pre, width);
        if (s->seen && t) {
            const long seen = NAME(blocks)(s, s->seen);
            const REAL *earlier = s->gates + before * width;
            NAME(add_share)(part, rows, s->seen, seen, s->seen / seen, earlier, width, part->gh, pre, width);
        }
        NAME(lstm_forward)(cell, rows, from, to, pre, c, s->cs + here * n, s->ys + here * n);
        NAME(wait)(part);
    }
}

/* Backward */

static void NAME(pack_backward)(const NAME(part) *part) {
    const NAME(sweep) *s = part->sweep;
    const long n = s->cell->hidden, width = s->cell->width;
    if (s->d_x) NAME(pack_share)(part, width, 1, s->inputs, s->w_ih, s->inputs, 1, part->ih);
    NAME(pack_share)(part, width, 1, n, s->w_hh, n, 1, part->hh);
    if (!s->seen) return;
    const long seen = NAME(blocks)(s, s->seen);
    NAME(pack_share)(part, s->seen, seen, s->seen / seen, s->w_gh, s->seen, 1, part->gh);
}

static long NAME(capacity)(const NAME(part) *part) { return MOST(part->end - part->first, GATHERED_ROWS); }

static int NAME(has_all)(const NAME(part) *part) { return part->first == 0 && part->end == part->sweep->sizes[0]; }

/* Numbers of room that a thread needs for itself. */
static size_t NAME(own_room)(const NAME(part) *part) {
    const NAME(sweep) *s = part->sweep;
    const long widest = MOST(s->inputs, MOST(s->cell->hidden, s->seen));
    const size_t copied = s->d_x && !NAME(has_all)(part) ? NAME(capacity)(part) * s->inputs : 0;
    return s->cell->width + NAME(peepholes)(s->cell) + MOST(copied, (size_t)NAME(outer_room)(widest));
}

/* sum (rows of ours, columns) += the transpose of d's columns times rows of another matrix. */
static void NAME(gather)(
    const NAME(part) *part, long rows, long columns_of_d, long columns, const REAL *const *rows_of, REAL *sum,
    REAL *room
) {
    const long from = columns_of_d * part->index / part->of, to = columns_of_d * (part->index + 1) / part->of;
    if (sum)
        NAME(add_outer)(
            rows, to - from, columns, part->d + from, part->sweep->cell->width, rows_of, sum + from * columns, room
        );
}

static void NAME(backward_part)(NAME(part) *part) {
    const NAME(sweep) *s = part->sweep;
    const NAME(lstm) *cell = s->cell;
    const long n = cell->hidden, width = cell->width, seen = s->seen, lo = part->first, inputs = s->inputs;
    const long from = NAME(share)(n, part->index, part->of), to = NAME(share)(n, part->index + 1, part->of);
    const long peeps = NAME(peepholes)(cell), capacity = NAME(capacity)(part);
    REAL *bias = part->own, *peep = bias + width, *room = peep + peeps;
    REAL *d_y = s->d_y + lo * n, *d_c = s->d_c + lo * n;
    if (s->by_units) NAME(pack_backward)(part);
    for (long last = s->steps, first; last > 0; last = first) {
        long count = NAME(reached)(part, last - 1);
        for (first = last - 1; first > 0; first--) {
            const long more = NAME(reached)(part, first - 1);
            if (count + more > capacity) break;
            count += more;
        }
        memset(bias, 0, sizeof(REAL) * (width + peeps));
        REAL *now = part->d + count * width;
        for (long t = last - 1; t >= first; t--) {
            const long rows = NAME(reached)(part, t), here = s->offsets[t] + lo;
            if (!rows) continue;
            const REAL *c = t ? s->cs + (s->offsets[t - 1] + lo) * n : s->c_start + lo * n;
            now -= rows * width;
            NAME(lstm_backward)(
                cell, rows, from, to, s->gates + here * width, c, s->cs + here * n, s->d_ys ? s->d_ys + here * n : 0,
                d_y, part->d_seen, seen, d_c, now
            );
            if (part->d_bias)
                for (long r = 0; r < rows; r++)
                    for (long block = 0; block < width; block += n)
                        for (long j = block + from; j < block + to; j++) bias[j] += now[r * width + j];
            if (part->d_ph) NAME(lstm_peepholes)(cell, rows, from, to, now, c, s->cs + here * n, peep);
            NAME(wait)(part);
            NAME(set_share)(part, rows, 1, n, 0, d_y, n);
            NAME(add_share)(part, rows, width, 1, n, now, width, part->hh, d_y, n);
            if (seen) {
                const long blocks = NAME(blocks)(s, seen);
                NAME(set_share)(part, rows, blocks, seen / blocks, 0, part->d_seen, seen);
                NAME(add_share)(part, rows, seen, blocks, seen / blocks, now, width, part->gh, part->d_seen, seen);
            }
        }
        if (part->d_bias)
            for (long block = 0; block < width; block += n)
                for (long j = block + from; j < block + to; j++) part->d_bias[j] += bias[j];
        if (part->d_ph)
            for (long gate = 0; gate < peeps; gate += n)
                for (long j = gate + from; j < gate + to; j++) part->d_ph[j] += peep[j];
        if (s->d_x) {
            const int all = NAME(has_all)(part);         /* then rows of ours are neighbours */
            REAL *d_x = all ? s->d_x + s->offsets[first] * inputs : room;
            NAME(set_share)(part, count, 1, inputs, 0, d_x, inputs);
            NAME(add_share)(part, count, width, 1, inputs, part->d, width, part->ih, d_x, inputs);
            for (long t = first; t < last && !all; t++) {
                const size_t found = NAME(reached)(part, t) * inputs;
                memcpy(s->d_x + (s->offsets[t] + lo) * inputs, d_x, sizeof(REAL) * found);
                d_x += found;
            }
        }
        const REAL **given = part->rows_of, **earlier = given + capacity;
        long k = 0;
        for (long t = first; t < last; t++)
            for (long r = lo; r < lo + NAME(reached)(part, t); r++, k++) {
                given[k] = s->x + (s->offsets[t] + r) * inputs;
                earlier[k] = t ? s->ys + (s->offsets[t - 1] + r) * n : s->y_start + r * n;
            }
        NAME(gather)(part, count, width, inputs, given, part->d_ih, room);
        NAME(gather)(part, count, width, n, earlier, part->d_hh, room);
        if (part->d_gh) {
            k = 0;
            for (long t = first; t < last; t++)
                for (long r = lo; r < lo + NAME(reached)(part, t); r++, k++)
                    given[k] = t ? s->gates + (s->offsets[t - 1] + r) * width : part->nothing;
            NAME(gather)(part, count, seen, seen, given, part->d_gh, room);
        }
        NAME(wait)(part);                                /* d will be overwritten */
    }
}

/* Threads */

/* Cuts the sequences into at most s->threads parts of about as many steps; returns how many there are. */
static long NAME(cut)(const NAME(sweep) *s, NAME(part) *parts) {
    const long batch = s->sizes[0], total = NAME(total)(s);
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
    void (*work)(NAME(part) *);
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

/* By units: the thread's own share, of as many as there turn out to be. */
static void NAME(take_share)(void *argument) {
    NAME(team) *team = argument;
    const NAME(sweep) *s = team->parts->sweep;
    NAME(part) *part = team->parts + s->thread();
    part->index = s->thread();
    part->of = s->team();
    team->work(part);
}

/* Runs all parts, on the threads of `parallel` or, without it, on new ones. The team of `parallel` is always as large
   as torch makes it, although some of it may find nothing to do: for a smaller one its threads would be ended. */
static void NAME(run)(const NAME(sweep) *s, void (*work)(NAME(part) *), NAME(part) *parts, long count) {
    NAME(team) team = {work, parts, count, 0};
    if (s->by_units) {
        s->parallel(NAME(take_share), &team, s->threads, 0);
        return;
    }
    if (count > 1 && s->parallel) {
        s->parallel(NAME(take), &team, 0, 0);
        return;
    }
    pthread_t *threads = count > 1 ? malloc(sizeof(pthread_t) * count) : 0;
    long started = 0;
    while (threads && started < count - 1 && !pthread_create(threads + started, 0, NAME(take_there), &team)) started++;
    NAME(take)(&team);
    while (started > 0) pthread_join(threads[--started], 0);
    free(threads);
}

/* Parts by units, each of all sequences, or cut by sequences; returns how many there are. */
static long NAME(share_out)(const NAME(sweep) *s, NAME(part) *parts) {
    for (long k = 0; k < s->threads; k++) parts[k] = (NAME(part)){.sweep = s, .end = s->sizes[0], .of = 1};
    return s->by_units ? s->threads : NAME(cut)(s, parts);
}

/* Not 0: there was too little memory, and what was to be filled in is not. */
int NAME(lstm_sweep_forward)(const NAME(sweep) *s) {
    const long n = s->cell->hidden, width = s->cell->width, gates = NAME(blocks)(s, width);
    const long seen = s->seen ? NAME(blocks)(s, s->seen) : 1;
    const size_t ih = NAME(packed_blocks)(s->inputs, gates, width / gates);
    const size_t hh = NAME(packed_blocks)(n, gates, width / gates);
    const size_t gh = NAME(packed_blocks)(s->seen, seen, s->seen / seen);
    NAME(part) *parts = malloc(sizeof *parts * s->threads);
    REAL *packed = malloc(sizeof(REAL) * (ih + hh + gh));
    const int failed = !parts || !packed;
    if (!failed) {
        const long count = NAME(share_out)(s, parts), total = NAME(total)(s);
        for (long k = 0; k < s->threads; k++) {
            parts[k].ih = packed;
            parts[k].hh = packed + ih;
            parts[k].gh = packed + ih + hh;
        }
        if (!s->by_units) {
            NAME(pack_forward)(parts);
            for (long k = 0; k < s->threads; k++) {      /* rows, of whatever sequence */
                parts[k].first = total * k / s->threads;
                parts[k].end = total * (k + 1) / s->threads;
            }
            NAME(run)(s, NAME(input_part), parts, s->threads);
            NAME(cut)(s, parts);
        }
        NAME(run)(s, NAME(forward_part), parts, count);
    }
    free(parts);
    free(packed);
    return failed;
}

/* Takes so many numbers from the room. */
static REAL *NAME(taken)(REAL **room, size_t count) {
    *room += count;
    return *room - count;
}

/* Where part k adds up a gradient, if it is wanted: in the result, or in room of its own. */
static REAL *NAME(sum_of)(long k, REAL *wanted, REAL **room, size_t count) {
    return k && wanted ? memset(NAME(taken)(room, count), 0, sizeof(REAL) * count) : wanted;
}

static void NAME(add_to)(REAL *restrict sum, const REAL *restrict more, size_t count) {
    if (sum) for (size_t j = 0; j < count; j++) sum[j] += more[j];
}

int NAME(lstm_sweep_backward)(const NAME(sweep) *s) {
    const long n = s->cell->hidden, width = s->cell->width, seen = s->seen, peeps = NAME(peepholes)(s->cell);
    const long blocks = seen ? NAME(blocks)(s, seen) : 1;
    const size_t ih = s->d_x ? NAME(packed)(width, s->inputs) : 0, hh = NAME(packed)(width, n);
    const size_t gh = NAME(packed_blocks)(seen, blocks, seen / blocks);
    const size_t sums = (s->d_ih ? width * s->inputs : 0) + (s->d_hh ? width * n : 0) + (s->d_bias ? width : 0)
                      + (s->d_ph ? peeps : 0) + (s->d_gh ? seen * seen : 0);
    NAME(part) *parts = malloc(sizeof *parts * s->threads);
    REAL *made = 0;
    const REAL **rows_of = 0;
    long count = 0;
    if (parts) {
        size_t room = ih + hh + gh + seen, rows = 0;
        count = NAME(share_out)(s, parts);
        for (long k = 0; k < count; k++) {
            const size_t capacity = NAME(capacity)(parts + k);
            if (!k || !s->by_units) room += capacity * width + (parts[k].end - parts[k].first) * seen;
            if (k && !s->by_units) room += sums;
            room += NAME(own_room)(parts + k);
            rows += 2 * capacity;
        }
        made = malloc(sizeof(REAL) * room);
        rows_of = malloc(sizeof(REAL *) * rows);
    }
    const int failed = !made || !rows_of;
    if (!failed) {
        REAL *room = made, *packed_ih = NAME(taken)(&room, ih), *packed_hh = NAME(taken)(&room, hh);
        REAL *packed_gh = NAME(taken)(&room, gh), *nothing = memset(NAME(taken)(&room, seen), 0, sizeof(REAL) * seen);
        const REAL **pointers = rows_of;
        for (long k = 0; k < count; k++) {
            NAME(part) *part = parts + k;
            const size_t capacity = NAME(capacity)(part), before = (part->end - part->first) * seen;
            const int other = k && !s->by_units;         /* by units, what is shared is shared */
            part->ih = packed_ih;
            part->hh = packed_hh;
            part->gh = packed_gh;
            part->nothing = nothing;
            part->d = k && !other ? parts->d : NAME(taken)(&room, capacity * width);
            part->d_seen = 0;
            if (seen && (!k || other)) part->d_seen = memset(NAME(taken)(&room, before), 0, sizeof(REAL) * before);
            else if (seen) part->d_seen = parts->d_seen;
            part->own = NAME(taken)(&room, NAME(own_room)(part));
            part->rows_of = pointers;
            pointers += 2 * capacity;
            part->d_ih = NAME(sum_of)(other, s->d_ih, &room, width * s->inputs);
            part->d_hh = NAME(sum_of)(other, s->d_hh, &room, width * n);
            part->d_bias = NAME(sum_of)(other, s->d_bias, &room, width);
            part->d_ph = NAME(sum_of)(other, s->d_ph, &room, peeps);
            part->d_gh = NAME(sum_of)(other, s->d_gh, &room, seen * seen);
        }
        if (!s->by_units) NAME(pack_backward)(parts);
        NAME(run)(s, NAME(backward_part), parts, count);
        for (long k = 1; k < count && !s->by_units; k++) {
            NAME(add_to)(s->d_ih, parts[k].d_ih, width * s->inputs);
            NAME(add_to)(s->d_hh, parts[k].d_hh, width * n);
            NAME(add_to)(s->d_bias, parts[k].d_bias, width);
            NAME(add_to)(s->d_ph, parts[k].d_ph, peeps);
            NAME(add_to)(s->d_gh, parts[k].d_gh, seen * seen);
        }
    }
    free(parts);
    free(made);
    free(rows_of);
    return failed;
}

#undef LEAST
#undef MOST
#undef GATHERED_ROWS
#undef INPUT_ROWS
#undef COLUMNS
#undef LANES
