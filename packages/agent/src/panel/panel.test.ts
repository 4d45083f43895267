import { describe, expect, it } from "vitest";
import type { AgentStatus } from "../control/status.ts";
import type { Terminal } from "../host.ts";
import { keysOf, openPanel, type PanelActions } from "./panel.ts";

/** A clock by hand, a terminal that remembers, an agent that does as told. */
function world() {
  let nowMs = 960_000;
  const timers = new Set<{ atMs: number; run: () => void }>();
  const writes: string[] = [];
  const said: string[] = [];
  let type: (typed: string) => void = () => {};
  let over = { leave() {}, enter() {} };
  let listening = 0;
  const listen = () => {
    listening++;
    return () => void listening--;
  };
  let slots = 4;
  let change = () => {};
  const terminal: Terminal = {
    ...{ columns: 80, rows: 12, colour: false },
    write: (text) => void writes.push(text),
    onKey(callback) {
      type = callback;
      return listen();
    },
    onResize: listen,
    onHandOver(callbacks) {
      over = callbacks;
      return listen();
    },
    suspend: () => void said.push("suspend"),
  };
  const actions: PanelActions = {
    togglePause: async () => "Paused: p resumes.",
    toggleSchedule: async () => {
      throw new Error("there is no schedule yet");
    },
    async setSlots(count) {
      slots = count;
      return `${count} at once`;
    },
    drain: (now) => void said.push(now ? "stop" : "drain"),
  };
  const status = (): AgentStatus => ({
    ...{
      version: "1",
      process_id: 1,
      started_at_ms: 0,
      now_ms: nowMs,
      name: "n",
      hub: "http://h",
      node_id: "x",
    },
    connection: { state: "joined", since_ms: 0, problem: null, retry_at_ms: null },
    ...{
      draining: false,
      measuring: false,
      speeds: [],
      slots,
      pause_when: { keyboard_minutes: null, game: true, battery: true, metered: true },
      engines: [],
      offers: [],
      withdrawn: [],
      attempts: [],
      paused: [],
      limits: {},
      schedule: { on: true, windows: [] },
      gpus: [],
    },
    served: { done: 0, failed: 0, input_tokens: 0, output_tokens: 0 },
    ...{ earnings: null, waiting: null, sandbox: null },
  });
  const host = {
    nowMs: () => nowMs,
    after(ms: number, run: () => void) {
      const timer = { atMs: nowMs + ms, run };
      timers.add(timer);
      return () => void timers.delete(timer);
    },
  };
  const panel = openPanel({
    ...{ host, terminal, status, journal: { last: [] }, actions, zoneMinutes: 0 },
    onChange(listener) {
      change = listener;
      return listen();
    },
  });
  return {
    panel,
    writes,
    said,
    timers,
    over: () => over,
    listening: () => listening,
    slots: () => slots,
    change: () => change(),
    /** Keys, then what they set off, then the next drawing. */
    async press(keys: string) {
      type(keys);
      await new Promise((resolve) => setImmediate(resolve));
      this.pass(250);
    },
    pass(ms: number) {
      const endMs = nowMs + ms;
      for (;;) {
        const next = [...timers].sort((a, b) => a.atMs - b.atMs).find(({ atMs }) => atMs <= endMs);
        if (!next) break;
        timers.delete(next);
        nowMs = Math.max(nowMs, next.atMs);
        next.run();
      }
      nowMs = endMs;
    },
  };
}

describe("the panel's keys", () => {
  it("say what they did, for a while", async () => {
    const panel = world();
    await panel.press("p");
    expect(panel.writes.join("")).toContain("Paused: p resumes.");
    panel.pass(5_000);
    expect(panel.writes.at(-1)).toContain("p pause");
  });

  it("tell what went wrong instead of falling silent", async () => {
    const panel = world();
    await panel.press("s");
    expect(panel.writes.join("")).toContain("there is no schedule yet");
  });

  it("set the slots in place; Esc and nonsense leave them", async () => {
    const panel = world();
    await panel.press("l");
    expect(panel.writes.at(-1)).toContain("Answers at once, now 4: _");
    await panel.press("1x2\u007f\r");
    expect(panel.slots()).toBe(1);
    await panel.press("l9\u001b");
    await panel.press("l0\r");
    await panel.press("l\r");
    expect(panel.slots()).toBe(1);
  });

  it("drain first and stop the second time, whether q or Ctrl-C", async () => {
    const panel = world();
    await panel.press("q");
    await panel.press("\u0003");
    expect(panel.said).toEqual(["drain", "stop"]);
  });

  it("are told apart however they come", () => {
    expect(keysOf("p\u001b[A\u001b[1;5Cq\u001b")).toEqual(["p", "\u001b[A", "\u001b[1;5C", "q", "\u001b"]);
  });
});

describe("the panel's drawing", () => {
  it("is at most four times a second, however much changes", () => {
    const panel = world();
    const before = panel.writes.length;
    for (let i = 0; i < 1000; i++) {
      panel.change();
      panel.pass(1);
    }
    expect(panel.writes.length - before).toBeLessThanOrEqual(5);
  });

  it("writes nothing while nothing changes", () => {
    const panel = world();
    const before = panel.writes.length;
    for (let i = 0; i < 20; i++) panel.change();
    panel.pass(40_000);
    expect(panel.writes.length).toBe(before);
  });

  it("gives the terminal away and takes it back whole", async () => {
    const panel = world();
    await panel.press("\u001a");
    expect(panel.said).toEqual(["suspend"]);
    panel.over().leave();
    expect(panel.writes.at(-1)).toContain("\u001b[?1049l");
    panel.change();
    panel.pass(1_000);
    expect(panel.writes.at(-1)).toContain("\u001b[?1049l"); // the shell has it now
    panel.over().enter();
    expect(panel.writes.at(-2)).toContain("\u001b[?1049h");
    expect(panel.writes.at(-1)).toContain("GPU For Everyone");
  });

  it("leaves nothing behind when it closes, twice or not", () => {
    const panel = world();
    panel.panel.close();
    panel.panel.close();
    expect(panel.writes.filter((text) => text.includes("\u001b[?1049l"))).toHaveLength(1);
    expect([panel.listening(), panel.timers.size]).toEqual([0, 0]);
  });
});
