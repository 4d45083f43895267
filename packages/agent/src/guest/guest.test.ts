import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { type GuestSettings, readSettings } from "../control/settings.ts";
import { createMemoryFiles } from "../memory-files.ts";
import { createNodeHost } from "../node-host.ts";
import { amdGpus, appleGpus, nvidiaGpus, nvidiaPrograms } from "./gpu-readers.ts";
import { GUEST_LIMITS, readersFor, startGuest } from "./guest.ts";
import {
  hidIdleMs,
  loginctlIdleMs,
  mutterIdleMs,
  nmcliMetered,
  onBattery,
  pmsetOnBattery,
  windowsOwner,
} from "./owner-readers.ts";
import { NOTHING_READ, type Readings, together } from "./readings.ts";
import {
  COOLER_BY_C,
  HOLD_MS,
  isWithin,
  nextStart,
  type PauseCode,
  reasonsAgainst,
  remembered,
} from "./rules.ts";

const GIB = 1024 ** 3;
const MIB = 1024 ** 2;

describe("what tools print is read as they print it", () => {
  test("nvidia-smi", () => {
    expect(
      nvidiaGpus(
        "NVIDIA GeForce RTX 4090, 37, 1823, 24564, 61, 121.44\nTesla, Inc. X, [N/A], 0, [N/A], 40, [N/A]\n",
      ),
    ).toEqual([
      {
        ...{ name: "NVIDIA GeForce RTX 4090", load_percent: 37, temperature_c: 61, power_w: 121.44 },
        ...{ memory_used_bytes: 1823 * MIB, memory_bytes: 24564 * MIB },
      },
      {
        ...{ name: "Tesla, Inc. X", load_percent: null, temperature_c: 40, power_w: null },
        ...{ memory_used_bytes: 0, memory_bytes: null },
      },
    ]);
    const pmon = `# gpu         pid   type     sm    mem    enc    dec    jpg    ofa     fb   ccpm    command
# Idx           #    C/G      %      %      %      %      %      %     MB     MB    name
    0       2214     G      4      2      -      -      -      -    211      0    Xorg
    0      55120     C     88     40      -      -      -      -  12044      0    ollama
    0      60001   C+G     71     30      -      -      -      -   6144      0    Cyberpunk2077.exe
    0          -     -      -      -      -      -      -      -      -      -    -
`;
    expect(nvidiaPrograms(pmon)).toEqual([
      { name: "Xorg", memory_bytes: 211 * MIB, load_percent: 4, draws: true },
      { name: "ollama", memory_bytes: 12044 * MIB, load_percent: 88, draws: false },
      { name: "Cyberpunk2077.exe", memory_bytes: 6144 * MIB, load_percent: 71, draws: true },
    ]);
    expect([nvidiaGpus("No devices were found\n"), nvidiaPrograms("")]).toEqual([[], []]);
  });
  test("rocm-smi", () => {
    const json = JSON.stringify({
      card0: {
        "Temperature (Sensor edge) (C)": "48.0",
        "Temperature (Sensor junction) (C)": "55.0",
        "Average Graphics Package Power (W)": "87.0",
        "GPU use (%)": "12",
        "VRAM Total Memory (B)": `${24 * GIB}`,
        "VRAM Total Used Memory (B)": `${2 * GIB}`,
        "Card Series": "Radeon RX 7900 XTX",
      },
      system: { "Driver version": "6.7.0" },
    });
    expect(amdGpus(json)).toEqual([
      {
        ...{ name: "Radeon RX 7900 XTX", load_percent: 12, temperature_c: 48, power_w: 87 },
        ...{ memory_used_bytes: 2 * GIB, memory_bytes: 24 * GIB },
      },
    ]);
    expect(amdGpus("WARNING: AMD GPU device(s) is/are in a low-power state")).toEqual([]);
  });
  test("ioreg and pmset of macOS", () => {
    const accelerator = `+-o AGXAcceleratorG14X  <class AGXAcceleratorG14X, id 0x100000438>
    {
      "model" = "Apple M2 Pro"
      "PerformanceStatistics" = {"In use system memory"=1207959552,"Device Utilization %"=43,"Tiler Utilization %"=40}
    }
`;
    expect(appleGpus(accelerator)).toMatchObject([
      { name: "Apple M2 Pro", load_percent: 43, memory_used_bytes: 1207959552, temperature_c: null },
    ]);
    expect(hidIdleMs('    | |   "HIDIdleTime" = 5230000000')).toBe(5230);
    expect(
      pmsetOnBattery("Now drawing from 'Battery Power'\n -InternalBattery-0 (id=1)\t81%; discharging"),
    ).toBe(true);
    expect(pmsetOnBattery("Now drawing from 'AC Power'\n")).toBe(false);
    expect(pmsetOnBattery("")).toBeNull();
  });
  test("the desktops of Linux", () => {
    expect(mutterIdleMs("(uint64 1234567,)\n")).toBe(1234567);
    expect(mutterIdleMs("Error: GDBus.Error")).toBeNull();
    expect(loginctlIdleMs("IdleHint=no\nIdleSinceHint=1700000000000000\n", 1_700_000_060_000)).toBe(0);
    expect(loginctlIdleMs("IdleHint=yes\nIdleSinceHint=1700000000000000\n", 1_700_000_060_000)).toBe(60_000);
    expect(loginctlIdleMs("Failed to get property", 0)).toBeNull();
    const nmcli = (state: string, metered: string) =>
      `GENERAL.STATE:30 (disconnected)\nGENERAL.METERED:yes\n\nGENERAL.STATE:${state}\nGENERAL.METERED:${metered}\n`;
    expect(nmcliMetered(nmcli("100 (connected)", "yes (guessed)"))).toBe(true);
    expect(nmcliMetered(nmcli("100 (connected)", "no (guessed)"))).toBe(false);
    expect(nmcliMetered(nmcli("100 (connected)", "unknown"))).toBeNull();
    expect([onBattery(["0\n"], ["Discharging\n"]), onBattery(["1\n"], ["Charging\n"])]).toEqual([
      true,
      false,
    ]);
    expect([onBattery([], []), onBattery(["1\n"], [])]).toEqual([null, false]);
  });
  test("PowerShell", () => {
    expect(windowsOwner("idle=1500\r\npower=Offline\r\ncost=Fixed\r\n")).toEqual({
      ...{ idle_ms: 1500, on_battery: true, metered: true },
    });
    expect(windowsOwner("idle=0\r\npower=Online\r\ncost=Unrestricted\r\n")).toEqual({
      ...{ idle_ms: 0, on_battery: false, metered: false },
    });
    expect(windowsOwner("")).toEqual({ idle_ms: null, on_battery: null, metered: null });
  });
  test("this machine's own, whatever it has: every reader says something or null, and none breaks", async () => {
    const host = createNodeHost();
    const parts = await Promise.all(readersFor("linux").map((reader) => reader.read(host)));
    const readings = together(parts);
    expect(Object.keys(readings).sort()).toEqual(Object.keys(NOTHING_READ).sort());
    for (const value of [readings.on_battery, readings.metered]) expect([true, false, null]).toContain(value);
  });
});

const gpu = (more: Partial<Readings["gpus"][number]> = {}): Readings["gpus"][number] => ({
  ...{ name: "GPU", load_percent: 0, memory_used_bytes: 0, memory_bytes: 24 * GIB },
  ...{ temperature_c: 50, power_w: 30 },
  ...more,
});
const settingsOf = (more: Partial<GuestSettings> = {}): GuestSettings => ({
  limits: {},
  schedule: { on: true, windows: [] },
  pause_when: { keyboard_minutes: null, game: true, battery: true, metered: true },
  ...more,
});
const NOON = new Date(2026, 10, 23, 12, 0).getTime(); // a Monday
const codesOf = (
  readings: Partial<Readings>,
  settings: Partial<GuestSettings> = {},
  more: Partial<Parameters<typeof reasonsAgainst>[0]> = {},
) =>
  reasonsAgainst({
    ...{ settings: settingsOf(settings), readings: { ...NOTHING_READ, ...readings } },
    ...{ servedTodayMs: 0, wallMs: NOON, before: new Map<PauseCode, number>() },
    ...more,
  }).map(({ code }) => code);

describe("a node pauses", () => {
  const keyboard = settingsOf().pause_when;
  test.each<[string, string[], string[]]>([
    ["for nothing that no tool tells", codesOf({}), []],
    [
      "on battery and on a metered network by default",
      codesOf({ on_battery: true, metered: true }),
      ["battery", "metered"],
    ],
    [
      "not for them where its owner says so",
      codesOf(
        { on_battery: true, metered: true },
        { pause_when: { ...keyboard, battery: false, metered: false } },
      ),
      [],
    ],
    ["not for a keyboard by default", codesOf({ idle_ms: 0 }), []],
    [
      "while somebody is at it, and so many minutes more",
      codesOf({ idle_ms: 9 * 60_000 }, { pause_when: { ...keyboard, keyboard_minutes: 10 } }),
      ["keyboard"],
    ],
    [
      "not after those",
      codesOf({ idle_ms: 10 * 60_000 }, { pause_when: { ...keyboard, keyboard_minutes: 10 } }),
      [],
    ],
    [
      "for a game",
      codesOf({ programs: [{ name: "game.exe", draws: true, load_percent: 60, memory_bytes: null }] }),
      ["game"],
    ],
    [
      "not for a desktop, an engine, or what only computes a little",
      codesOf({
        programs: ["Xorg", "ollama", "blender"].map((name, n) => ({
          name,
          draws: n < 2,
          load_percent: 90,
          memory_bytes: null,
        })),
      }),
      [],
    ],
    [
      "above its temperature",
      codesOf({ gpus: [gpu(), gpu({ temperature_c: 80 })] }, { limits: { temperature_c: 80 } }),
      ["temperature"],
    ],
    [
      "above its power, all GPUs together",
      codesOf({ gpus: [gpu({ power_w: 150 }), gpu({ power_w: 150 })] }, { limits: { power_w: 300 } }),
      ["power"],
    ],
    [
      "when others need the GPU's memory",
      codesOf(
        {
          gpus: [gpu()],
          programs: [{ name: "blender", draws: true, load_percent: 1, memory_bytes: 13 * GIB }],
        },
        { limits: { memory_percent: 50 } },
      ),
      ["memory"],
    ],
    [
      "after its hours of the day",
      codesOf({}, { limits: { daily_hours: 2 } }, { servedTodayMs: 2 * 3_600_000 }),
      ["daily_hours"],
    ],
    [
      "outside its schedule",
      codesOf({}, { schedule: { on: true, windows: [{ days: "daily", from: "22:00", to: "07:00" }] } }),
      ["schedule"],
    ],
    [
      "never by a schedule that is off",
      codesOf({}, { schedule: { on: false, windows: [{ days: "sun", from: "22:00", to: "23:00" }] } }),
      [],
    ],
    ["when its owner says so", codesOf({}, {}, { pausedUntilMs: null }), ["owner_paused"]],
  ])("%s", (_what, codes, expected) => expect(codes).toEqual(expected));
});

test("a GPU that cools down because it was paused does not begin again at once", () => {
  const limits = { temperature_c: 80 };
  const before = new Map<PauseCode, number>([["temperature", NOON]]);
  const at = (celsius: number) =>
    codesOf({ gpus: [gpu({ temperature_c: celsius })] }, { limits }, { before });
  expect([at(80 - COOLER_BY_C), at(80 - COOLER_BY_C - 1)]).toEqual([["temperature"], []]);
  const power = { ...{ settings: settingsOf({ limits: { power_w: 100 } }), servedTodayMs: 0 } };
  const situation = (watts: number, wallMs: number, known: ReadonlyMap<PauseCode, number>) => ({
    ...power,
    ...{ readings: { ...NOTHING_READ, gpus: [gpu({ power_w: watts })] }, wallMs, before: known },
  });
  let known: ReadonlyMap<PauseCode, number> = new Map();
  const codes: string[][] = [];
  for (const [watts, after] of [
    [200, 0],
    [20, 5_000],
    [20, HOLD_MS - 1],
    [20, HOLD_MS],
  ] as const) {
    const now = situation(watts, NOON + after, known);
    const reasons = reasonsAgainst(now);
    known = remembered(now, reasons);
    codes.push(reasons.map(({ code }) => code));
  }
  expect(codes).toEqual([["power"], ["power"], ["power"], []]);
});

describe("a schedule", () => {
  const at = (day: number, hours: number, minutes = 0) =>
    new Date(2026, 10, 23 + day, hours, minutes).getTime();
  const nights = { days: "mon-fri", from: "22:00", to: "07:00" };
  test("past midnight belongs to the day on which it begins", () => {
    const within = [at(0, 22), at(0, 23, 59), at(1, 6, 59), at(5, 6, 59)].map((ms) => isWithin(nights, ms));
    expect(within).toEqual([true, true, true, true]); // Saturday morning is Friday's night
    expect([at(0, 6), at(0, 21, 59), at(1, 7), at(6, 23)].map((ms) => isWithin(nights, ms))).toEqual([
      false,
      false,
      false,
      false,
    ]);
  });
  test("says when it begins next, and holds from then on", () => {
    const time = fc
      .integer({ min: 0, max: 47 })
      .map((half) => `${String(half >> 1).padStart(2, "0")}:${half % 2 ? "30" : "00"}`);
    const window = fc
      .record({ days: fc.constantFrom("daily", "mon", "sat,sun", "fri-mon"), from: time, to: time })
      .filter(({ from, to }) => from !== to);
    fc.assert(
      fc.property(
        fc.array(window, { minLength: 1, maxLength: 4 }),
        fc.integer({ min: 0, max: 7 * 24 * 60 }),
        (windows, minutes) => {
          const now = at(0, 0, minutes);
          if (windows.some((one) => isWithin(one, now))) return;
          const start = nextStart(windows, now)!;
          expect(start).toBeGreaterThan(now);
          expect(windows.some((one) => isWithin(one, start))).toBe(true);
          expect(windows.some((one) => isWithin(one, start - 60_000))).toBe(false);
        },
      ),
    );
  });
});

/** A machine whose time and readings a test sets. */
function machine() {
  let nowMs = 1_000;
  const timers: { atMs: number; callback: () => void }[] = [];
  const files = createMemoryFiles();
  const says = { ...NOTHING_READ } as Readings;
  const host = {
    ...createNodeHost({ files, configDir: "/config", stateDir: "/state" }),
    nowMs: () => nowMs,
    after(ms: number, callback: () => void) {
      const timer = { atMs: nowMs + ms, callback };
      timers.push(timer);
      return () => void timers.splice(0, timers.length, ...timers.filter((one) => one !== timer));
    },
  };
  let changes = 0;
  return {
    host,
    says,
    changes: () => changes,
    start: async (settings: GuestSettings = settingsOf()) =>
      startGuest({
        ...{ host, settings, wallMs: () => NOON + nowMs },
        readers: [{ name: "test", read: async () => ({ ...says }) }],
        onChange: () => {
          changes++;
        },
      }),
    async pass(ms: number) {
      for (const endMs = nowMs + ms; ; ) {
        const next = timers.toSorted((a, b) => a.atMs - b.atMs)[0];
        if (!next || next.atMs > endMs) {
          nowMs = endMs;
          return;
        }
        timers.splice(timers.indexOf(next), 1);
        nowMs = next.atMs;
        next.callback();
        for (let turn = 0; turn < 20; turn++) await Promise.resolve();
      }
    },
  };
}

test("what changes is told once, at the next look", async () => {
  const { start, says, changes, pass } = machine();
  const guest = await start();
  expect(guest.state()).toMatchObject({ serving: true, reasons: [] });
  says.on_battery = true;
  await pass(GUEST_LIMITS.lookMs);
  expect([guest.state().serving, changes()]).toEqual([false, 1]);
  await pass(10 * GUEST_LIMITS.lookMs);
  expect(changes()).toBe(1);
  says.on_battery = false;
  await pass(GUEST_LIMITS.lookMs);
  expect([guest.state().serving, changes()]).toEqual([true, 2]);
  await guest.close();
});

test("a pause outlives the agent, and ends by itself at its time", async () => {
  const { start, pass } = machine();
  const first = await start();
  first.pause(NOON + 61_000);
  await first.close();
  const second = await start();
  expect(second.state()).toMatchObject({
    serving: false,
    reasons: [{ code: "owner_paused", until_ms: NOON + 61_000 }],
  });
  await pass(60_500);
  expect(second.state().serving).toBe(true);
  second.pause(null);
  await pass(3_600_000);
  expect(second.state().serving).toBe(false);
  second.resume();
  expect(second.state().serving).toBe(true);
  await second.close();
});

test("the day's hours are counted over restarts, and begin anew at midnight", async () => {
  const { start, pass } = machine();
  const settings = settingsOf({ limits: { daily_hours: 2 } });
  const first = await start(settings);
  await pass(3_600_000);
  await first.close();
  const second = await start(settings);
  await pass(3_599_000);
  expect(second.state().serving).toBe(true);
  await pass(10_000);
  expect(second.state().reasons[0]?.code).toBe("daily_hours");
  await pass(10 * 3_600_000);
  expect(second.state().serving).toBe(true);
  await second.close();
});

test("what the owner sets is kept, holds at once, and a file of before says what it can", async () => {
  const { host, start } = machine();
  const guest = await start();
  await guest.put(
    settingsOf({ limits: { slots: 2 }, pause_when: { ...settingsOf().pause_when, battery: false } }),
  );
  expect(guest.state().slots).toBe(2);
  expect(await readSettings(host)).toEqual(guest.settings());
  await host.files.write("/config/settings.json", '{"limits":{"slots":3},"pause_when":{"battery":false}}', {
    mode: 0o600,
  });
  expect(await readSettings(host)).toMatchObject({
    limits: { slots: 3 },
    pause_when: { battery: false, game: true, keyboard_minutes: null },
  });
  await guest.close();
});
