import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { serviceRuns } from "../commands/service.ts";
import type { Host, RunResult } from "../host.ts";
import { createMemoryFiles } from "../memory-files.ts";
import { createNodeHost } from "../node-host.ts";
import type { Program } from "../program.ts";
import { launchAgent, logonTask, systemdUnit } from "./definitions.ts";
import { type Service, ServiceError, serviceOf } from "./service.ts";

const WORDS = [
  "/home/ann/my bin/gfe",
  "up",
  "--plain",
  "--hub",
  "https://hub.example",
  "--name",
  'Ann\'s "big" $GPU 100%',
];
const withoutSystemd = spawnSync("systemd-analyze", ["--version"]).error !== undefined;
if (withoutSystemd)
  console.warn("NOT TESTED: systemd-analyze is absent, so nothing says that the unit is one.");
const UNIT = systemdUnit({ words: WORDS, environmentFile: "/home/ann/.config/gfe/service.env" });

describe("a unit of systemd", () => {
  test("is this text, to the letter", () => {
    expect(UNIT).toBe(`[Unit]
Description=GPU For Everyone: shares this machine's GPU
Wants=network-online.target
After=network-online.target
StartLimitIntervalSec=600
StartLimitBurst=5

[Service]
Type=exec
ExecStart="/home/ann/my bin/gfe" "up" "--plain" "--hub" "https://hub.example" "--name" "Ann's \\"big\\" $$GPU 100%%"
EnvironmentFile=-/home/ann/.config/gfe/service.env
Environment=GFE_SERVICE=systemd
Restart=on-failure
RestartSec=10
KillMode=mixed
TimeoutStopSec=75
Nice=5
UMask=0077
LimitCORE=0
NoNewPrivileges=yes
LockPersonality=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
SystemCallArchitectures=native

[Install]
WantedBy=default.target
`);
  });

  test("takes neither the GPU nor the engines' sandbox away", () => {
    expect(UNIT).not.toMatch(
      /PrivateDevices|DevicePolicy|RestrictNamespaces|MemoryDenyWriteExecute|ProtectSystem/,
    );
  });

  test.skipIf(withoutSystemd)("is one to systemd itself", () => {
    const folder = mkdtempSync(join(tmpdir(), "gfe-unit-"));
    const path = join(folder, "gfe-agent.service");
    const verify = (text: string) => {
      writeFileSync(path, text);
      const env = { ...process.env, XDG_RUNTIME_DIR: folder };
      return spawnSync("systemd-analyze", ["verify", "--user", "--man=no", path], {
        encoding: "utf8",
        env,
        timeout: 20_000,
      });
    };
    const runnable = systemdUnit({
      words: ["/bin/true", ...WORDS.slice(1)],
      environmentFile: join(folder, "my env"),
    });
    const about = (text: string) => text.split("\n").filter((line) => line.includes("gfe-agent.service"));
    expect(about(verify(runnable).stderr)).toEqual([]);
    // It would say so: what is no setting is named.
    expect(about(verify(runnable.replace("LockPersonality", "LockPersonalty")).stderr)).not.toEqual([]);
    rmSync(folder, { recursive: true });
  });
});

test("a LaunchAgent holds each word and the token as text, and starts again only after a failure", () => {
  const plist = launchAgent(["/Applications/g & f/gfe", "up", "--name", "<a>"], {
    GFE_AGENT_TOKEN: "gfe_at_x",
  });
  expect(plist).toContain(`  <key>ProgramArguments</key>
  <array>
    <string>/Applications/g &amp; f/gfe</string>
    <string>up</string>
    <string>--name</string>
    <string>&lt;a&gt;</string>
  </array>
  <key>EnvironmentVariables</key>
  <dict>
    <key>GFE_SERVICE</key>
    <string>launchd</string>
    <key>GFE_AGENT_TOKEN</key>
    <string>gfe_at_x</string>
  </dict>
  <key>RunAtLoad</key>
  <true/>
  <key>KeepAlive</key>
  <dict>
    <key>SuccessfulExit</key>
    <false/>
  </dict>
`);
});

test("a task of Windows starts at this user's log-on with no more rights, and quotes as Windows reads it", () => {
  const task = logonTask(
    ["C:\\g f\\gfe.exe", "up", "--name", 'a "b" & c', "--model-path", "C:\\my models\\"],
    "PC\\ann",
  );
  expect(task).toContain("<Command>C:\\g f\\gfe.exe</Command>");
  expect(task).toContain(
    "<Arguments>up --name &quot;a \\&quot;b\\&quot; &amp; c&quot; --model-path &quot;C:\\my models\\\\&quot;</Arguments>",
  );
  expect(task).toMatch(/<LogonTrigger>\s*<UserId>PC\\ann<\/UserId>/);
  expect(task).toContain("<RunLevel>LeastPrivilege</RunLevel>");
});

interface Machine {
  host: Host;
  ran: string[];
}

/** A machine whose tools answer as told; all is well unless told otherwise. */
function machine(
  platform: string,
  answer: (line: string) => RunResult | undefined = () => undefined,
): Machine {
  const ran: string[] = [];
  const host = createNodeHost({
    ...{ files: createMemoryFiles(), configDir: "/home/ann/.config/gfe", stateDir: "/state" },
    env: { HOME: "/home/ann", USERNAME: "ann", USERDOMAIN: "PC" },
  });
  return {
    ran,
    host: {
      ...host,
      platform,
      async run(command, args) {
        const line = [command, ...args].join(" ");
        ran.push(line);
        return answer(line) ?? { type: "ran", exitCode: 0, stdout: command === "id" ? "501\n" : "" };
      },
    },
  };
}

describe.each(["linux", "darwin", "win32"])("on %s", (platform) => {
  const token = platform === "win32" ? undefined : "gfe_at_secret";

  test("installing writes what it names, and uninstalling removes all of it", async () => {
    const { host, ran } = machine(platform);
    const service = serviceOf(host);
    await service.install(WORDS, token);
    expect(await service.installed()).toBe(true);
    await service.uninstall();
    for (const path of service.paths) expect(await host.files.facts(path)).toBeNull();
    expect(await service.installed()).toBe(false);
    expect(ran.join("\n")).not.toMatch(/sudo|enable-linger|gfe_at_secret/);
  });

  test("the token is for its owner's eyes only", async () => {
    const { host } = machine(platform);
    const service = serviceOf(host);
    await service.install(WORDS, token);
    for (const path of service.paths) {
      const text = new TextDecoder().decode((await host.files.read(path)) ?? new Uint8Array());
      if (text.includes("gfe_at_secret")) expect((await host.files.facts(path))?.mode).toBe(0o600);
    }
  });

  test("a tool that fails is named, with what it was asked", async () => {
    const { host } = machine(platform, (line) =>
      /enable|bootstrap|Create/.test(line) ? { type: "ran", exitCode: 5, stdout: "" } : undefined,
    );
    await expect(serviceOf(host).install(WORDS, undefined)).rejects.toThrow(/failed \(5\): run it by hand/);
  });
});

test("a machine without systemd for users is told before anything is written", async () => {
  for (const result of [{ type: "absent" }, { type: "ran", exitCode: 1, stdout: "" }] as const) {
    const { host } = machine("linux", () => result);
    const service = serviceOf(host);
    await expect(service.install(WORDS, "gfe_at_x")).rejects.toThrow(/no services for users here/);
    for (const path of service.paths) expect(await host.files.facts(path)).toBeNull();
  }
});

test("what could become another setting is refused", async () => {
  const install = (words: string[], token?: string): Promise<void> => {
    const service: Service = serviceOf(machine("linux").host);
    return service.install(words, token);
  };
  await expect(install(["/gfe", "up\nExecStartPre=/bin/x"])).rejects.toThrow(ServiceError);
  await expect(install(WORDS, 'x"\nLD_PRELOAD=/x')).rejects.toThrow("no agent token");
});

test("a Windows task takes no secret, and other systems have no service: both say what to do instead", async () => {
  await expect(serviceOf(machine("win32").host).install(WORDS, "gfe_at_x")).rejects.toThrow(
    /approve it in the browser/,
  );
  expect(() => serviceOf(machine("freebsd").host)).toThrow(/start `gfe up` by what starts programs there/);
});

describe("gfe service", () => {
  const program = (path = "/home/ann/.local/bin/gfe"): Program => ({
    ...{ kind: "executable", command: [path], args: [], target: null },
    replace: async () => {},
    restart: async () => 0,
  });
  async function gfe(
    name: string,
    options: Record<string, unknown> = {},
    { on = machine("linux"), by = program() } = {},
  ) {
    const lines: string[] = [];
    const say = {
      line: (text: string) => void lines.push(text),
      error: (text: string) => void lines.push(text),
    };
    const status = await serviceRuns(by)[`service ${name}`]!(on.host, options, say);
    return { status, text: lines.join("\n"), on };
  }
  const HUB = { hub: "https://hub.example", token: "gfe_at_x", detect: true, engine: [] };

  test("install gives on what `gfe up` is to have, and the token in no word", async () => {
    const { status, text, on } = await gfe("install", {
      ...HUB,
      engine: ["http://a:1", "http://b:2"],
      slots: "2",
      detect: false,
      updates: "auto",
    });
    expect(status, text).toBe(0);
    const [unit, environment] = await Promise.all(
      serviceOf(on.host).paths.map(async (path) =>
        new TextDecoder().decode((await on.host.files.read(path))!),
      ),
    );
    expect(unit).toContain(
      'ExecStart="/home/ann/.local/bin/gfe" "up" "--plain" "--hub" "https://hub.example" "--engine" "http://a:1" "--engine" "http://b:2" "--no-detect" "--slots" "2" "--updates" "auto"\n',
    );
    expect(environment).toBe('GFE_AGENT_TOKEN="gfe_at_x"\n');
    expect(text).toMatch(/loginctl enable-linger/);
    expect(on.ran.some((line) => line.includes("linger"))).toBe(false);
  });

  test.each<[string, Record<string, unknown>, Program, RegExp]>([
    [
      "nobody has approved the machine",
      { ...HUB, token: undefined },
      program(),
      /run `gfe up --hub https:\/\/hub\.example` once/,
    ],
    [
      "npx keeps the program",
      HUB,
      program("/home/ann/.npm/_npx/1/gfe.js"),
      /npm install -g gpu-for-everyone/,
    ],
    [
      "a path would be read from elsewhere",
      { ...HUB, modelPath: "./m.gguf" },
      program(),
      /--model-path: give the whole path/,
    ],
    ["the hub is none", { ...HUB, hub: "http://hub.example" }, program(), /without encryption/],
  ])("install refuses where %s, and writes nothing", async (_what, options, by, words) => {
    const { status, text, on } = await gfe("install", options, { by });
    expect([status, text]).toEqual([1, expect.stringMatching(words)]);
    expect(on.ran).toEqual([]);
  });

  test("status tells a running service from one that fails, and both from none", async () => {
    const shows = (stdout: string) =>
      machine("linux", (line) =>
        line.includes(" show ") ? { type: "ran", exitCode: 0, stdout } : undefined,
      );
    for (const [stdout, status, words] of [
      [
        "ActiveState=active\nSubState=running\nNRestarts=0\nResult=success\n",
        0,
        "The service is active (running).",
      ],
      [
        "ActiveState=failed\nSubState=failed\nNRestarts=5\nResult=exit-code\n",
        3,
        "failed (failed), restarted 5 times, exit-code",
      ],
    ] as const) {
      const on = shows(stdout);
      await gfe("install", HUB, { on });
      const { status: got, text } = await gfe("status", {}, { on });
      expect([got, text]).toEqual([status, expect.stringContaining(words)]);
    }
    for (const name of ["status", "start", "stop", "uninstall"])
      expect(await gfe(name)).toMatchObject({
        status: 3,
        text: expect.stringContaining("gfe service install"),
      });
  });
});
