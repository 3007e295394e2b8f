/* A library that hides from a process what its processor has beyond AVX2, see `limit_instructions` in bench.py.

   Libraries ask the instruction CPUID what the processor can do. Some have no other way to be told: XLA's products run
   with AVX-512 whatever --xla_cpu_max_isa says. Linux can let CPUID fail with a signal (arch_prctl(2), ARCH_SET_CPUID; Intel
   since Ivy Bridge, "cpuid_fault" in /proc/cpuinfo), whose handler answers without the features of the lists below. */

#define _GNU_SOURCE
#include <cpuid.h>
#include <dlfcn.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

enum { ARCH_SET_CPUID = 0x1012 };

struct hidden { unsigned leaf, subleaf, a, b, c, d; };

static const struct hidden HIDDEN[] = {
    /* AVX-512 F, DQ, IFMA, PF, ER, CD, BW, VL; VBMI, VBMI2, VNNI, BITALG, VPOPCNTDQ; 4VNNIW, 4FMAPS, VP2INTERSECT, FP16;
       AMX bf16, tile, int8 */
    {7, 0, 0, 0xdc230000, 0x5842, 0x03c0010c},
    /* AVX-VNNI, AVX512-BF16, AMX-FP16, AVX-IFMA; AVX-VNNI-INT8, AVX-NE-CONVERT, AMX-COMPLEX, AVX-VNNI-INT16, AVX10 */
    {7, 1, 0x00a00030, 0, 0, 0x00080530},
    {0xd, 0, 0x000600e0, 0, 0, 0}, /* the registers' states that the system saves */
    {0x1d, 0, ~0u, ~0u, ~0u, ~0u}, {0x1e, 0, ~0u, ~0u, ~0u, ~0u}, {0x24, 0, ~0u, ~0u, ~0u, ~0u}, /* AMX, AVX10 */
};

typedef int (*setter)(int, const struct sigaction *, struct sigaction *);

/* Set the handler of a signal; that of faults stays ours, although compilers have one of their own. */
int sigaction(int number, const struct sigaction *action, struct sigaction *before) {
    if (number != SIGSEGV || !action) return ((setter)dlsym(RTLD_NEXT, "sigaction"))(number, action, before);
    if (before) memset(before, 0, sizeof *before);
    return 0;
}

__sighandler_t signal(int number, __sighandler_t handler) {
    struct sigaction action = {.sa_handler = handler, .sa_flags = SA_RESTART}, before;
    return sigaction(number, &action, &before) ? SIG_ERR : before.sa_handler;
}

static void set_handler(const struct sigaction *action) {
    ((setter)dlsym(RTLD_NEXT, "sigaction"))(SIGSEGV, action, NULL);
}

static void answer(int number, siginfo_t *info, void *context) {
    greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
    const unsigned char *instruction = (const unsigned char *)registers[REG_RIP];
    unsigned leaf = registers[REG_RAX], subleaf = registers[REG_RCX], a, b, c, d;
    (void)number, (void)info;
    if (instruction[0] != 0x0f || instruction[1] != 0xa2) { /* no CPUID: the fault is a real one */
        set_handler(&(struct sigaction){.sa_handler = SIG_DFL});
        return;
    }
    syscall(SYS_arch_prctl, ARCH_SET_CPUID, 1);
    __cpuid_count(leaf, subleaf, a, b, c, d);
    syscall(SYS_arch_prctl, ARCH_SET_CPUID, 0);
    for (size_t i = 0; i < sizeof HIDDEN / sizeof *HIDDEN; i++)
        if (HIDDEN[i].leaf == leaf && HIDDEN[i].subleaf == subleaf) {
            a &= ~HIDDEN[i].a, b &= ~HIDDEN[i].b, c &= ~HIDDEN[i].c, d &= ~HIDDEN[i].d;
        }
    registers[REG_RAX] = a, registers[REG_RBX] = b, registers[REG_RCX] = c, registers[REG_RDX] = d;
    registers[REG_RIP] += 2;
}

__attribute__((constructor)) static void begin(void) {
    set_handler(&(struct sigaction){.sa_sigaction = answer, .sa_flags = SA_SIGINFO | SA_NODEFER});
    if (syscall(SYS_arch_prctl, ARCH_SET_CPUID, 0)) perror("the processor cannot hide its features");
}
