/**
 * A filter of system calls as a classic BPF program (linux/seccomp.h, linux/filter.h): a list of what is denied, for engines
 * and GPU drivers use too much to list what is allowed. The namespaces are the wall; this takes tools away from who digs.
 */
import { ABSENT_CALLS, type Architecture, DENIED_CALLS, JUDGED_CALLS } from "./syscalls.ts";

/** AUDIT_ARCH_*: what the kernel says that a call was made as. */
const AUDIT_ARCH = { x64: 0xc000003e, arm64: 0xc00000b7 } as const;
/** Calls with this bit are of the x32 interface, under which all numbers would be others. */
const X32_BIT = 0x40000000;

/** Offsets in struct seccomp_data; both architectures are little-endian. */
const NUMBER = 0;
const ARCHITECTURE = 4;
const argument = (index: number): number => 16 + 8 * index;

const LOAD = 0x20; // BPF_LD | BPF_W | BPF_ABS
const EQUAL = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
const AT_LEAST = 0x35; // BPF_JMP | BPF_JGE | BPF_K
const ANY_BIT = 0x45; // BPF_JMP | BPF_JSET | BPF_K
const RETURN = 0x06; // BPF_RET | BPF_K

const KILL = 0x80000000;
const ALLOW = 0x7fff0000;
const errno = (code: number): number => 0x00050000 | code;
const EPERM = 1;
const ENOSYS = 38;
const EAFNOSUPPORT = 97;

/** CLONE_NEWNS … CLONE_NEWNET: whatever makes a namespace. (CLONE_NEWTIME goes with clone3 only.). */
export const CLONE_NEW =
  0x00020000 | 0x02000000 | 0x04000000 | 0x08000000 | 0x10000000 | 0x20000000 | 0x40000000;
/** Unix, IPv4, IPv6, netlink; not what the network's namespace may not hold, such as vsock. */
export const ALLOWED_FAMILIES = [1, 2, 10, 16] as const;
/** TIOCSTI and TIOCLINUX type into a terminal as if its user had. */
const TYPING = [0x5412, 0x541c] as const;

type Instruction = readonly [code: number, ifTrue: number, ifFalse: number, k: number];

/** The program: 8 bytes an instruction, as `bwrap --seccomp` reads it. */
export function seccompProgram(architecture: Architecture): Uint8Array {
  const column = architecture === "x64" ? 0 : 1;
  const returns = (what: number): Instruction => [RETURN, 0, 0, what];
  const denied = (calls: Readonly<Record<string, readonly [number, number | null]>>, code: number) =>
    Object.values(calls).flatMap((numbers): Instruction[] => {
      const number = numbers[column];
      return number == null ? [] : [[EQUAL, 0, 1, number], returns(errno(code))];
    });
  /** Runs `body` for one call only; it ends by itself, and begins with the call's argument. */
  const judged = (
    call: keyof typeof JUDGED_CALLS,
    arg: number,
    body: readonly Instruction[],
  ): Instruction[] => [
    [EQUAL, 0, body.length + 1, JUDGED_CALLS[call][column]],
    [LOAD, 0, 0, argument(arg)],
    ...body,
  ];
  const program: Instruction[] = [
    [LOAD, 0, 0, ARCHITECTURE],
    [EQUAL, 1, 0, AUDIT_ARCH[architecture]],
    returns(KILL),
    [LOAD, 0, 0, NUMBER],
    ...(architecture === "x64" ? ([[AT_LEAST, 0, 1, X32_BIT], returns(KILL)] as Instruction[]) : []),
    ...denied(DENIED_CALLS, EPERM),
    ...denied(ABSENT_CALLS, ENOSYS),
    ...judged("clone", 0, [[ANY_BIT, 0, 1, CLONE_NEW], returns(errno(EPERM)), returns(ALLOW)]),
    ...judged("socket", 0, [
      ...ALLOWED_FAMILIES.flatMap((family): Instruction[] => [[EQUAL, 0, 1, family], returns(ALLOW)]),
      returns(errno(EAFNOSUPPORT)),
    ]),
    ...judged("ioctl", 1, [
      ...TYPING.flatMap((request): Instruction[] => [[EQUAL, 0, 1, request], returns(errno(EPERM))]),
      returns(ALLOW),
    ]),
    returns(ALLOW),
  ];
  const bytes = new Uint8Array(program.length * 8);
  const view = new DataView(bytes.buffer);
  program.forEach(([code, ifTrue, ifFalse, k], index) => {
    view.setUint16(index * 8, code, true);
    view.setUint8(index * 8 + 2, ifTrue);
    view.setUint8(index * 8 + 3, ifFalse);
    view.setUint32(index * 8 + 4, k >>> 0, true);
  });
  return bytes;
}
