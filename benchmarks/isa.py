"""The instruction sets of a processor, and how a benchmark uses an older one than the best."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import tempfile
from pathlib import Path

FOLDER = Path(__file__).parent
ISAS = {
    "avx2": {
        "ATEN_CPU_CAPABILITY": "avx2",
        "ONEDNN_MAX_CPU_ISA": "AVX2",
        "MKL_ENABLE_INSTRUCTIONS": "AVX2",
        "XLA_FLAGS": "--xla_cpu_max_isa=AVX2",
    }
}
"""The variables that make PyTorch, oneDNN, MKL and XLA's compiler use no more than an instruction set."""
ARCHITECTURES = {"avx2": "x86-64-v3"}
"""The architecture, as C++ compilers name it, whose vectors are those of an instruction set."""
COMPILER = """#!/bin/sh
for argument; do
    shift
    case $argument in -march=native) argument=-march=ARCHITECTURE ;; esac
    set -- "$@" "$argument"
done
exec g++ "$@"
"""
CPUID, UD2 = b"\x0f\xa2", b"\x0f\x0b"
DETECTION = "cpuinfo_x86_detect_isa"
"""The function of XLA's library that asks the processor for the instructions of its matrix products."""
LIBRARY = "libjax_common.so"
FIND_JAXLIB = "import importlib.util; print(importlib.util.find_spec('jaxlib').submodule_search_locations[0])"


def best_isa() -> str:
    """Return the best instruction set for vectors that the processor has: amx, avx512, avx2, or the architecture."""
    try:
        flags = set(Path("/proc/cpuinfo").read_text().split())
    except OSError:
        return platform.machine()
    names = {"amx_tile": "amx", "avx512f": "avx512", "avx2": "avx2"}
    return next((name for flag, name in names.items() if flag in flags), platform.machine())


def limit_instructions(isa: str, peers: Path | None = None) -> None:
    """Forbid newer instructions to all processes that are started, and give them a cache of compiled code of its own.

    Variables suffice for PyTorch and its libraries, and a compiler that replaces ``-march=native`` for the code of
    ``torch.compile``, which would take code from its cache whatever its instructions are. XLA's products heed no
    variable: under ``--xla_cpu_max_isa=AVX2`` they run at 139 GFLOP/s on a core that reaches 82 with AVX2. So the peers
    import a copy of jaxlib in which CPUID is answered without newer instructions, see ``cpuid.c``.

    Args:
        isa: the instruction set.
        peers: the Python of the environment of the peers, if any of them runs.

    Raises:
        SystemExit: the copy cannot be made.
    """
    os.environ.update(ISAS[isa])
    folder = Path(tempfile.gettempdir()) / f"ppl_vae_{isa}"
    folder.mkdir(exist_ok=True)
    os.environ.setdefault("TORCHINDUCTOR_CACHE_DIR", str(folder / "torchinductor"))
    if isa == best_isa():
        return
    compiler = folder / "g++"
    compiler.write_text(COMPILER.replace("ARCHITECTURE", ARCHITECTURES[isa]))
    compiler.chmod(0o755)
    os.environ["CXX"] = str(compiler)
    if peers is None:
        return
    try:
        os.environ["LD_PRELOAD"] = compile_answers(folder)
        path = [copy_jaxlib(Path(run(str(peers), "-c", FIND_JAXLIB).strip()), folder), os.environ.get("PYTHONPATH")]
        os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, path))
    except (OSError, subprocess.CalledProcessError, ValueError) as error:
        raise SystemExit(f"--isa {isa}: XLA would use newer instructions, no copy could be made: {error}") from error


def compile_answers(folder: Path) -> str:
    """Compile ``cpuid.c`` into a folder and return the path of the library."""
    library = folder / "cpuid.so"
    run("cc", "-O2", "-shared", "-fPIC", str(FOLDER / "cpuid.c"), "-o", str(library))
    return str(library)


def copy_jaxlib(package: Path, folder: Path) -> str:
    """Copy jaxlib with UD2 in place of CPUID where XLA chooses the instructions of its products.

    Returns:
        The folder of the copy, which is to precede that of the original in Python's path.

    Raises:
        ValueError: the library has no such instruction where it is expected.
    """
    copy = folder / "packages" / package.name
    copy.mkdir(parents=True, exist_ok=True)
    for path in package.iterdir():
        (copy / path.name).unlink(missing_ok=True)
        if path.name != LIBRARY:
            (copy / path.name).symlink_to(path)
    content = bytearray((package / LIBRARY).read_bytes())
    listing = run("objdump", "--disassemble=" + DETECTION, "--file-offsets", str(package / LIBRARY))
    header = re.search(rf"^([0-9a-f]+) <{DETECTION}> \(File Offset: 0x([0-9a-f]+)\)", listing, re.MULTILINE)
    addresses = re.findall(r"^ *([0-9a-f]+):.*\tcpuid\s*$", listing, re.MULTILINE)
    if not header or not addresses:
        raise ValueError(f"{package / LIBRARY} has no function {DETECTION} with CPUID")
    for address in addresses:
        offset = int(address, 16) - int(header[1], 16) + int(header[2], 16)
        if content[offset : offset + 2] != CPUID:
            raise ValueError(f"{package / LIBRARY} has no CPUID at byte {offset}")
        content[offset : offset + 2] = UD2
    (copy / LIBRARY).write_bytes(content)
    return str(copy.parent)


def run(*command: str) -> str:
    """Run a command and return its output."""
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout
