/* A library that answers for CPUID in a copy of XLA, without what the processor has beyond AVX2, see `isa.py`.

   In that copy, the instruction UD2 stands where CPUID stood. It raises a signal, whose handler asks the processor and
   leaves out the features of the list below. */

#define _GNU_SOURCE
#include <cpuid.h>
#include <signal.h>
#include <stddef.h>
#include <ucontext.h>

struct hidden { unsigned leaf, subleaf, a, b, c, d; };

static const struct hidden HIDDEN[] = {
    /* AVX-512 F, DQ, IFMA, PF, ER, CD, BW, VL; VBMI, VBMI2, VNNI, BITALG, VPOPCNTDQ; 4VNNIW, 4FMAPS, VP2INTERSECT, FP16;
       AMX bf16, tile, int8 */
    {7, 0, 0, 0xdc230000, 0x5842, 0x03c0010c},
    /* AVX-VNNI, AVX512-BF16, AMX-FP16, AVX-IFMA; AVX-VNNI-INT8, AVX-NE-CONVERT, AMX-COMPLEX, AVX-VNNI-INT16, AVX10 */
    {7, 1, 0x00a00030, 0, 0, 0x00080530},
};

static void answer(int number, siginfo_t *info, void *context) {
    greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
    const unsigned char *instruction = (const unsigned char *)registers[REG_RIP];
    unsigned leaf = registers[REG_RAX], subleaf = registers[REG_RCX], a, b, c, d;
    (void)info;
    if (instruction[0] != 0x0f || instruction[1] != 0x0b) { /* no UD2: the signal is a real one */
        signal(number, SIG_DFL);
        return;
    }
    __cpuid_count(leaf, subleaf, a, b, c, d);
    for (size_t i = 0; i < sizeof HIDDEN / sizeof *HIDDEN; i++)
        if (HIDDEN[i].leaf == leaf && HIDDEN[i].subleaf == subleaf)
            a &= ~HIDDEN[i].a, b &= ~HIDDEN[i].b, c &= ~HIDDEN[i].c, d &= ~HIDDEN[i].d;
    registers[REG_RAX] = a, registers[REG_RBX] = b, registers[REG_RCX] = c, registers[REG_RDX] = d;
    registers[REG_RIP] += 2;
}

__attribute__((constructor)) static void begin(void) {
    sigaction(SIGILL, &(struct sigaction){.sa_sigaction = answer, .sa_flags = SA_SIGINFO}, NULL);
}
