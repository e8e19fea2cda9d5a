// A libcuda.so.1 that works on the host's memory: what the CUDA seam calls of the driver, so that cuda-bindings itself
// is tested where there is no GPU. Everything happens at once; in a stream that is captured it is noted instead.
// Two kernels are there: `letterbox`, compiled from its CUDA source, and `add`.

#include <dlfcn.h>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <string>
#include <vector>
#include "letterbox.cu"

typedef int Result;
typedef unsigned long long Pointer;
typedef std::vector<std::function<void()>> Actions;

enum { SUCCESS = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, INVALID_DEVICE = 101, INVALID_CONTEXT = 201, NOT_FOUND = 500,
       CAPTURE_UNMATCHED = 905 };
enum { LETTERBOX = 1, ADD = 2 };

static std::map<void *, Actions *> captures;
static thread_local int entered;
static char context;

static Result act(void *stream, std::function<void()> action) {
    if (!entered) return INVALID_CONTEXT;
    auto capture = captures.find(stream);
    if (capture == captures.end())
        action();
    else
        capture->second->push_back(action);
    return SUCCESS;
}

static Result make(void **handle) {
    if (!entered) return INVALID_CONTEXT;
    *handle = malloc(8);
    return SUCCESS;
}

template <typename T> static T value(void *place) {
    T found;
    memcpy(&found, place, sizeof found);
    return found;
}

extern "C" {
Result cuInit(unsigned) { return SUCCESS; }
Result cuDriverGetVersion(int *version) { return *version = 13000, SUCCESS; }
Result cuDeviceGetCount(int *count) { return *count = 1, SUCCESS; }
Result cuDeviceGet(int *device, int index) { return *device = 0, index ? INVALID_DEVICE : SUCCESS; }
Result cuDeviceGetName(char *name, int size, int) { return strncpy(name, "Host", (size_t)size), SUCCESS; }
Result cuDeviceGetAttribute(int *found, int, int) { return *found = 9, SUCCESS; }
Result cuDeviceTotalMem_v2(size_t *size, int) { return *size = 1ull << 30, SUCCESS; }
Result cuDevicePrimaryCtxRetain(void **found, int) { return *found = &context, SUCCESS; }
Result cuDevicePrimaryCtxRelease_v2(int) { return SUCCESS; }
Result cuCtxPushCurrent_v2(void *pushed) { return pushed == &context ? entered++, SUCCESS : INVALID_CONTEXT; }
Result cuCtxPopCurrent_v2(void **popped) { return entered ? (*popped = &context, entered--, SUCCESS) : INVALID_CONTEXT; }

Result cuMemGetInfo_v2(size_t *free, size_t *all) { return *free = 1u << 29, *all = 1u << 30, SUCCESS; }
Result cuMemAlloc_v2(Pointer *found, size_t size) {
    if (!entered) return INVALID_CONTEXT;
    if (size > 1ull << 30) return OUT_OF_MEMORY;
    return *found = (Pointer)malloc(size), SUCCESS;
}
Result cuMemFree_v2(Pointer memory) { return free((void *)memory), SUCCESS; }
Result cuMemHostAlloc(void **found, size_t size, unsigned) { return *found = malloc(size), SUCCESS; }
Result cuMemFreeHost(void *memory) { return free(memory), SUCCESS; }
Result cuMemHostRegister_v2(void *, size_t, unsigned) { return entered ? SUCCESS : INVALID_CONTEXT; }
Result cuMemHostUnregister(void *) { return entered ? SUCCESS : INVALID_CONTEXT; }
Result cuMemcpyHtoDAsync_v2(Pointer target, const void *source, size_t size, void *stream) {
    return act(stream, [=] { memcpy((void *)target, source, size); });
}
Result cuMemcpyDtoHAsync_v2(void *target, Pointer source, size_t size, void *stream) {
    return act(stream, [=] { memcpy(target, (void *)source, size); });
}
Result cuMemcpyDtoDAsync_v2(Pointer target, Pointer source, size_t size, void *stream) {
    return act(stream, [=] { memcpy((void *)target, (void *)source, size); });
}

// Streams are non-blocking: anything else is refused, so that a test fails.
Result cuStreamCreateWithPriority(void **stream, unsigned flags, int) { return flags == 1 ? make(stream) : INVALID_VALUE; }
Result cuStreamDestroy_v2(void *stream) { return free(stream), SUCCESS; }
Result cuStreamSynchronize(void *) { return SUCCESS; }
Result cuStreamWaitEvent(void *, void *, unsigned) { return SUCCESS; }
Result cuEventCreate(void **event, unsigned) { return make(event); }
Result cuEventDestroy_v2(void *event) { return free(event), SUCCESS; }
Result cuEventQuery(void *) { return SUCCESS; }
Result cuEventRecord(void *, void *) { return SUCCESS; }
Result cuEventSynchronize(void *) { return SUCCESS; }
Result cuEventElapsedTime_v2(float *milliseconds, void *, void *) { return *milliseconds = 0.5f, SUCCESS; }

Result cuModuleLoadData(void **module, const void *code) { return strlen((const char *)code) ? make(module) : INVALID_VALUE; }
Result cuModuleUnload(void *module) { return free(module), SUCCESS; }
Result cuModuleGetFunction(void **function, void *, const char *name) {
    std::string asked(name);
    *function = (void *)(long)(asked == "letterbox" ? LETTERBOX : asked == "add" ? ADD : 0);
    return *function ? SUCCESS : NOT_FOUND;
}
Result cuLaunchKernel(void *function, unsigned grid_x, unsigned grid_y, unsigned, unsigned block_x, unsigned block_y,
                      unsigned, unsigned, void *stream, void **places, void **) {
    if ((long)function == ADD) {
        Byte *memory = value<Byte *>(places[0]);
        int by = value<int>(places[1]);
        return act(stream, [=] {
            for (unsigned index = 0; index < grid_x * block_x; index++) memory[index] += (Byte)by;
        });
    }
    std::vector<long long> wide;
    std::vector<int> numbers;
    for (int index = 0; index < 8; index++) wide.push_back(value<long long>(places[index]));
    for (int index = 8; index < 27; index++) numbers.push_back(value<int>(places[index]));
    return act(stream, [=] {
        letterbox_grid((int)grid_x, (int)grid_y, (int)block_x, (int)block_y, (Byte *)wide[0], wide[1], (Byte *)wide[2],
                       wide[3], (Byte *)wide[4], wide[5], (Byte *)wide[6], wide[7], numbers.data());
    });
}

// Only this thread's calls are captured: mode 1.
Result cuStreamBeginCapture_v2(void *stream, int mode) {
    return mode == 1 ? captures[stream] = new Actions, SUCCESS : INVALID_VALUE;
}
Result cuStreamEndCapture(void *stream, void **graph) {
    if (!captures.count(stream)) return CAPTURE_UNMATCHED;
    *graph = captures[stream];
    captures.erase(stream);
    return SUCCESS;
}
Result cuGraphInstantiateWithFlags(void **found, void *graph, unsigned long long) {
    return *found = new Actions(*(Actions *)graph), SUCCESS;
}
Result cuGraphDestroy(void *graph) { return delete (Actions *)graph, SUCCESS; }
Result cuGraphExecDestroy(void *graph) { return delete (Actions *)graph, SUCCESS; }
Result cuGraphLaunch(void *graph, void *) {
    for (auto &action : *(Actions *)graph) action();
    return SUCCESS;
}

// How cuda-bindings finds all of them.
Result cuGetProcAddress_v2(const char *symbol, void **found, int, unsigned long long, int *status) {
    std::string name(symbol);
    if (name == "cuGraphInstantiate") name = "cuGraphInstantiateWithFlags";
    *found = dlsym(RTLD_DEFAULT, (name + "_v2").c_str());
    if (!*found) *found = dlsym(RTLD_DEFAULT, name.c_str());
    if (status) *status = *found ? 0 : 1;
    return *found ? SUCCESS : NOT_FOUND;
}
}
