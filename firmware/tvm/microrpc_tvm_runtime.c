#include "microrpc_tvm_internal.h"

#define ALIGNMENT 16u /* of what is given out of the workspace */

/* --- what went wrong ------------------------------------------------------------------------------------------- */

char microrpc_tvm_text[192];
static size_t text_bytes;

void microrpc_tvm_begin_text(void) {
    text_bytes = 0;
    microrpc_tvm_text[0] = 0;
}

void microrpc_tvm_add_text(const char *more) {
    while (*more && text_bytes < sizeof microrpc_tvm_text - 1) microrpc_tvm_text[text_bytes++] = *more++;
    microrpc_tvm_text[text_bytes] = 0;
}

void microrpc_tvm_add_number(int64_t number) {
    char digits[21];
    size_t at = sizeof digits - 1;
    uint64_t rest = number < 0 ? 0 - (uint64_t)number : (uint64_t)number;
    digits[at] = 0;
    do {
        digits[--at] = (char)('0' + rest % 10);
        rest /= 10;
    } while (rest);
    if (number < 0) digits[--at] = '-';
    microrpc_tvm_add_text(digits + at);
}

void TVMFFIErrorSetRaisedFromCStrParts(const char *kind, const char **parts, int32_t count) {
    microrpc_tvm_begin_text();
    microrpc_tvm_add_text(kind);
    microrpc_tvm_add_text(": ");
    for (int32_t i = 0; i < count; i++) {
        if (parts[i]) microrpc_tvm_add_text(parts[i]);
    }
}

void TVMFFIErrorSetRaisedFromCStr(const char *kind, const char *what) {
    TVMFFIErrorSetRaisedFromCStrParts(kind, &what, 1);
}

/* --- the workspace: a stack ------------------------------------------------------------------------------------ */

static struct {
    uint8_t bytes[MICRORPC_TVM_WORKSPACE_BYTES + ALIGNMENT - 1];
} workspace;
uint32_t microrpc_tvm_used_bytes;
static uint32_t most_used_bytes;

static uint8_t *workspace_begin(void) {
    return workspace.bytes + (-(uintptr_t)workspace.bytes & (ALIGNMENT - 1));
}

void *microrpc_tvm_push(uint64_t size_bytes) {
    uint32_t free_bytes = (uint32_t)MICRORPC_TVM_WORKSPACE_BYTES - microrpc_tvm_used_bytes, taken;
    if (size_bytes > free_bytes || (taken = ((uint32_t)size_bytes + ALIGNMENT - 1) & ~(ALIGNMENT - 1)) > free_bytes) {
        microrpc_tvm_begin_text();
        microrpc_tvm_add_text("the workspace is too small: ");
        microrpc_tvm_add_number((int64_t)size_bytes);
        microrpc_tvm_add_text(" bytes asked for, ");
        microrpc_tvm_add_number(free_bytes);
        microrpc_tvm_add_text(" of ");
        microrpc_tvm_add_number(MICRORPC_TVM_WORKSPACE_BYTES);
        microrpc_tvm_add_text(" are free (MICRORPC_TVM_WORKSPACE_BYTES)");
        return NULL;
    }
    microrpc_tvm_used_bytes += taken;
    if (microrpc_tvm_used_bytes > most_used_bytes) most_used_bytes = microrpc_tvm_used_bytes;
    return workspace_begin() + (microrpc_tvm_used_bytes - taken);
}

uint32_t microrpc_tvm_workspace_most_used_bytes(void) { return most_used_bytes; }

void *TVMBackendAllocWorkspace(int device_type, int device_id, uint64_t size_bytes, int dtype_code, int dtype_bits) {
    (void)device_type, (void)device_id, (void)dtype_code, (void)dtype_bits;
    return microrpc_tvm_push(size_bytes);
}

int TVMBackendFreeWorkspace(int device_type, int device_id, void *memory) {
    uintptr_t offset = (uintptr_t)memory - (uintptr_t)workspace_begin();
    (void)device_type, (void)device_id;
    if (offset > microrpc_tvm_used_bytes) {
        TVMFFIErrorSetRaisedFromCStr("RuntimeError", "this was not given out of the workspace, or is given back twice");
        return -1;
    }
    microrpc_tvm_used_bytes = (uint32_t)offset;
    return 0;
}

/* --- what else compiled code calls ----------------------------------------------------------------------------- */

int TVMBackendParallelLaunch(FTVMParallelLambda run, void *data, int tasks) {
    TVMParallelGroupEnv group = {NULL, 1};
    (void)tasks;
    return run(0, &group, data);
}

int TVMBackendParallelBarrier(int task, TVMParallelGroupEnv *group) {
    (void)task, (void)group;
    return 0;
}

int TVMFFIEnvModRegisterSystemLibSymbol(const char *name, void *symbol) {
    (void)name, (void)symbol;
    return 0;
}

/* Objects without a system_lib_prefix call through these, and define them weakly as NULL. */
extern void *(*__TVMBackendAllocWorkspace)(int, int, uint64_t, int, int);
extern int (*__TVMBackendFreeWorkspace)(int, int, void *);
extern int (*__TVMBackendParallelLaunch)(FTVMParallelLambda, void *, int);
extern int (*__TVMBackendParallelBarrier)(int, TVMParallelGroupEnv *);
extern void (*__TVMFFIErrorSetRaisedFromCStrParts)(const char *, const char **, int32_t);
extern void (*__TVMFFIErrorSetRaisedFromCStr)(const char *, const char *);
void *(*__TVMBackendAllocWorkspace)(int, int, uint64_t, int, int) = TVMBackendAllocWorkspace;
int (*__TVMBackendFreeWorkspace)(int, int, void *) = TVMBackendFreeWorkspace;
int (*__TVMBackendParallelLaunch)(FTVMParallelLambda, void *, int) = TVMBackendParallelLaunch;
int (*__TVMBackendParallelBarrier)(int, TVMParallelGroupEnv *) = TVMBackendParallelBarrier;
void (*__TVMFFIErrorSetRaisedFromCStrParts)(const char *, const char **, int32_t) = TVMFFIErrorSetRaisedFromCStrParts;
void (*__TVMFFIErrorSetRaisedFromCStr)(const char *, const char *) = TVMFFIErrorSetRaisedFromCStr;

#if defined(__arm__)
/* LLVM names it in its unwinding tables, which no linker script of ours keeps. */
void __aeabi_unwind_cpp_pr0(void);
__attribute__((weak)) void __aeabi_unwind_cpp_pr0(void) {}

#if !defined(__ARM_PCS_VFP)
/* And calls the conversions of float16 by the names that GCC has for them. */
float __aeabi_h2f(uint16_t half);
uint16_t __aeabi_f2h(float number);
float __gnu_h2f_ieee(uint16_t half);
uint16_t __gnu_f2h_ieee(float number);
__attribute__((weak)) float __gnu_h2f_ieee(uint16_t half) { return __aeabi_h2f(half); }
__attribute__((weak)) uint16_t __gnu_f2h_ieee(float number) { return __aeabi_f2h(number); }
#endif
#endif
