/* A double of libnvidia-ml.so.1 for tests: the calls that enginebench makes, with scripted values.
 *
 * GPU 0 has every meter, GPU 1 is an old one with few, GPU 2 is partitioned (MIG). The environment
 * says what happens:
 *   STUB_GPUS=n         how many there are (1)
 *   STUB_INIT=code      what nvmlInit answers (0, success)
 *   STUB_LOST_AFTER=n   after n samples of its memory, GPU 0 answers nothing any more
 *   STUB_TOTAL_GIB=n    the memory of GPU 0 (40), of which 10 GiB and more are always in use
 *   STUB_PID=n          the process that computes on GPU 0 (4242)
 *
 * Layouts and codes are those of NVIDIA's public nvml.h.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SUCCESS = 0, INVALID = 2, NOT_SUPPORTED = 3, TOO_SMALL = 7, NOT_FOUND = 6, LOST = 15 };
#define GIB (1ULL << 30)
#define MEMORY_V2 0x02000028u

typedef struct { int index; unsigned samples; } gpu;
typedef struct { unsigned long long total, free, used; } memory_v1;
typedef struct { unsigned version; unsigned long long total, reserved, free, used; } memory_v2;
typedef struct { unsigned gpu, memory; } utilisation;
typedef struct { unsigned pid; unsigned long long used; unsigned instance, compute; } process;

static gpu gpus[] = {{0, 0}, {1, 0}, {2, 0}};
/* GPU 0, sample by sample: the last one stays. */
static const unsigned used_gib[] = {10, 30, 20};
static const unsigned long long reasons[] = {0x1, 0x4 | 0x40, 0x4, 0x4 | 0x1000};

static long number(const char *name, long otherwise) {
    const char *value = getenv(name);
    return value ? atol(value) : otherwise;
}

static int is_lost(const gpu *g) {
    long after = number("STUB_LOST_AFTER", -1);
    return g->index == 0 && after >= 0 && g->samples > (unsigned long)after;
}

/* Every call on a GPU begins so: lost is lost, and an old one has few meters. */
#define ANSWERS(g, has_meter)            \
    do {                                 \
        if (is_lost(g)) return LOST;     \
        if (!(has_meter)) return NOT_SUPPORTED; \
    } while (0)

static unsigned step(const gpu *g, unsigned length) {
    unsigned at = g->samples ? g->samples - 1 : 0;
    return at < length ? at : length - 1;
}

int nvmlInitWithFlags(unsigned flags) { (void)flags; return (int)number("STUB_INIT", SUCCESS); }
int nvmlShutdown(void) { return SUCCESS; }
const char *nvmlErrorString(int code) { return code == LOST ? "GPU is lost" : "scripted error"; }

int nvmlDeviceGetCount_v2(unsigned *count) {
    *count = (unsigned)number("STUB_GPUS", 1);
    return SUCCESS;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, gpu **handle) {
    if (index >= 3) return INVALID;
    *handle = &gpus[index];
    return SUCCESS;
}

int nvmlDeviceGetName(gpu *g, char *name, unsigned length) {
    snprintf(name, length, "Scripted GPU %d", g->index);
    return SUCCESS;
}

int nvmlSystemGetDriverVersion(char *version, unsigned length) {
    snprintf(version, length, "000.00.scripted");
    return SUCCESS;
}

int nvmlDeviceGetCudaComputeCapability(gpu *g, int *major, int *minor) {
    ANSWERS(g, g->index != 1);
    *major = 8; *minor = 9;
    return SUCCESS;
}

int nvmlDeviceGetMigMode(gpu *g, unsigned *current, unsigned *pending) {
    ANSWERS(g, g->index != 1);
    *current = *pending = g->index == 2;
    return SUCCESS;
}

int nvmlDeviceGetMemoryInfo(gpu *g, memory_v1 *m) {
    ANSWERS(g, 1);
    m->total = 16 * GIB; m->used = 3 * GIB; m->free = 13 * GIB;
    return SUCCESS;
}

int nvmlDeviceGetMemoryInfo_v2(gpu *g, memory_v2 *m) {
    if (m->version != MEMORY_V2) return 25; /* ARGUMENT_VERSION_MISMATCH */
    g->samples++;
    ANSWERS(g, g->index != 1);
    m->total = (unsigned long long)number("STUB_TOTAL_GIB", 40) * GIB; m->reserved = GIB / 2;
    m->used = used_gib[step(g, 3)] * GIB; m->free = m->total - m->used - m->reserved;
    return SUCCESS;
}

int nvmlDeviceGetUtilizationRates(gpu *g, utilisation *u) {
    ANSWERS(g, g->index != 2);
    u->gpu = g->index == 0 ? 75 : 50; u->memory = 25;
    return SUCCESS;
}

int nvmlDeviceGetPowerUsage(gpu *g, unsigned *milliwatts) {
    ANSWERS(g, 1);
    *milliwatts = g->index == 1 ? 60000 : 250500;
    return SUCCESS;
}

int nvmlDeviceGetTotalEnergyConsumption(gpu *g, unsigned long long *millijoules) {
    ANSWERS(g, g->index != 1);
    *millijoules = 1500000 + 250ULL * g->samples;
    return SUCCESS;
}

int nvmlDeviceGetEnforcedPowerLimit(gpu *g, unsigned *milliwatts) {
    ANSWERS(g, 1);
    *milliwatts = 300000;
    return SUCCESS;
}

int nvmlDeviceGetClockInfo(gpu *g, int kind, unsigned *mhz) {
    ANSWERS(g, g->index != 1);
    *mhz = kind == 1 ? 1410 : kind == 2 ? 1593 : 0; /* SM, memory */
    return SUCCESS;
}

int nvmlDeviceGetTemperature(gpu *g, int sensor, unsigned *celsius) {
    (void)sensor;
    ANSWERS(g, 1);
    *celsius = 61;
    return SUCCESS;
}

int nvmlDeviceGetCurrentClocksEventReasons(gpu *g, unsigned long long *bits) {
    ANSWERS(g, g->index != 1);
    *bits = g->index == 2 ? 0 : reasons[step(g, 4)];
    return SUCCESS;
}

int nvmlDeviceGetComputeRunningProcesses_v3(gpu *g, unsigned *count, process *found) {
    unsigned here = g->index == 0 ? 2 : g->index == 2 ? 2 : 0;
    ANSWERS(g, g->index != 1);
    if (*count < here || !found) { *count = here; return TOO_SMALL; }
    *count = here;
    memset(found, 0, here * sizeof *found);
    if (g->index == 0) {
        found[0].pid = (unsigned)number("STUB_PID", 4242);
        found[0].used = 9 * GIB;
        found[1].pid = 4343;
        found[1].used = ~0ULL; /* NVML_VALUE_NOT_AVAILABLE */
    } else { /* the same process in two instances */
        found[0].pid = found[1].pid = 4444;
        found[0].used = 2 * GIB;
        found[1].used = 3 * GIB;
    }
    return SUCCESS;
}
