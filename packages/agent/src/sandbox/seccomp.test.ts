import { describe, expect, it } from "vitest";
import { seccompProgram } from "./seccomp.ts";
import { ABSENT_CALLS, type Architecture, DENIED_CALLS } from "./syscalls.ts";

const ALLOW = 0x7fff0000;
const KILL = 0x80000000;
const errno = (code: number) => 0x00050000 + code;
const AUDIT = { x64: 0xc000003e, arm64: 0xc00000b7 };

/** Runs a filter as the kernel would, on a call's struct seccomp_data. */
function judge(program: Uint8Array, arch: number, call: number, args: readonly number[] = []): number {
  const data = new DataView(new ArrayBuffer(64));
  data.setUint32(0, call >>> 0, true);
  data.setUint32(4, arch, true);
  args.forEach((arg, index) => {
    data.setUint32(16 + index * 8, arg >>> 0, true);
  });
  const view = new DataView(program.buffer);
  let accumulator = 0;
  for (let at = 0; at < program.length / 8; at++) {
    const code = view.getUint16(at * 8, true);
    const [yes, no, k] = [
      view.getUint8(at * 8 + 2),
      view.getUint8(at * 8 + 3),
      view.getUint32(at * 8 + 4, true),
    ];
    const jump = (taken: boolean) => {
      at += taken ? yes : no;
    };
    if (code === 0x20) accumulator = data.getUint32(k, true);
    else if (code === 0x15) jump(accumulator === k);
    else if (code === 0x35) jump(accumulator >= k);
    else if (code === 0x45) jump((accumulator & k) !== 0);
    else if (code === 0x06) return k;
    else throw new Error(`no such instruction: ${code}`);
  }
  throw new Error("the program has no end");
}

describe.each<Architecture>(["x64", "arm64"])("the filter of system calls on %s", (architecture) => {
  const column = architecture === "x64" ? 0 : 1;
  const program = seccompProgram(architecture);
  const ask = (call: number, ...args: number[]) => judge(program, AUDIT[architecture], call, args);
  const judged = { clone: [56, 220], socket: [41, 198], ioctl: [16, 29] };
  const calls = {
    clone: judged.clone[column]!,
    socket: judged.socket[column]!,
    ioctl: judged.ioctl[column]!,
  };

  it("denies what is listed, and nothing else", () => {
    const denied = new Set(Object.values(DENIED_CALLS).map((numbers) => numbers[column]));
    const absent = new Set(Object.values(ABSENT_CALLS).map((numbers) => numbers[column]!));
    for (let call = 0; call < 600; call++) {
      if (Object.values(calls).includes(call)) continue;
      const expected = denied.has(call) ? errno(1) : absent.has(call) ? errno(38) : ALLOW;
      expect([call, ask(call)]).toEqual([call, expected]);
    }
  });

  it("ends who calls as another architecture, or by x32's numbers", () => {
    expect(judge(program, 0x40000003, 11)).toBe(KILL);
    expect(judge(program, AUDIT[architecture === "x64" ? "arm64" : "x64"], 0)).toBe(KILL);
    if (architecture === "x64") expect(ask(0x40000000 + 101)).toBe(KILL);
  });

  it("lets threads and children be made, but no namespace", () => {
    expect(ask(calls.clone, 0x3d0f00)).toBe(ALLOW); // a thread
    expect(ask(calls.clone, 0x11)).toBe(ALLOW); // a child
    for (const bit of [17, 25, 26, 27, 28, 29, 30])
      expect([bit, ask(calls.clone, 0x11 + 2 ** bit)]).toEqual([bit, errno(1)]);
  });

  it("has sockets of the families that its network namespace holds", () => {
    const allowed = Array.from({ length: 46 }, (_, family) => family).filter(
      (family) => ask(calls.socket, family, 1) === ALLOW,
    );
    expect(allowed).toEqual([1, 2, 10, 16]);
    expect(ask(calls.socket, 40, 1)).toBe(errno(97)); // vsock: the host of a virtual machine
  });

  it("lets nobody type into the owner's terminal", () => {
    expect(ask(calls.ioctl, 0, 0x5412)).toBe(errno(1));
    expect(ask(calls.ioctl, 0, 0x541c)).toBe(errno(1));
    expect(ask(calls.ioctl, 0, 0x5401)).toBe(ALLOW);
    expect(ask(calls.ioctl, 0, 0xc0206440)).toBe(ALLOW); // a GPU driver's
  });
});
