/* A stand-in for the NVIDIA driver's library, with the functions and structs of its public header.
 *
 * Two GPUs: the first tells everything, and its load changes from call to call; the second has a
 * name and memory and answers NOT_SUPPORTED to the rest. Controlled by the environment:
 *   FAKE_NVML_INIT   the code with which it refuses to start
 *   FAKE_NVML_GPUS   how many GPUs there are (2)
 *   FAKE_NVML_PIDS   "pid:bytes,pid:bytes": processes on the first; bytes "-" for not known
 *   FAKE_NVML_LOST   set: the first GPU fell off the bus after it was found
 * Compiled with -DOLD_DRIVER it lacks what drivers before 510 lack.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { OK = 0, INVALID = 2, NOT_SUPPORTED = 3, NOT_FOUND = 6, TOO_SMALL = 7, LOST = 15 };
typedef struct { int index; } device;
typedef struct { unsigned long long total, free, used; } memory;
typedef struct { unsigned version; unsigned long long total, reserved, free, used; } memory_v2;
typedef struct { unsigned gpu, memory; } utilisation;
typedef struct {
    unsigned pid;
    unsigned long long used;
    unsigned gpu_instance, compute_instance;
} process;

static device DEVICES[] = {{0}, {1}, {2}};
static const char *NAMES[] = {"NVIDIA GeForce RTX 3090", "NVIDIA T1000", "MIG"};
static const char *UUIDS[] = {"GPU-aaaa1111-0000-0000-0000-000000000001",
                              "GPU-aaaa2222-0000-0000-0000-000000000002",
                              "MIG-bbbb3333-0000-0000-0000-000000000003"};
static const unsigned long long GIB = 1ull << 30, RESERVED = 300ull << 20;
static unsigned calls = 0, started = 0;

static int setting(const char *name, int otherwise) {
    const char *text = getenv(name);
    return text ? atoi(text) : otherwise;
}
static int full(const device *d) {
    if (getenv("FAKE_NVML_LOST")) return LOST;
    return d->index == 0 ? OK : NOT_SUPPORTED;
}

int nvmlInitWithFlags(unsigned flags) {
    (void)flags;
    int refused = setting("FAKE_NVML_INIT", OK);
    if (!refused && started++) fprintf(stderr, "initialised twice\n");
    return refused;
}
int nvmlShutdown(void) { return OK; }
int nvmlSystemGetDriverVersion(char *out, unsigned size) {
    snprintf(out, size, "%s", "470.256.02");
    return OK;
}
int nvmlSystemGetCudaDriverVersion(int *out) { return *out = 11040, OK; }
int nvmlDeviceGetCount_v2(unsigned *out) { return *out = setting("FAKE_NVML_GPUS", 2), OK; }
int nvmlDeviceGetHandleByIndex_v2(unsigned index, device **out) {
    if (index >= 2) return INVALID;
    return *out = &DEVICES[index], OK;
}
int nvmlDeviceGetHandleByUUID(const char *uuid, device **out) {
    for (int i = 0; i < 3; i++)
        if (!strcmp(uuid, UUIDS[i])) return *out = &DEVICES[i], OK;
    return NOT_FOUND;
}
int nvmlDeviceGetName(device *d, char *out, unsigned size) {
    snprintf(out, size, "%s", NAMES[d->index]);
    return OK;
}
int nvmlDeviceGetUUID(device *d, char *out, unsigned size) {
    snprintf(out, size, "%s", UUIDS[d->index]);
    return OK;
}
int nvmlDeviceGetCudaComputeCapability(device *d, int *major, int *minor) {
    *major = 8, *minor = 6;
    return full(d);
}
int nvmlDeviceGetMemoryInfo(device *d, memory *out) {
    if (getenv("FAKE_NVML_LOST")) return LOST;
    unsigned long long total = d->index ? 4 * GIB : 24 * GIB, used = d->index ? GIB : 6 * GIB;
    *out = (memory){total, total - used - RESERVED, used + RESERVED};
    return OK;
}
int nvmlDeviceGetUtilizationRates(device *d, utilisation *out) {
    *out = (utilisation){(40 + 10 * (d->index ? 0 : calls++)) % 100, 5};
    return full(d);
}
int nvmlDeviceGetTemperature(device *d, int sensor, unsigned *out) {
    return *out = 71, sensor ? INVALID : full(d);
}
int nvmlDeviceGetPowerUsage(device *d, unsigned *out) { return *out = 287500, full(d); }
int nvmlDeviceGetEnforcedPowerLimit(device *d, unsigned *out) { return *out = 350000, full(d); }

static int listed(device *d, unsigned *count, process *out) {
    int refused = full(d);
    if (refused) return refused;
    unsigned found = 0, room = *count;
    const char *at = getenv("FAKE_NVML_PIDS");
    while (at && *at) {
        char *end;
        unsigned pid = strtoul(at, &end, 10);
        unsigned long long used = end[1] == '-' ? ~0ull : strtoull(end + 1, NULL, 10);
        if (found < room && out) out[found] = (process){pid, used, ~0u, ~0u};
        found++;
        at = strchr(end, ',');
        if (at) at++;
    }
    *count = found;
    return found > room || (found && !out) ? TOO_SMALL : OK;
}
int nvmlDeviceGetComputeRunningProcesses_v2(device *d, unsigned *count, process *out) {
    return listed(d, count, out);
}
int nvmlDeviceGetGraphicsRunningProcesses_v2(device *d, unsigned *count, process *out) {
    (void)out;
    return *count = 0, full(d);
}

#ifndef OLD_DRIVER
int nvmlSystemGetCudaDriverVersion_v2(int *out) { return *out = 12040, OK; }
int nvmlDeviceGetMemoryInfo_v2(device *d, memory_v2 *out) {
    memory older;
    int refused = nvmlDeviceGetMemoryInfo(d, &older);
    if (out->version != (sizeof(memory_v2) | 2u << 24)) return 25;
    out->total = older.total, out->reserved = RESERVED;
    out->free = older.free, out->used = older.used - RESERVED;
    return refused;
}
int nvmlDeviceGetComputeRunningProcesses_v3(device *d, unsigned *count, process *out) {
    return listed(d, count, out);
}
int nvmlDeviceGetGraphicsRunningProcesses_v3(device *d, unsigned *count, process *out) {
    return listed(d, count, out);
}
#endif
