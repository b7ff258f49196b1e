/* For tests of a clock that jumps, beside libfaketime, which doesn't know this function: a timed wait by the wall clock, as the kernel
 * does it when that clock is set. It ends when the clock has reached the deadline, however the clock got there: at once if it is set ahead,
 * that much later if it is set back while the wait is in progress. librdkafka waits in this way. */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <sys/time.h>
#include <threads.h>
#include <time.h>

#define SLICE_NS 10000000LL

/* What is left by the clock that libfaketime shows. */
static long long left_ns(const struct timespec *deadline)
{
    struct timeval now;
    gettimeofday(&now, NULL);
    return (deadline->tv_sec - now.tv_sec) * 1000000000LL + deadline->tv_nsec - now.tv_usec * 1000LL;
}

int cnd_timedwait(cnd_t *restrict condition, mtx_t *restrict mutex, const struct timespec *restrict deadline)
{
    for (;;) {
        long long left = left_ns(deadline);
        if (left <= 0)
            return thrd_timedout;
        struct timespec until;
        clock_gettime(CLOCK_MONOTONIC, &until);
        long long ns = until.tv_nsec + (left < SLICE_NS ? left : SLICE_NS);
        until.tv_sec += ns / 1000000000LL;
        until.tv_nsec = ns % 1000000000LL;
        /* glibc's types of <threads.h> are those of pthread */
        int error = pthread_cond_clockwait((pthread_cond_t *)condition, (pthread_mutex_t *)mutex, CLOCK_MONOTONIC, &until);
        if (error == 0)
            return thrd_success;
        if (error != ETIMEDOUT)
            return thrd_error;
    }
}
