# SPDX-License-Identifier: GPL-3.0-or-later
"""The software processor's operations end in tail calls: otherwise a guest's loop uses up the host's
stack. Looks for indirect calls, through the next instruction or block, in the disassembly.

tailcalls.py LIBRARY...   (optimized, not sanitized)"""
import re
import subprocess
import sys

# Members that operations may call and come back from: upcalls and helpers (offsets of struct members
# vary; what is looked for are calls right before an epilogue and return).
text = subprocess.run(["objdump", "-d", "--no-show-raw-insn", *sys.argv[1:]], stdout=subprocess.PIPE, check=True,
                      text=True).stdout
bad = []
for function in re.split(r"\n(?=[0-9a-f]+ <)", text):
    name = re.match(r"[0-9a-f]+ <([^>]+)>:", function)
    if not name or not name.group(1).startswith("soft_op_"):
        continue
    body = [re.sub(r"^\s*[0-9a-f]+:\s*", "", line) for line in function.splitlines()[1:]]
    for i, line in enumerate(body):
        if not re.match(r"call\s+\*0x[0-9a-f]+\(%r", line):
            continue
        after = [x.split()[0] for x in body[i + 1:i + 14] if x.split()]
        while after and after[0] in ("add", "pop", "lea", "mov"):
            after.pop(0)
        if after and after[0] == "ret" or (after and after[0].startswith("jmp")):
            bad.append(f"{name.group(1)}: {line}")
for b in bad:
    print("FAILED: not a tail call:", b)
print("operations looked at:", len(re.findall(r"<soft_op_\w+>:", text)))
sys.exit(1 if bad else 0)
