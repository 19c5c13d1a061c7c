/* TVM's calling convention, as far as code that it compiles wants it: values, tensors, and what such code calls. It holds
 * for TVM 0.22 and later. The headers below include/tvm/, which generated C names, are all this one. */
#ifndef MICRORPC_TVM_FFI_ABI_H
#define MICRORPC_TVM_FFI_ABI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Type indices of values. */
enum {
    TVM_FFI_NONE = 0,
    TVM_FFI_INT = 1,
    TVM_FFI_BOOL = 2,
    TVM_FFI_FLOAT = 3,
    TVM_FFI_TENSOR = 7 /* v_ptr: a DLTensor */
};

/* A value: 16 bytes on every CPU. */
typedef struct {
    int32_t type_index;
    uint32_t zero_padding;
    __extension__ union {
        int64_t v_int64;
        double v_float64;
        void *v_ptr;
    };
} TVMFFIAny;

enum { TVM_FFI_CPU = 1, TVM_FFI_DTYPE_BOOL = 6 };

typedef struct {
    int32_t device_type;
    int32_t device_id;
} DLDevice;

typedef struct {
    uint8_t code;
    uint8_t bits;
    uint16_t lanes;
} DLDataType;

typedef struct {
    void *data;
    DLDevice device;
    int32_t ndim;
    DLDataType dtype;
    int64_t *shape;
    int64_t *strides; /* NULL: compact */
    uint64_t byte_offset;
} DLTensor;

/* Tell why a kernel gives -1: `kind`, as "ValueError", and `count` parts of a text, which may be NULL. */
void TVMFFIErrorSetRaisedFromCStrParts(const char *kind, const char **parts, int32_t count);
void TVMFFIErrorSetRaisedFromCStr(const char *kind, const char *text);

/* Memory until it is given back, in reverse order. NULL where there is not so much. */
void *TVMBackendAllocWorkspace(int device_type, int device_id, uint64_t size_bytes, int dtype_code, int dtype_bits);
int TVMBackendFreeWorkspace(int device_type, int device_id, void *memory);

typedef struct {
    void *sync_handle;
    int32_t num_task;
} TVMParallelGroupEnv;
typedef int (*FTVMParallelLambda)(int task, TVMParallelGroupEnv *group, void *data);

/* Run what may run in parallel: here in one task. */
int TVMBackendParallelLaunch(FTVMParallelLambda run, void *data, int tasks);
int TVMBackendParallelBarrier(int task, TVMParallelGroupEnv *group);

/* What objects with a system_lib_prefix would have called before main(). */
int TVMFFIEnvModRegisterSystemLibSymbol(const char *name, void *symbol);

#ifdef __cplusplus
}
#endif

#endif
