/* A vanilla LSTM with full gate recurrence, forward and backward, by three threads that ThreadSanitizer can watch: teams
   and barriers of pthreads stand for OpenMP's, which it does not know. test_compiled_lstm.py builds and runs it. With
   -DNEVER_WAIT nobody waits at a barrier. */

#include "kernels.c"

enum { THREADS = 3, STEPS = 30, BATCH = 21, INPUTS = 19, HIDDEN = 33, WIDTH = 4 * HIDDEN, SEEN = 3 * HIDDEN };

static __thread int number;
static pthread_barrier_t barrier;

struct one {
    void (*work)(void *);
    void *argument;
    int number;
};

static void *run_one(void *argument) {
    struct one *one = argument;
    number = one->number;
    one->work(one->argument);
    return 0;
}

static void parallel(void (*work)(void *), void *argument, unsigned threads, unsigned flags) {
    (void)threads, (void)flags;
    pthread_t running[THREADS];
    struct one each[THREADS];
    pthread_barrier_init(&barrier, 0, THREADS);
    for (int k = 0; k < THREADS; k++) {
        each[k] = (struct one){work, argument, k};
        pthread_create(running + k, 0, run_one, each + k);
    }
    for (int k = 0; k < THREADS; k++) pthread_join(running[k], 0);
    pthread_barrier_destroy(&barrier);
}

static void wait_here(void) {
#ifndef NEVER_WAIT
    pthread_barrier_wait(&barrier);
#endif
}

static int thread(void) { return number; }
static int team(void) { return THREADS; }

static float *drawn(size_t count) {
    float *made = malloc(sizeof(float) * count);
    for (size_t k = 0; k < count; k++) made[k] = rand() / (float)RAND_MAX - 0.5f;
    return made;
}

int main(void) {
    long sizes[STEPS], offsets[STEPS], rows = 0;
    for (long t = 0; t < STEPS; t++) {                   /* sequences of unequal length, in several pieces backward */
        sizes[t] = BATCH - t / 2;
        offsets[t] = rows;
        rows += sizes[t];
    }
    float *peepholes = drawn(3 * HIDDEN);
    lstm_float cell = {
        .hidden = HIDDEN, .width = WIDTH, .input = 0, .forget = HIDDEN, .output = 2 * HIDDEN, .candidate = 3 * HIDDEN,
        .input_activation = 1, .output_activation = 1,
        .peep_input = peepholes, .peep_forget = peepholes + HIDDEN, .peep_output = peepholes + 2 * HIDDEN,
    };
    for (int by_units = 0; by_units < 2; by_units++) {
        sweep_float sweep = {
            .cell = &cell, .inputs = INPUTS, .seen = SEEN, .steps = STEPS, .threads = THREADS, .by_units = by_units,
            .parallel = parallel, .barrier = wait_here, .thread = thread, .team = team, .sizes = sizes,
            .offsets = offsets, .x = drawn(rows * INPUTS), .w_ih = drawn(WIDTH * INPUTS), .w_hh = drawn(WIDTH * HIDDEN),
            .w_gh = drawn(SEEN * SEEN), .bias = drawn(WIDTH), .y_start = drawn(BATCH * HIDDEN),
            .c_start = drawn(BATCH * HIDDEN), .gates = drawn(rows * WIDTH), .ys = drawn(rows * HIDDEN),
            .cs = drawn(rows * HIDDEN), .d_ys = drawn(rows * HIDDEN), .d_y = drawn(BATCH * HIDDEN),
            .d_c = drawn(BATCH * HIDDEN), .d_x = drawn(rows * INPUTS), .d_ih = drawn(WIDTH * INPUTS),
            .d_hh = drawn(WIDTH * HIDDEN), .d_bias = drawn(WIDTH), .d_ph = drawn(3 * HIDDEN), .d_gh = drawn(SEEN * SEEN),
        };
        if (lstm_sweep_forward_float(&sweep) || lstm_sweep_backward_float(&sweep)) return 1;
    }
    return 0;
}
