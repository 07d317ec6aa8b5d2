"""``python -m tests.golden check|write``: run the golden runs, and compare with what is kept or keep it.

The arithmetic is held to instructions that every processor has, and to one thread, before torch is imported.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

KEPT = Path(__file__).with_name("values.json")
ONE_WAY_TO_COMPUTE = {
    "ATEN_CPU_CAPABILITY": "default",
    "ONEDNN_MAX_CPU_ISA": "SSE41",
    "MKL_CBWR": "COMPATIBLE",
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
}
_ROUNDING = 0.02
"""How far a loss of the first epoch may lie from the kept one on another processor or torch, relative."""


def machine() -> dict[str, str]:
    """Return what decides how numbers are rounded."""
    import torch
    import torchvision

    text = Path("/proc/cpuinfo").read_text(encoding="utf-8") if Path("/proc/cpuinfo").exists() else ""
    vendor = re.search(r"^vendor_id\s*: (.*)$", text, re.M)
    wide = sorted(set(re.findall(r"\b(?:fma|avx2|avx512[a-z_0-9]*|amx_[a-z0-9]+)\b", text)))
    return {
        "torch": torch.__version__.partition("+")[0],
        "torchvision": torchvision.__version__.partition("+")[0],
        "vendor": vendor.group(1) if vendor else "unknown",
        "instructions": " ".join(wide),
    }


def in_names_of_today(kept: Any) -> Any:
    """Return what was kept with the metrics called as they are today."""
    from raydistill.config.renamed import current_metrics

    if isinstance(kept, dict):
        return current_metrics({key: in_names_of_today(value) for key, value in kept.items()})
    return [in_names_of_today(value) for value in kept] if isinstance(kept, list) else kept


def differences(kept: Any, now: Any, exact: bool, where: str = "") -> list[str]:
    """Return where ``now`` is not what was kept; unless ``exact`` only the first epoch's losses are compared."""
    if isinstance(kept, dict) and isinstance(now, dict):
        found = [f"{where}: {key} is {'new' if key in now else 'gone'}" for key in sorted(kept.keys() ^ now.keys())]
        for key in sorted(kept.keys() & now.keys()):
            found += differences(kept[key], now[key], exact, f"{where}/{key}" if where else key)
        return found
    if isinstance(kept, list) and isinstance(now, list):
        pairs = list(zip(kept, now, strict=False))[: None if exact else 1]
        unequal = [f"{where}: {len(kept)} epochs then, {len(now)} now"] if len(kept) != len(now) else []
        return unequal + [
            line for i, pair in enumerate(pairs) for line in differences(*pair, exact, f"{where}[{i + 1}]")
        ]
    if exact:
        return [] if kept == now else [f"{where}: {kept!r} then, {now!r} now"]
    is_loss = "/train/" in where and isinstance(kept, float)
    near = not is_loss or abs(now - kept) <= _ROUNDING * max(abs(kept), 0.05)
    return [] if near else [f"{where}: {kept!r} then, {now!r} now"]


def main(arguments: list[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.golden", description=__doc__)
    parser.add_argument("what", choices=("check", "write"))
    options = parser.parse_args(arguments)
    if any(os.environ.get(name) != value for name, value in ONE_WAY_TO_COMPUTE.items()):
        command = [sys.executable, "-m", "tests.golden", options.what]
        os.execve(sys.executable, command, {**os.environ, **ONE_WAY_TO_COMPUTE})
    import torch

    from tests.golden import runs

    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        values = runs.compute(Path(folder))
    now = {"machine": machine(), "runs": json.loads(json.dumps(values))}
    if options.what == "write":
        KEPT.write_text(json.dumps(now, indent=1) + "\n")
        return 0
    kept = in_names_of_today(json.loads(KEPT.read_text(encoding="utf-8")))
    exact = kept["machine"] == now["machine"]
    found = differences(kept["runs"], now["runs"], exact)
    how = "to the bit" if exact else f"losses of the first epochs within {_ROUNDING:.0%}, as this machine is another"
    summary = f"{len(values)} runs compared {how}: {len(found)} differences"
    sys.stdout.write("\n".join([summary, *found[:40]]) + "\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
