/** What doctor finds on machines that are not in order: each by a host that says so. */
import { describe, expect, it } from "vitest";
import { doctorCommand } from "../commands/doctor.ts";
import type { Host, HttpResponse, RunResult } from "../host.ts";
import { createHubRecords } from "../hub-records.ts";
import { createMemoryFiles } from "../memory-files.ts";
import { createNodeHost } from "../node-host.ts";
import type { Check } from "./check.ts";

const HUB = "https://hub.example.org";
const CONFIG = {
  ...{ version: "0.1.0", hub_key: "k".repeat(43), sign_in_with: [], signup_credits_micro: "0" },
  fee_percent: 5,
};

function answer(status: number, body: unknown, headers: Record<string, string> = {}): HttpResponse {
  const bytes = new TextEncoder().encode(JSON.stringify(body));
  return {
    status,
    header: (name) => headers[name.toLowerCase()],
    body: (async function* () {
      yield bytes;
    })(),
    cancel() {},
    release() {},
  };
}

const refusal = (code: string) => Object.assign(new Error(code), { code });

/** A machine on which everything is well, but for what is given. `hub` answers for its paths; nothing else is there. */
function machine(
  hub: (path: string) => HttpResponse | Error = () => answer(200, CONFIG, { date: new Date().toUTCString() }),
  patch: Partial<Host> = {},
): Host {
  const host = createNodeHost({
    files: createMemoryFiles({ freeBytes: 50 * 2 ** 30 }),
    configDir: "/c",
    stateDir: "/s",
    env: {},
  });
  return {
    ...host,
    async http({ url, socketPath }) {
      const { origin, pathname } = new URL(url);
      if (socketPath !== undefined || origin !== HUB) throw refusal("ECONNREFUSED");
      const answered = hub(pathname);
      if (answered instanceof Error) throw answered;
      return answered;
    },
    run: async () => ({ type: "absent" }),
    ...patch,
  };
}

async function examined(
  host: Host,
  options: { token?: string } = {},
): Promise<{ code: number; checks: Check[] }> {
  let told = "";
  const code = await doctorCommand(
    host,
    { hub: HUB, json: true, ...options },
    {
      line: (text) => {
        told += text;
      },
      error: (text) => {
        throw new Error(text);
      },
    },
  );
  return { code, checks: (JSON.parse(told) as { checks: Check[] }).checks };
}

const of = ({ checks }: { checks: Check[] }, name: string) => checks.filter((check) => check.name === name);

describe("doctor, of the way to the hub", () => {
  it.each<[string, RegExp, RegExp]>([
    ["ENOTFOUND", /its name is not found/, /DNS/],
    ["CERT_HAS_EXPIRED", /certificate has expired/, /set the clock/],
    ["SELF_SIGNED_CERT_IN_CHAIN", /signed by nobody this machine knows/, /NODE_EXTRA_CA_CERTS/],
    ["UNABLE_TO_VERIFY_LEAF_SIGNATURE", /signed by nobody this machine knows/, /NODE_EXTRA_CA_CERTS/],
    ["ERR_TLS_CERT_ALTNAME_INVALID", /for another name/, /own name/],
    ["ETIMEDOUT", /no way to it/, /firewall/],
  ])("names the cause and the cure of %s", async (code, words, cure) => {
    const report = await examined(machine(() => refusal(code)));
    expect(report.code).toBe(1);
    expect(of(report, "hub")).toEqual([
      {
        name: "hub",
        state: "failed",
        words: expect.stringMatching(words),
        cure: expect.stringMatching(cure),
      },
    ]);
  });

  it("tells a proxy that is set where the hub is not reached", async () => {
    const host = machine(() => refusal("ETIMEDOUT"), { env: { HTTPS_PROXY: "http://proxy:3128" } });
    expect(of(await examined(host), "proxy")).toMatchObject([
      { state: "warning", words: expect.stringMatching(/HTTPS_PROXY/) },
    ]);
  });

  it("does not take a log-in page for a hub", async () => {
    const report = await examined(machine(() => answer(200, "<html>")));
    expect(of(report, "hub")).toMatchObject([
      { state: "failed", words: expect.stringMatching(/not as a hub does/) },
    ]);
  });

  it.each<[number, Check["state"]]>([
    [0, "ok"],
    [-120_000, "warning"],
    [90_000, "warning"],
    [7_200_000, "failed"],
  ])("judges a clock that is %d ms off", async (offMs, state) => {
    const date = () => new Date(Date.now() + offMs).toUTCString();
    const report = await examined(machine(() => answer(200, CONFIG, { date: date() })));
    expect(of(report, "clock")).toMatchObject([{ state }]);
  });

  it("sees a hub that has changed its key, a token that is refused, an agent that is old", async () => {
    const host = machine((path) =>
      path.endsWith("/self")
        ? answer(401, { detail: "This API key was revoked" })
        : answer(200, { ...CONFIG, version: "0.10.0" }, { date: new Date().toUTCString() }),
    );
    await createHubRecords(host).put(HUB, { key: "x".repeat(43) });
    const report = await examined(host, { token: "gfe_at_old" });
    expect(of(report, "hub key")).toMatchObject([{ state: "failed" }]);
    expect(of(report, "token")).toMatchObject([
      { state: "failed", words: expect.stringMatching(/was revoked/) },
    ]);
    expect(of(report, "version")).toMatchObject([{ state: "warning" }]);
  });
});

describe("doctor, of the machine", () => {
  it("sees a home that cannot be written, and still says the rest", async () => {
    const host = machine();
    const files = { ...host.files, write: () => Promise.reject(new Error("EROFS: read-only file system")) };
    const report = await examined({ ...host, files });
    expect(of(report, "configuration")).toMatchObject([
      { state: "failed", words: expect.stringMatching(/read-only/) },
    ]);
    expect(of(report, "hub")).toMatchObject([{ state: "ok" }]);
  });

  it.each<[number, Check["state"]]>([
    [50 * 2 ** 30, "ok"],
    [2 ** 30, "warning"],
    [2 ** 20, "failed"],
  ])("judges %d free bytes", async (freeBytes, state) => {
    const host = machine();
    expect(
      of(await examined({ ...host, files: { ...host.files, freeBytes: async () => freeBytes } }), "disk"),
    ).toMatchObject([{ state }]);
  });

  it("sees a driver that fails, and one that hangs", async () => {
    const nvidia = (result: RunResult) =>
      examined(
        machine(undefined, {
          run: async (command) => (command === "nvidia-smi" ? result : { type: "absent" }),
        }),
      );
    const mismatch = "Failed to initialize NVML: Driver/library version mismatch\n";
    expect(of(await nvidia({ type: "ran", exitCode: 18, stdout: mismatch }), "driver")).toMatchObject([
      {
        state: "failed",
        words: expect.stringMatching(/version mismatch$/),
        cure: expect.stringMatching(/reboot/),
      },
    ]);
    expect(of(await nvidia({ type: "timeout" }), "driver")).toMatchObject([{ state: "failed" }]);
  });

  it("sees a runtime that is too old", async () => {
    const report = await examined(
      machine(undefined, { runtime: { name: "Node", version: "20.9.0", least: "24.0.0" } }),
    );
    expect(of(report, "runtime")).toMatchObject([
      { state: "failed", cure: "install Node 24.0.0 or a later one" },
    ]);
  });

  it("tells of a damaged file instead of breaking", async () => {
    const host = machine();
    for (const name of ["hubs", "settings", "node-key"])
      await host.files.write(`/c/${name}.json`, "{", { mode: 0o644 });
    const report = await examined(host);
    expect(report.code).toBe(1);
    for (const name of ["hubs", "settings", "node-key"])
      expect(report.checks.filter(({ words }) => words.includes(`${name}.json is damaged`))).toHaveLength(1);
    // It looks, and changes nothing.
    expect(of(report, "secrets")).toMatchObject([{ state: "warning" }, { state: "warning" }]);
    expect((await host.files.facts("/c/hubs.json"))!.mode).toBe(0o644);
  });
});
